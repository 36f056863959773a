"""The playground in headless Chromium, end to end against a server in this process."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import shutil
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.csv
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from difflm.client import Client
from difflm.records import fields
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Dress,
    IdentifierField,
    IntegerField,
    JsonField,
    Record,
    RecordSchema,
    TextField,
    read_schema,
)
from difflm.serving.backend import BundleRef, RowsWanted
from difflm.serving.config import ServeConfig, ServedConfig
from difflm.serving.fair_queue import Chunk
from difflm.serving.jobs import Jobs
from difflm.serving.limits import KeyConfig, KeyRing, hash_key
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service
from difflm.synthesis.plans.conditions import parse_condition
from difflm.testing.bundles import StageFolders
from difflm.testing.servers import served
from difflm.testing.tables import mixed_table
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.report.layout import AnswerEntry, FigureEntry, VerdictEntry
from difflm_evaluators.scores.marginals import evaluate_marginals

Open = Callable[..., Page]


class Endless:
    """A backend whose second row never comes; `left` is set once the request is gone."""

    def __init__(self, record: Record) -> None:
        self.record, self.left = record, threading.Event()

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk(rows=[(wanted.start, self.record)], given_up=[])
            await asyncio.Event().wait()
        finally:
            self.left.set()

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        raise NotImplementedError

    async def load(self, bundle: BundleRef) -> None:
        pass


def server(config: ServeConfig, backend: Any, *, ring: KeyRing | None = None) -> AbstractContextManager[str]:
    return served(Service(config, backend, ring=ring))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or put google-chrome on the PATH")
    expect.set_options(timeout=60_000)  # other work on the machine must not fail a test
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(config: ServeConfig, backend: LocalBackend) -> Iterator[str]:
    """A server of one bundle under two names."""
    bundles = [*config.bundles, ServedConfig(name="twin", path=config.bundles[0].path)]
    with server(config.model_copy(update={"bundles": bundles}), backend) as url:
        yield url


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """A function that opens the page; what breaks its security policy, its script or its borders fails the test."""
    pages: list[Page] = []
    wrong: list[str] = []

    def opened(url: str, **options: Any) -> Page:
        page = browser.new_page(**options)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("request", lambda asked: wrong.append(asked.url) if _is_foreign(asked.url) else None)
        page.goto(url)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert wrong == []


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))


def ready(page: Page) -> None:
    expect(page.locator("#draw")).to_be_enabled()


def finished(page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("Finished")


def saved(page: Page, button: str) -> str:
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.path().read_bytes().decode()  # as text, carriage returns inside of cells would be lost


def test_conditions_rows_downloads_and_equivalent_calls(visit: Open, address: str) -> None:
    page = visit(address)
    ready(page)
    page.select_option("#bundle", "twin")
    expect(page.locator("#status")).to_have_text("Ready.")
    page.fill("#n", "40")
    page.fill("#seed", "7")
    page.click("[data-column=age] summary")
    page.fill("[data-column=age] [data-part=from]", "40")
    page.click("[data-column=city] summary")
    page.check("[data-column=city] input[value=Łódź]")
    page.check("[data-column=city] input[value=Oslo]")
    page.select_option("[data-column=city] [data-part=missing]", "too")
    page.click("[data-column=day] summary")
    page.fill("[data-column=day] [data-part=to]", "2022-01-31")
    page.click("[data-column=member] summary")
    page.select_option("[data-column=member] [data-part=is]", "false")
    page.locator("#temperature").press("ArrowLeft")
    page.click("#draw")
    finished(page)

    request = {"n": 40, "bundle": "twin", "seed": 7, "temperature": 0.95}
    words = shlex.split(page.inner_text("#curl"))
    body = json.loads(words[words.index("-d") + 1])
    parts = body.pop("where").split(" and ")
    assert body == {**request, "format": "ndjson"}
    (cities,) = [part for part in parts if part.startswith("(city in [") and part.endswith("] or city is null)")]
    assert {*parts} - {cities} == {"age >= 40", 'day <= "2022-01-31"', "member == false"}
    exec(page.inner_text("#python"), called := dict[str, Any]())
    rows = called["rows"]
    assert 0 < len(rows) <= 40
    assert all(row["age"] >= 40 and row["city"] in ("Oslo", "Łódź", None) and row["member"] == "FALSE" for row in rows)

    shown = page.locator("#body tr").evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText))")
    assert [cells[0] for cells in shown] == [str(row["age"]) for row in rows]
    assert page.locator("#head th").all_inner_texts() == list(rows[0])
    assert json.loads(saved(page, "#json")) == rows
    with Client(address) as client:
        condition = " and ".join(parts)
        expected = client.file(
            40, format="csv", where=condition, bundle="twin", seed=7, temperature=0.95, safe_csv=True
        )
    found = saved(page, "#csv").encode()
    assert pyarrow.csv.read_csv(io.BytesIO(found)) == pyarrow.csv.read_csv(io.BytesIO(expected))
    label = page.locator("[data-column=city] .bars li", has_text="Oslo").locator(".shares")
    share = sum(row["city"] == "Oslo" for row in rows) / len(rows)
    expect(label).to_contain_text(f"{100 * share:.1f} %")
    expect(page.locator("#quality")).to_contain_text("without an evaluation")


def test_real_distributions_lie_under_those_of_the_rows(visit: Open, address: str, tiny_stages: StageFolders) -> None:
    columns = read_columns(mixed_table(80), read_schema(tiny_stages.bundle), "real")
    details = evaluate_marginals(columns, columns, None).details
    answer = {"report": {"evaluations": [{"name": "marginals", "details": details}]}}
    page = visit("about:blank")
    page.route("**/v1/quality*", lambda route: route.fulfill(json=answer))
    page.goto(address)
    ready(page)
    page.fill("#n", "30")
    page.click("#draw")
    finished(page)
    names = ["age", "wage", "city", "day", "member", "note", "label"]
    assert page.locator("figure").evaluate_all("all => all.map(one => one.dataset.column)") == names
    for name in names:
        figure = page.locator(f"figure[data-column={name}]")
        expect(figure.locator(".real").first).to_be_attached()
        expect(figure.locator("figcaption")).to_contain_text("% apart")
    # wages of the real rows, binned by the page, are what the report counted
    tally = page.evaluate(
        """async ([details, values]) => {
          const { talliesOf } = await import("/playground/distributions.js");
          const field = { kind: "decimal", name: "wage", nullable: false, missing_share: 0 };
          const [tally] = talliesOf([field], new Map([["wage", details.columns[1].picture]]));
          values.forEach((value) => tally.count(value));
          return [tally.counts, tally.real.map((share) => Math.round(80 * share))];
        }""",
        [details, columns["wage"].numbers_N.tolist()],
    )
    assert tally[0] == tally[1]


VERDICT = VerdictEntry(
    answers=(
        AnswerEntry(
            question="faithful",
            colour="amber",
            word="partly",
            sentence="A detector finds some <b>difference</b>.",
            figures=(
                FigureEntry(score="c2st_auc", title="C2ST", value=0.61, baseline=0.5, text="0.610", beside="0.500"),
            ),
        ),
        AnswerEntry(question="useful", colour="grey", word="not measured", sentence="No target.", figures=()),
        AnswerEntry(
            question="private", colour="green", word="nothing found", sentence="No test found any.", figures=()
        ),
    ),
    worst="faithful",
    advice=("Train longer.",),
)


@pytest.mark.parametrize(
    "report",
    [
        {"verdict": {"answers": 5}},
        {"verdict": {"answers": [{"question": "private"}]}, "evaluations": [None]},
        {"evaluations": 5},
        None,
        {"evaluations": [{"name": "marginals", "details": {"columns": [None]}}]},
        {"evaluations": [{"name": "marginals", "details": {"columns": [{"name": "city", "picture": {"bars": 5}}]}}]},
    ],
)
def test_an_evaluation_of_no_form_keeps_no_rows_from_being_drawn(visit: Open, address: str, report: Any) -> None:
    """It comes with a stranger's bundle; the page told a TypeError in place of the bundle."""
    page = visit("about:blank")
    page.route("**/v1/quality*", lambda route: route.fulfill(json={"report": report}))
    page.goto(address)
    ready(page)
    expect(page.locator("#quality")).to_contain_text("without an evaluation")
    page.fill("#n", "3")
    page.click("#draw")
    finished(page)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_verdict_of_the_evaluation_is_shown(visit: Open, address: str, width: int, scheme: Any) -> None:
    judged = {"report": {"evaluations": [], "verdict": VERDICT.model_dump(mode="json")}}
    page = visit("about:blank", viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.route("**/v1/quality?bundle=tiny", lambda route: route.fulfill(json=judged))
    page.goto(address)
    ready(page)
    answers = page.locator("#verdict .answer")
    expect(answers).to_have_count(3)
    expect(answers.nth(0)).to_contain_text("Faithful: are the rows like real ones?")
    expect(answers.nth(0)).to_contain_text("some <b>difference</b>")  # as text, whatever a report says
    expect(answers.nth(0)).to_contain_text("0.610 beside 0.500")
    colours = answers.locator(".word").evaluate_all("all => all.map(one => getComputedStyle(one).color)")
    assert len(set(colours)) == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.select_option("#bundle", "twin")  # came without one
    expect(page.locator("#verdict-section")).to_be_hidden()


def test_problems_stand_beside_the_field_that_they_name(visit: Open, address: str) -> None:
    page = visit(address)
    ready(page)
    for field, value, message in (("n", "501", "500 are the most"), ("seed", "x", "valid integer")):
        before = page.input_value(f"#{field}")
        page.fill(f"#{field}", value)
        page.press(f"#{field}", "Enter")
        expect(page.locator(f"#{field}-error")).to_contain_text(message)
        expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        page.fill(f"#{field}", before)
    page.click("[data-column=age] summary")
    page.fill("[data-column=age] [data-part=from]", "50")
    page.fill("[data-column=age] [data-part=to]", "40")
    page.click("#draw")
    expect(page.locator("[data-column=age] .error")).to_contain_text("no value of 'age'")
    expect(page.locator("#seed-error")).to_be_hidden()


def test_only_the_chosen_columns_are_drawn(visit: Open, address: str) -> None:
    page = visit(address)
    ready(page)
    page.click("#columns-details summary")
    names = page.locator("#columns input").evaluate_all("all => all.map(one => one.value)")
    for name in names:
        page.uncheck(f"#columns input[value={name}]")
    page.click("#draw")
    expect(page.locator("#columns-error")).to_contain_text("at least 1 item")
    for name in ("city", "age"):
        page.check(f"#columns input[value={name}]")
    page.fill("#n", "5")
    page.click("#draw")
    finished(page)
    assert page.locator("#head th").all_inner_texts() == ["age", "city"]
    assert page.locator("figure").evaluate_all("all => all.map(one => one.dataset.column)") == ["age", "city"]
    assert 'columns=["age","city"]' in page.inner_text("#python")
    assert all([*row] == ["age", "city"] for row in json.loads(saved(page, "#json")))


KINDS = get_args(get_args(fields.Field)[0])
PLAIN: dict[str, Any] = {"nullable": True, "missing_share": 0.1}
EVERY_KIND = RecordSchema(
    row_count=100,
    fields=(
        IntegerField(name="n", minimum=0, maximum=99, median=9, distinct=50, points=(-999,), words=("n/d",), **PLAIN),
        DecimalField(
            name="price", minimum=-5.0, maximum=5000.0, median=9.0, distinct=50, decimals=2,
            dress=Dress(prefix="$", group=",", negative="parentheses", places=2), **PLAIN,
        ),
        IntegerField(
            name="lap", minimum=60, maximum=7200, median=90, distinct=50, dress=Dress(clock="h:mm:ss"), **PLAIN
        ),
        CategoricalField(name="size", values=("1", "2", "3"), counts=(5, 5, 5), ordered=True, **PLAIN),
        CategoricalField(name="city", values=("Oslo", "Rome"), counts=(9, 6), **PLAIN),
        BooleanField(name="member", true_text="yes", false_text="no", counts=(9, 6), **PLAIN),
        DatetimeField(
            name="day", format="%Y-%m-%d", others=("%d.%m.%Y",), minimum="2020-01-01", maximum="2024-12-31",
            words=("never",), points=("9999-12-31",), **PLAIN,
        ),
        TextField(name="note", max_characters=9, mean_characters=3.0, **PLAIN),
        CodeField(name="plate", shapes=(("AB", "-", "01"),), **PLAIN),
        IdentifierField(name="id", start=1),
        JsonField(name="parameters", json_schema={"type": "array"}, max_characters=9),
        ConstantField(name="country", value="NO"),
    ),
)  # fmt: skip
ROW = {
    "n": "7", "price": "$1,234.50", "lap": "1:02:03", "size": "2", "city": "Oslo", "member": "yes", "day": "31.12.2023",
    "note": "hm", "plate": "A-0", "id": 1, "parameters": "[]", "country": "NO",
}  # fmt: skip
WORDS = {**dict.fromkeys(ROW), "n": "n/d", "price": "($4.00)", "day": "never", "id": 2, "parameters": "[]"}


def test_every_kind_of_column_has_what_it_takes_and_is_drawn(visit: Open, address: str) -> None:
    assert {field.kind for field in EVERY_KIND.fields} == {kind.model_fields["kind"].default for kind in KINDS}
    page = visit("about:blank")
    schema = {"bundle": "tiny", "version": "v", "schema": EVERY_KIND.model_dump(mode="json")}
    lines = "".join(json.dumps(row) + "\n" for row in (ROW, WORDS))
    page.route("**/v1/schema*", lambda route: route.fulfill(json=schema))
    page.route(
        "**/v1/quality*", lambda route: route.fulfill(status=404, json={"error": {"message": "", "field": None}})
    )
    page.route("**/v1/samples", lambda route: route.fulfill(body=lines, content_type="application/x-ndjson"))
    page.goto(address)
    ready(page)
    for field in EVERY_KIND.fields:
        column = page.locator(f"[data-column={field.name}]")
        column.locator("summary").click()
        expect(column.locator(".inside :is(input, select, .hint)").first).to_be_visible()
        assert (column.locator("[data-part=missing]").count() == 1) == field.nullable
    expect(page.locator("[data-column=n] .kind")).to_have_text("0 to 99, -999, n/d")
    expect(page.locator("[data-column=plate] .kind")).to_have_text("such as A-0")
    page.fill("[data-column=n] [data-part=from]", "5")
    page.check("[data-column=n] [data-part=beside][value='n/d']")
    page.check("[data-column=n] [data-part=beside][value='-999']")
    page.fill("[data-column=price] [data-part=to]", "$2,000")
    page.fill("[data-column=lap] [data-part=from]", "60")
    page.select_option("[data-column=size] [data-part=from]", "2")
    page.check("[data-column=day] [data-part=beside][value=never]")
    page.select_option("[data-column=plate] [data-part=missing]", "never")
    page.select_option("[data-column=note] [data-part=missing]", "only")
    page.click("#draw")
    finished(page)
    words = shlex.split(page.inner_text("#curl"))
    where = json.loads(words[words.index("-d") + 1])["where"]
    assert where == (
        '(n >= 5 or n in [-999, "n/d"]) and price <= "$2,000" and lap >= 60 and size >= "2" and day == "never" '
        "and note is null and plate is not null"
    )
    assert {*parse_condition(where, EVERY_KIND).allowed} == {"n", "price", "lap", "size", "day", "note", "plate"}
    assert json.loads(saved(page, "#json")) == [ROW, WORDS]
    drawn = page.locator("figure").evaluate_all("all => all.map(one => one.dataset.column)")
    assert drawn == ["n", "price", "lap", "size", "city", "member", "day", "note", "parameters"]
    expect(page.locator("figure[data-column=n]")).to_contain_text("words beside: 50 %")
    counted = page.evaluate(
        """async ([fields, rows]) => {
          const { talliesOf } = await import("/playground/distributions.js");
          return talliesOf(fields, new Map()).map((tally) => {
            rows.forEach((row) => tally.count(row[tally.name]));
            const counts = tally.counts ?? tally.bars.map(({ count }) => count);
            return [tally.name, counts.reduce((sum, count) => sum + count, 0)];
          });
        }""",
        [schema["schema"]["fields"], [ROW, WORDS]],
    )
    inside = {"n": 1, "price": 2, "lap": 1, "size": 2, "city": 2, "member": 2, "day": 1, "note": 1, "parameters": 2}
    assert dict(counted) == inside


class Files(Jobs):
    """Jobs that are finished as soon as the test says so, without a process."""

    async def _run(self, name: str) -> None:
        self.began.set()
        await asyncio.to_thread(self.going.wait)
        self._files.data(name, self._specs[name]).write_text('{"age": 3}\n')

    began, going = threading.Event(), threading.Event()


def test_more_rows_than_one_answer_holds_are_a_job_that_can_be_cancelled_or_saved(
    visit: Open, config: ServeConfig, backend: LocalBackend, tmp_path: Path
) -> None:
    jobs = Files(tmp_path / "jobs", most=2)
    with served(Service(config, backend, jobs=jobs)) as url:
        page = visit(url)
        ready(page)
        page.fill("#n", "501")
        page.click("#draw")
        expect(page.locator("#status")).to_contain_text("job, which is")
        assert jobs.began.wait(20)
        page.click("#stop")
        jobs.going.set()
        expect(page.locator("#status")).to_contain_text("The job is cancelled.")
        assert not any((tmp_path / "jobs").iterdir())
        page.click("#draw")
        finished(page)
        assert saved(page, "#job-data") == '{"age": 3}\n'


def test_stopping_frees_the_place_and_focus_stays_on_the_button(
    visit: Open, config: ServeConfig, offline: Callable[..., Any]
) -> None:
    endless = Endless(offline(range(1), seed=1)[0][1])
    with server(config, endless) as url:
        page = visit(url)
        ready(page)
        page.focus("#draw")
        page.keyboard.press("Enter")
        expect(page.locator("#count")).to_have_text("1 of 100 rows")
        expect(page.locator("#stop")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("Stopped after 1 rows")
        assert endless.left.wait(20)
        expect(page.locator("#draw")).to_be_focused()
        expect(page.locator("#body tr")).to_have_count(1)


def test_a_key_is_asked_for_and_kept_nowhere(visit: Open, config: ServeConfig, backend: LocalBackend) -> None:
    ring = KeyRing([KeyConfig(name="alice", sha256=hash_key("difflm_secret"))], lambda: 0.0)
    with server(config, backend, ring=ring) as url:
        page = visit(url)
        expect(page.locator("#authorization-error")).to_contain_text("give a key")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type("difflm_secret")
        page.keyboard.press("Enter")
        ready(page)
        page.fill("#n", "3")
        page.click("#draw")
        finished(page)
        assert "$DIFFLM_KEY" in page.inner_text("#curl")
        assert "difflm_secret" not in page.content()
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_every_control_has_a_name_and_the_page_fits(visit: Open, address: str, width: int, scheme: Any) -> None:
    page = visit(address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    ready(page)
    for summary in page.locator("summary").all():
        summary.click()
    nameless = """all => all.filter(one => !(one.ariaLabel || one.labels?.length || one.innerText.trim()))
      .map(one => one.outerHTML)"""
    assert page.locator("input, select, button, progress").evaluate_all(nameless) == []
    broken = "all => all.filter(one => !document.getElementById(one.getAttribute('aria-describedby').split(' ')[0]))"
    assert page.locator("[aria-describedby]").evaluate_all(broken) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128")
    assert light == (scheme == "light")
