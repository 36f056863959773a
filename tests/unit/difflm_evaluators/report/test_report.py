"""The report's files: complete, self-contained, escaped, and drawn from numbers alone."""

import errno
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError, EvaluationError, StorageError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Score
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.privacy.membership import MembershipConfig
from difflm_evaluators.privacy.privacy import PrivacyConfig
from difflm_evaluators.report import pictures as report_pictures
from difflm_evaluators.report.html import judge_rows
from difflm_evaluators.report.layout import JudgeEntry, PublishedScore, ReportContext, ScoreEntry
from difflm_evaluators.report.plots import bars, curves
from difflm_evaluators.report.rendering import markdown_cell
from difflm_evaluators.report.report import Report, write_report
from difflm_evaluators.report.rows import baseline_text, interval_text, value_text
from difflm_evaluators.scores.detection import DetectionConfig
from difflm_evaluators.scores.fidelity import FidelityConfig
from difflm_evaluators.scores.projection import ProjectionConfig
from difflm_evaluators.scores.utility import UtilityConfig
from difflm_evaluators.scores.validity import SynthesisAccount

CONFIG = EvaluationConfig(
    detection=DetectionConfig(seeds=(0,), threads=1),
    fidelity=FidelityConfig(threads=1),
    utility=UtilityConfig(seeds=(0, 1), threads=1),
    privacy=PrivacyConfig(threads=1, show_nearest=True),
    membership=MembershipConfig(threads=1),
    projection=ProjectionConfig(max_points=100),
)
LIGHT = EvaluationConfig(
    detection=None, fidelity=None, utility=None, privacy=None, membership=None, attacks=None, projection=None
)
CONTEXT = ReportContext(
    title="Members & <friends>",
    settings={"sampling": {"temperature": 1.0, "steps": [1, 2]}, "seed": 3},
    loss_curves={
        "train_autoencoder": [
            {"kind": "train", "step": 10, "loss": 5.0},
            {"kind": "train", "step": 20, "loss": 0.1},
            {"kind": "validation", "step": 20, "loss": 0.2, "metrics": {"kl": 1.0}},
            {"kind": "checkpoint", "step": 20},
            {"kind": "train", "step": 30, "loss": float("nan")},
        ],
        "empty_stage": [],
    },
    timings={"prepare": 1.25},
    published=[PublishedScore(method="Peer|1", score="shape_error", value=0.58, source="its own paper, Table 1")],
    environment={"versions": {"difflm": "0.1"}},
    judge=JudgeEntry(
        title="tickets",
        protocol="rubric",
        model="<model>",
        complete=False,
        questions=4,
        answered=3,
        scores=(
            ScoreEntry(
                name="realism",
                title="Realism",
                meaning="m",
                value=7.5,
                direction="higher",
                unit="",
                bounds=(0, 10),
                ideal=10,
                standard_error=0.25,
                interval=None,
                baseline=8.0,
                baseline_label="real records",
                undefined_because=None,
                warning="1 of 4 records | has no answer",
            ),
        ),
    ),
)


@pytest.fixture(scope="module")
def report(train: pa.Table, test: pa.Table, schema: RecordSchema) -> Report:
    account = SynthesisAccount(rows_asked=300, rows_emitted=300, attempts=310, rejections={"range": 10})
    splits = RealSplits(train=train, test=test, validation=test.slice(0, 100))
    return evaluate_table(test, splits, schema, CONFIG, account=account)


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "deep" / "er"
    write_report(report, directory, context=CONTEXT)
    return directory


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data") and value:
                self.links.append(value)

    def handle_data(self, data: str) -> None:
        self.words += data


def test_all_files_are_there_and_the_json_is_strict(written: Path, report: Report) -> None:
    loaded = json.loads((written / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert loaded["schema_version"] == 2
    assert loaded["title"] == CONTEXT.title
    assert loaded["published"][0]["source"] == "its own paper, Table 1"
    assert not list(written.rglob(".*"))
    pictures = sorted(path.stem for path in (written / "pictures").iterdir())
    assert len([name for name in pictures if name.startswith("column-")]) == len(report.columns)
    fixed = {"associations-real", "associations-difference", "map-real", "map-synthetic", "roc"}
    fixed |= {"pairs-error", "pairs-baseline", "fidelity-precision", "fidelity-recall", "distances", "worst-columns"}
    assert {*fixed, "training-1"} <= set(pictures)
    for path in (written / "pictures").iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_page_needs_nothing_from_outside_and_its_ids_are_unique(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert all(link.startswith(("#", "data:")) for link in page.links), page.links
    assert not re.search(r"url\((?!#)", text)
    assert not [name for name, count in Counter(page.ids).items() if count > 1]
    for reference in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text):
        assert "".join(reference) in page.ids


def test_names_and_titles_from_the_data_are_escaped(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "<friends>" not in text
    assert "&lt;friends&gt;" in text
    assert "<d>" not in text  # a category of the table holds it
    assert "&lt;d&gt;" in text
    assert "Peer\\|1" in (written / "report.md").read_text(encoding="utf-8")


def test_the_page_shows_every_score_with_its_baseline_and_the_sections_in_order(written: Path, report: Report) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    words = _Page(text).words
    for score in report.scores:
        assert score.title in words
        assert (value_text(score) if score.value is not None else score.undefined_because) in words
        assert interval_text(score) in words
        assert baseline_text(score) in words
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Each column",
        "Pairs of columns",
        "Typical rows and covered rows",
        "Map of the rows",
        "Privacy",
        "A language model's grades",
        "Where it is worst",
        "All columns",
        "Training",
        "Published figures",
        "Timings and settings",
    ]
    assert "sampling.temperature" in words
    assert "its own paper, Table 1" in words
    assert "7.500 ± 0.25" in words
    assert "8.000 (real records)" in words
    assert "3 of 4 questions answered. Stopped before the end." in " ".join(words.split())
    assert "Warning. 1 of 4 records | has no answer" in words
    assert "versions.difflm" in words
    assert "last training loss 0.1, last validation loss 0.2" in words


def test_the_worst_columns_and_pairs_say_what_differs_most_in_every_file(written: Path, report: Report) -> None:
    page = _Page((written / "report.html").read_text(encoding="utf-8")).words
    markdown = (written / "report.md").read_text(encoding="utf-8")
    loaded = json.loads((written / "report.json").read_text(encoding="utf-8"))
    (breakdown,) = (part["details"] for part in loaded["evaluations"] if part["name"] == "breakdown")
    for worst, kept in ((report.worst_columns, "columns"), (report.worst_pairs, "pairs")):
        assert len(worst) == len(breakdown[kept]) > 0
        for row, stored in zip(worst, breakdown[kept], strict=True):
            assert row["text"] in page
            assert row["difference"] == stored["difference"]
            assert markdown_cell(row["text"]) in markdown


def test_a_table_like_the_real_one_has_no_worst_column(train: pa.Table, schema: RecordSchema, tmp_path: Path) -> None:
    report = evaluate_table(train, RealSplits(train=train), schema, LIGHT)
    write_report(report, tmp_path, context=ReportContext(title="same"))
    assert "No column differs from the real one." in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "pictures" / "worst-columns.svg").exists()


def test_colours_come_from_the_page_so_that_dark_mode_is_legible(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "currentColor" in svgs
    assert "var(--real)" in svgs
    assert "#1d2733" not in svgs
    assert "prefers-color-scheme: dark" in text


def test_the_same_report_gives_the_same_bytes(written: Path, report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path, context=CONTEXT)
    for path in written.rglob("*.*"):
        assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name


def test_a_table_with_odd_names_many_columns_and_undefined_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_pictures, "MAX_COLUMN_PICTURES", 7)
    random = np.random.default_rng(0)
    names = ["$x^2$", "a|b", "<i>", "tab\tname", "very long " * 20, *(f"n{number}" for number in range(45))]
    table = pa.table({name: random.normal(size=20).round(3) for name in names})
    report = evaluate_table(table, RealSplits(train=table), infer_schema(table), LIGHT)
    write_report(report, tmp_path, context=ReportContext(title="wide"))
    assert len(list((tmp_path / "pictures").glob("column-*.svg"))) == 7
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "43 columns with the smallest errors are not drawn" in text
    assert "<i>" not in re.sub(r'<i class="[a-z]+">', "", text)
    constant = pa.table({"c": [1, 1, 1]})
    report = evaluate_table(constant, RealSplits(train=constant), infer_schema(constant), CONFIG)
    write_report(report, tmp_path, context=ReportContext(title="undefined"))
    assert "the schema names no target column" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_texts_of_the_data_are_no_links_or_images_in_markdown() -> None:
    assert markdown_cell("![x](https://a/p.png)") == "!\\[x\\](https://a/p.png)"
    assert markdown_cell("a\r# `b` *c*|_d_ <i>\\") == "a # \\`b\\` \\*c\\*\\|\\_d\\_ &lt;i>\\\\"


def test_a_judges_scores_are_in_the_markdown_too(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    assert "&lt;model>, protocol rubric: 3 of 4 questions answered. Stopped before the end. tickets" in text
    assert "**Warning:** 1 of 4 records \\| has no answer" in text
    assert "| Realism | 7.500 ± 0.25 | 8.000 (real records) | m |" in text


def test_a_judge_without_a_score_says_why_in_a_cell_that_wraps() -> None:
    assert CONTEXT.judge is not None
    nothing = CONTEXT.judge.scores[0].model_copy(
        update={"value": None, "standard_error": None, "baseline": None, "undefined_because": "nobody answered"}
    )
    (row,) = judge_rows(CONTEXT.judge.model_copy(update={"scores": (nothing,)}))
    assert (row["value"], row["beside"], row["defined"]) == ("undefined: nobody answered", "–", False)


def test_names_in_any_script_are_drawn_without_a_warning() -> None:
    assert "名前" in bars(["名前", "اسم"], [0.5, 0.5], [0.4, 0.6])  # as text, in a font of the reader's


def test_copied_rows_are_warned_of_in_every_file(
    train: pa.Table, test: pa.Table, schema: RecordSchema, tmp_path: Path
) -> None:
    privacy, membership = PrivacyConfig(threads=1), MembershipConfig(threads=1)
    config = LIGHT.model_copy(update={"privacy": privacy, "membership": membership})
    copied = evaluate_table(train, RealSplits(train=train, test=test), schema, config)
    write_report(copied, tmp_path, context=ReportContext(title="copies"))
    assert len(copied.warnings) == 2  # copies, and what an attack makes of them
    for warning in copied.warnings:
        assert f"**Warning:** {warning}" in (tmp_path / "report.md").read_text(encoding="utf-8")
        assert f"<strong>Warning.</strong> {warning}" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert warning in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_a_published_figure_without_a_source_is_refused(report: Report, tmp_path: Path) -> None:
    for source, value in ((" ", 1.0), ("a paper", float("nan"))):
        row = PublishedScore(method="Peer", score="shape_error", value=value, source=source)
        with pytest.raises(EvaluationError, match="name its source"):
            write_report(report, tmp_path, context=ReportContext(title="t", published=[row]))
    with pytest.raises(EvaluationError, match="not JSON"):
        write_report(report, tmp_path, context=ReportContext(title="t", timings={"prepare": float("inf")}))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_a_storage_error(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot write the report"):
        write_report(report, tmp_path / "file", context=ReportContext(title="t"))


def test_a_disk_that_fills_up_leaves_no_half_file(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left for writing"):
        write_report(report, tmp_path / "out", context=ReportContext(title="t"))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_log_axes_have_plain_numbers() -> None:
    svg = curves({"training": [(1.0, 1000.0), (2.0, 0.1)]}, label="loss", logarithmic=True)
    assert "mathdefault" not in svg
    assert ">1000<" in svg


def test_values_are_written_with_their_error_or_their_reason() -> None:
    base = {"name": "s", "title": "S", "meaning": "m", "direction": "lower"}
    assert value_text(Score(**base, value=1.2345, unit="%")) == "1.23 %"  # type: ignore[arg-type]
    assert value_text(Score(**base, value=0.91234, standard_error=0.00123)) == "0.912 ± 0.0012"  # type: ignore[arg-type]
    share = Score(**base, value=1.5, unit="%", standard_error=0.25, interval=(1.01, 1.99))  # type: ignore[arg-type]
    assert value_text(share) == "1.500 ± 0.25 %"
    assert interval_text(share) == "95 % confidence: 1.010 to 1.990 %"
    assert interval_text(Score(**base, value=1.0)) == ""  # type: ignore[arg-type]
    assert value_text(Score(**base, value=None, undefined_because="no rows")) == "undefined: no rows"  # type: ignore[arg-type]
    assert baseline_text(Score(**base, value=1.0)) == "–"  # type: ignore[arg-type]


@pytest.mark.parametrize("details", [{"columns": 5}, {"columns": [["a"]]}, {"pairs": {"a": None}}])
def test_details_of_another_form_name_the_file_that_was_read(
    written: Path, tmp_path: Path, details: dict[str, object]
) -> None:
    """Whoever made a report.json wrote them, and whatever shows them looks into them."""
    facts = json.loads((written / "report.json").read_text("utf-8"))
    for evaluation in facts["evaluations"]:
        evaluation["details"] = details
    (tmp_path / "report.json").write_text(json.dumps(facts))
    report = Report.read(tmp_path)
    said = r"report\.json: the details of its scores are of another form .*; evaluate the table again"
    with pytest.raises(DataError, match=said):
        report.save(tmp_path / "report.html")
    for show in (report.__repr__, report._repr_html_, lambda: report.worst_pairs):
        with suppress(DataError):
            show()
