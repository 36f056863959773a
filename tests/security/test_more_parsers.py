"""More of what is read from outside: tables, judges' replies, reports, chains of configurations, folders of jobs."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import json
import random
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from difflm.artifacts.manifest import REPORT_KIND
from difflm.artifacts.store import ArtifactStore
from difflm.errors import BundleError, ConfigError, DataError, DiffLMError, StorageError
from difflm.records.files.reading import ReadConfig, canonical_table, read_table, unique_names
from difflm.records.frames.frames import TEMPLATE_NAME, FrameTemplate
from difflm.runtime.shard_actor import _own
from difflm.serving.backend import BundleRef
from difflm.serving.config import ServeConfig, ServedConfig
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.registry import Registry
from difflm.synthesis.bundle_files import ALLOW_LOCAL, check_base, write_hashes
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.saved_sampling import SAMPLING_NAME, read_sampling
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.telemetry import read_events
from difflm.testing.bundles import StageFolders
from difflm_evaluators.judge.answers import AnswerLog
from difflm_evaluators.judge.client import Reply
from difflm_evaluators.judge.reading import NotReadable, read_reply
from difflm_evaluators.judge.report import JUDGE_FILE, read_judgement
from difflm_evaluators.live.gates import parse_gate
from difflm_evaluators.report.layout import read_report
from difflm_jobs.api import load
from difflm_jobs.cli.inspection import inspected
from difflm_jobs.inputs.arff import arff_to_csv
from difflm_jobs.inputs.databases import write_table
from difflm_jobs.loading import read_settings

DEEP = "[" * 5000
HUGE = 10**400


def failure(kind: type[Exception] | tuple[type[Exception], ...], call: Callable[[], object]) -> str | None:
    """What an error of this kind says, None where there is none; another exception fails the test."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


def seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


quickly = settings(max_examples=80, suppress_health_check=[*HealthCheck], deadline=None)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(HUGE)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "../../etc/passwd", "\0", "-1", "\ud800", "1e999"])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8
)

CELLS = ["a", "1", '"', '""', "'", ",", ";", "\t", "|", "\n", "\r\n", "\r", " ", "\0", "\ufeff", "é", "=1", "NaN", "\\"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parsers")


@given(text=st.lists(st.sampled_from(CELLS), max_size=40).map("".join), raw=st.binary(max_size=80))
@example(text='"' + "a" * 100_000, raw=b"\x1f\x8b")
@quickly
def test_delimited_tables(folder: Path, text: str, raw: bytes) -> None:
    for content in (text.encode(), raw, b"a,b\n" + raw, text.encode("utf-16")):
        for kind in ("csv", "tsv", "txt"):
            path = folder / f"x.{kind}"
            path.write_bytes(content)
            said = failure(DataError, partial(read_table, path))
            assert said is None or str(path) in said
            zipped = folder / f"x.{kind}.gz"
            zipped.write_bytes(content if len(content) % 2 else gzip.compress(content))
            failure(DataError, partial(read_table, zipped))


def test_columns_that_are_all_called_the_same_are_named_in_linear_time(folder: Path) -> None:
    """Each was counted up from the first: 200 KB took minutes."""
    path = folder / "same.csv"
    path.write_text("a," * 3_000 + "\n" + "1," * 3_000)
    assert seconds(lambda: read_table(path)) < 20.0
    assert unique_names(["a"] * 100_000)[-1] == "a_100000"
    assert unique_names(["a", "a", "a_2", "a", "a_2"]) == ["a", "a_3", "a_2", "a_4", "a_2_2"]


ODD_TABLES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a long cell after a blank": (b'a, "b"\n1, "' + b"x" * 200_000 + b'"\n', {}),
    "sep=": ("sep=é\naéb\n1é2\n".encode(), {}),
    "delimiter": (b"a,b\n1,2\n", {"delimiter": "é"}),
    "zero": (b"a,b\n1,2\n", {"delimiter": "\0"}),
    "quote": (b"a,b\n1,2\n", {"delimiter": '"'}),
    "skip": (b"a,b\n1,2\n", {"skip": 2**32}),
    "punycode": (b"a,b\n1,2\n", {"encoding": "punycode"}),
    "idna": (b"a,b\n1,2\n", {"encoding": "idna"}),
    "zero in a name": (b"a,b\n1,2\n", {"encoding": "ascii\0"}),
    "header": (b"1,2\n", {"header": ()}),
}


@pytest.mark.parametrize("name", ODD_TABLES)
def test_odd_tables_and_odd_settings_are_named(folder: Path, name: str) -> None:
    content, given = ODD_TABLES[name]
    path = folder / "odd.csv"
    path.write_bytes(content)
    said = failure((DataError, ConfigError), lambda: read_table(path, ReadConfig(**given)))
    assert said is None or (str(path) in said or said.split(":")[0] in given)
    assert said is None or "\n" not in said
    assert (said is None) == (name == "a long cell after a blank")


@given(rows=st.lists(values, max_size=4), keyed=st.lists(st.dictionaries(st.sampled_from("ab"), values), max_size=4))
@example(rows=[], keyed=[{"a": HUGE}, {"a": 0.5}])
@example(rows=[], keyed=[{"a": -HUGE}, {"a": True}])
@example(rows=[{"\ud800": 1}], keyed=[{"a": ["\ud800"]}, {"a": "\ud800"}])
@quickly
def test_tables_of_json(folder: Path, rows: list[Any], keyed: list[dict[str, Any]]) -> None:
    for found in (rows, keyed):
        path = folder / "x.jsonl"
        path.write_text("\n".join(map(json.dumps, found)))
        failure(DataError, partial(read_table, path))
        for document in (found, {str(place): row for place, row in enumerate(found)}):
            path = folder / "x.json"
            path.write_text(json.dumps(document))
            failure(DataError, partial(read_table, path))


def _listed(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), values)


WHOLE = pa.array([0, 1], pa.int64())
FAR = pa.array([2**62, 0], pa.int64())
ODD_COLUMNS = {
    "time zone": WHOLE.view(pa.timestamp("us", "Not/AZone")),
    "time zones in lists": _listed(WHOLE.view(pa.timestamp("us", "Not/AZone"))),
    "times of no year": _listed(FAR.view(pa.timestamp("us"))),
    "dates of no year": _listed(pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32())),
    "long durations": _listed(FAR.view(pa.duration("s"))),
    "a key twice": pa.StructArray.from_arrays([WHOLE, WHOLE], names=["a", "a"]),
    "bytes of a dictionary": pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([b"\xff", b"b"])),
    "the end of time": _listed(pa.array([2**63 - 1, 0], pa.int64()).view(pa.timestamp("ns", "+01:00"))),
}


@pytest.mark.parametrize("name", ODD_COLUMNS)
def test_typed_values_that_nothing_can_spell_are_named(folder: Path, name: str) -> None:
    path, table = folder / "odd.parquet", pa.table({"k": [1, 2], "x": ODD_COLUMNS[name]})
    pq.write_table(table, path)
    for read, place in ((lambda: read_table(path), str(path)), (lambda: arrow_frame(table), "table")):
        said = failure(DataError, read)
        assert said is None or said.startswith(place)
        assert said is None or "\n" not in said


def arrow_frame(table: pa.Table) -> pa.Table:
    return canonical_table(table, ReadConfig(), name="table")


def test_json_of_any_depth_is_read_or_named(folder: Path) -> None:
    """A few hundred levels could be read, and not be written again."""
    path = folder / "deep.jsonl"
    for depth in (*range(150, 250, 7), *range(900, 1000)):
        path.write_text('{"a":' + "[" * depth + "]" * depth + "}\n")
        said = failure(DataError, lambda: read_table(path))
        assert said is None or said.startswith(f"{path}, line 1: not JSON (nested too deep")
        assert (said is None) == (depth < 200)


def test_objects_of_a_key_each_make_no_square(folder: Path) -> None:
    """44 KB took 14 seconds, and twice as many four times as long."""
    path = folder / "square.jsonl"
    path.write_text("\n".join(f'{{"c{place}":1}}' for place in range(8_000)))
    began = time.process_time()
    said = failure(DataError, lambda: read_table(path))
    assert time.process_time() - began < 5.0
    assert said == (
        f"{path}: 8,000 objects have 8,000 keys, nearly each of them its own (8,000 values for 64,000,000 cells); give "
        "objects of the same keys"
    )


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_with_changed_bytes(folder: Path, kind: str) -> None:
    table = pa.table({"age": [1, 2, None], "city": ["Oslo", "Rome", ""], "nested": [[1], [], None]})
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    whole, chance, path = sink.getvalue(), random.Random(0), folder / f"x.{kind}"
    for _ in range(1500):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice((len(content), len(content), chance.randrange(len(content))))])
        said = failure(DataError, partial(read_table, path))
        assert said is None or said.startswith(str(path))


@given(text=st.text(alphabet="@ATRIBUEatribued{}',\"\\?% \n\tx1", max_size=60), raw=st.binary(max_size=40))
@quickly
def test_arff(folder: Path, text: str, raw: bytes) -> None:
    head = "@relation x\n@attribute a numeric\n@attribute 'b c' string\n@data\n"
    for content in (text.encode(), (head + text).encode(), head.encode() + raw, gzip.compress(text.encode())[:-4]):
        for name in ("x.arff", "x.arff.gz"):
            (folder / name).write_bytes(content)
            failure(DataError, partial(arff_to_csv, folder / name, folder / "out.csv"))


def test_arff_that_is_missing_or_packed_badly_is_named(folder: Path) -> None:
    for content in (None, b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes(range(200)), b"x"):
        path = folder / "bad.arff.gz"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        told = "no such file" if content is None else "cannot be read"
        with pytest.raises(DataError, match=rf"bad\.arff\.gz: {told}"):
            arff_to_csv(path, folder / "out.csv")


def test_a_long_line_of_arff_is_read_in_linear_time(folder: Path) -> None:
    """Blanks within a value were read again from each of them: a line of 100,000 took minutes."""
    path = folder / "long.arff"
    path.write_text("@attribute a string\n@attribute b string\n@data\n" + "x" + " " * 300_000 + "y,z \n")
    assert seconds(lambda: arff_to_csv(path, folder / "out.csv")) < 2.0
    assert (folder / "out.csv").read_text().splitlines()[1] == "x" + " " * 300_000 + "y,z"


class Grade(BaseModel):
    grade: int
    reason: str = ""


REPLIES = [
    "```",
    "```json",
    "{",
    "}",
    '{"grade": 3}',
    '"grade"',
    ":",
    "7",
    "<think>",
    "</think>",
    "\n",
    " ",
    DEEP,
    "\ud800",
]


def reply(content: str) -> Reply:
    facts: dict[str, Any] = dict.fromkeys(Reply.__dataclass_fields__, None)
    return Reply(**{**facts, "content": content, "finish_reason": "stop"})


@given(parts=st.lists(st.sampled_from(REPLIES), max_size=12), value=values)
@settings(max_examples=1000, suppress_health_check=[*HealthCheck], deadline=None)
def test_replies_of_a_judge(parts: list[str], value: Any) -> None:
    for content in (
        "".join(parts),
        json.dumps(value),
        json.dumps({"grade": value}),
        f"```json\n{json.dumps(value)}```",
    ):
        failure(NotReadable, partial(read_reply, reply(content), Grade))


def test_a_reply_of_fences_costs_no_more_than_its_length() -> None:
    """Each fence was searched to the end for another one."""
    content = "```{" * 200_000
    assert seconds(lambda: failure(NotReadable, lambda: read_reply(reply(content), Grade))) < 2.0
    assert read_reply(reply('Well. ```json\n{"grade": 4}\n``` So.'), Grade)["grade"] == 4


@given(value=values)
@example(value="deep")
@quickly
def test_reports_and_what_lies_beside_bundles(folder: Path, value: Any) -> None:
    text = DEEP if value == "deep" else json.dumps(value)
    reads: dict[str, tuple[Callable[[], object], type[Exception]]] = {
        "report.json": (lambda: read_report(folder / "report.json"), DataError),
        JUDGE_FILE: (lambda: read_judgement(folder), DataError),
        SAMPLING_NAME: (lambda: read_sampling(folder), BundleError),
        TEMPLATE_NAME: (lambda: FrameTemplate.read(folder), BundleError),
    }
    known = {
        "report.json": {"schema_version": 2, "evaluations": value},
        JUDGE_FILE: {"account": value, "evaluation": value, "title": value, "settings": value},
        SAMPLING_NAME: {"steps": value},
        TEMPLATE_NAME: {"format_version": 1, "library": "pandas", "empty": value},
    }
    for name, (read, kind) in reads.items():
        for content in (text, json.dumps(known[name])):
            (folder / name).write_text(content)
            said = failure(kind, read)
            assert name == SAMPLING_NAME or said is not None
            assert "\n" not in (said or "")
    (folder / "events.jsonl").write_text(text + "\n")
    failure(ValueError, lambda: read_events(folder / "events.jsonl"))


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_a_template_with_changed_bytes_is_refused_before_a_row_is_drawn(tmp_path: Path, library: str) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": pd.Categorical(["x"]), 2: ["y"], "day": [pd.Timestamp("2020-01-01")]})
    kinds = {"pandas": frame, "polars": pa.table({"a": ["x"]}), "arrow": pa.table({"a": ["x"], "b": [1]})}
    template = FrameTemplate(library=library, empty=FrameTemplate.of(kinds[library]).empty)  # type: ignore[arg-type]
    chance, whole = random.Random(1), template.empty
    (tmp_path / TEMPLATE_NAME).write_bytes(template.dumped())
    assert FrameTemplate.read(tmp_path) is not None
    for _ in range(150):
        content = bytearray(whole)
        content[chance.randrange(len(content))] = chance.randrange(256)
        (tmp_path / TEMPLATE_NAME).write_bytes(FrameTemplate(library=template.library, empty=bytes(content)).dumped())
        failure(BundleError, lambda: FrameTemplate.read(tmp_path))


@given(text=st.lists(st.sampled_from(["shape", "<", "3", "drop:", "warn:", " ", "<=", "1e999", "nan", ":", "x", "\0"])))
@quickly
def test_gates(text: list[str]) -> None:
    failure(ConfigError, lambda: parse_gate("".join(text), {"shape": "shape_error"}))  # type: ignore[arg-type]


@given(value=values)
@quickly
def test_what_a_configuration_extends(folder: Path, value: Any) -> None:
    (folder / "x.yaml").write_text(json.dumps({"extends": value, "data": value}))
    said = failure(ConfigError, lambda: read_settings(str(folder / "x.yaml")))
    assert said is None or "\n" not in said


def test_chains_circles_and_webs_of_configurations_end(tmp_path: Path) -> None:
    """A chain of a thousand files ran out of stack, and a web of twelve was read a billion times."""
    for place in range(1200):
        (tmp_path / f"chain{place}.yaml").write_text(f"extends: chain{place + 1}.yaml\n")
    (tmp_path / "chain1200.yaml").write_text("name: end\n")
    for place in range(12):
        (tmp_path / f"web{place}.yaml").write_text(f"extends: [{', '.join([f'web{place + 1}.yaml'] * 9)}]\n")
    (tmp_path / "web12.yaml").write_text("name: end\n")
    (tmp_path / "circle.yaml").write_text("extends: [other.yaml]\n")
    (tmp_path / "other.yaml").write_text("extends: ./circle.yaml\n")
    for name, said in {"chain0": "20 files deep", "web0": "more than 200 files", "circle": "in a circle"}.items():
        spent = seconds(lambda name=name, said=said: refused(tmp_path / f"{name}.yaml", said))  # type: ignore[misc]
        assert spent < 5.0, name
    assert read_settings(str(tmp_path / "chain1190.yaml")).merged["name"] == "chain1190"


def refused(path: Path, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_settings(str(path))


JOB = {
    "owner": "a",
    "bundle": "b",
    "version": "v",
    "folder": "/b",
    "n": 1,
    "seed": 7,
    "where": None,
    "sampling": "{}",
    "format": "csv",
}


@given(value=values, key=st.sampled_from(sorted(JOB)), raw=st.binary(max_size=30))
@settings(max_examples=60, suppress_health_check=[*HealthCheck], deadline=None)
def test_folders_of_jobs(folder: Path, value: Any, key: str, raw: bytes) -> None:
    """A server starts whatever lies in its folder; what is no job is none, and paths stay in their folders."""
    jobs_folder = folder / "jobs"
    shutil.rmtree(jobs_folder, ignore_errors=True)
    for name, content in {"one": json.dumps({**JOB, key: value}).encode(), "two": raw, "three": DEEP.encode()}.items():
        (jobs_folder / name).mkdir(parents=True)
        (jobs_folder / name / "job.json").write_bytes(content)
    (jobs_folder / "four" / "job.json").mkdir(parents=True)
    (jobs_folder / "five").mkdir()
    (jobs_folder / "five" / "job.json").write_text(json.dumps(JOB))
    (jobs_folder / "five" / "error.txt").write_bytes(b"\xff")

    async def act() -> None:
        jobs = Jobs(jobs_folder, most=5, owners=("a", "b"))
        jobs._work = nothing  # type: ignore[method-assign]
        await jobs.start()
        assert {*jobs._specs} <= {"one", "five"}
        assert jobs.view("five", "a").state == "failed"
        for name, spec in jobs._specs.items():
            assert jobs._files.data(name, spec).parent == jobs_folder / name
            assert isinstance(spec, JobSpec)
        await jobs.stop()

    asyncio.run(act())


async def nothing() -> None:
    pass


@pytest.mark.parametrize("content", ["[]", "null", DEEP, "", "\0", '{"title": 3}'])
def test_a_report_that_is_none_keeps_no_bundle_from_being_served(
    stages: StageFolders, tmp_path: Path, content: str
) -> None:
    store = ArtifactStore(tmp_path / "run")
    with store.create("bundle", "b" * 64, version=1, config={}, inputs={}) as draft:
        shutil.copytree(stages.bundle, draft.path, dirs_exist_ok=True)
    with store.create(REPORT_KIND, "c" * 64, version=1, config={}, inputs={"assemble": "b" * 64}) as draft:
        (draft.path / "report.json").write_text(content)

    async def load(_: BundleRef) -> None:
        pass

    registry = Registry(ServeConfig(bundles=[ServedConfig(name="x", path=str(tmp_path / "run"))]), load)
    asyncio.run(registry.refresh())
    assert registry.ready
    assert registry.faults == {}
    quality = registry.get("x").quality
    assert quality is None or quality["title"] == 3


def test_a_log_of_a_run_leads_to_no_bundle_elsewhere(stages: StageFolders, tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", Path(shutil.copytree(stages.bundle, tmp_path / "elsewhere"))
    (run / "artifacts").mkdir(parents=True)
    stage = {"stage": "assemble", "status": "ran", "seconds": 0, "compute_seconds": 0, "peak_rss_mib": {}}
    for artifact in ("../../elsewhere", str(elsewhere)):
        line = {"started": "now", "wall_seconds": 0, "stages": [{**stage, "artifact": artifact}]}
        (run / "runs.jsonl").write_text(json.dumps(line) + "\n")
        with pytest.raises(DiffLMError, match="this experiment has no bundle yet"):
            load(run)


def test_what_a_node_unpacks_lies_where_nobody_else_writes(tmp_path: Path) -> None:
    """Whoever made the folder first, by its known name, had models of theirs loaded."""
    _own(tmp_path / "new")
    _own(tmp_path / "new")
    (tmp_path / "new").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("new", "link"):
        with pytest.raises(DiffLMError, match=f"{name}: others may write there"):
            _own(tmp_path / name)


ANSWER = {"key": "k", "item": "i", "variant": "v", "repeat": 0, "values": {"a": 1}, "requests": 1}


@pytest.mark.parametrize("changes", [{"key": {}}, {"input_tokens": [1]}, {"output_tokens": HUGE}, {"dollars": "x"}])
def test_answers_of_another_form_are_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(ANSWER) + "\n")
    assert AnswerLog(path).open()[0].key == "k"
    path.write_text(json.dumps({**ANSWER, **changes}) + "\n")
    said = failure(DataError, AnswerLog(path).open)
    assert said is not None
    assert said.startswith(f"{path}: not a log")
    assert "\n" not in said


@pytest.mark.parametrize("rest", ['{"question": 1, "answer": "mine"}', '{"key": 1}\n{"key": 2}', "mine"])
def test_answers_of_something_else_are_kept(tmp_path: Path, rest: str) -> None:
    """`--out .` where one's own answers.jsonl lies: a last line without an end was cut off before it was refused."""
    path = tmp_path / "answers.jsonl"
    path.write_text(rest)
    assert failure(DataError, AnswerLog(path).open) is not None
    assert path.read_text() == rest
    path.write_text(json.dumps(ANSWER) + "\n" + json.dumps(ANSWER)[:20])
    assert len(AnswerLog(path).open()) == 1
    assert path.read_text() == json.dumps(ANSWER) + "\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("steps", r"not readable .*less than or equal to 10000"),
        ("attempts", "attempts is 1,000,000,000,000"),
        ("batch_size", "batch_size is 1,000,000,000,000"),
    ],
)
def test_what_a_bundle_asks_for_when_it_is_drawn_from_is_bounded(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / SAMPLING_NAME).write_text(json.dumps({name: 10**12}))
    said = failure(BundleError, lambda: read_sampling(tmp_path))
    assert said is not None
    assert re.search(rf"{SAMPLING_NAME}: {reason}", said)


@pytest.mark.parametrize(
    ("value", "allowed"), [("false", False), ("no", False), ("0", False), ("1", True), ("TRUE", True)]
)
def test_only_a_yes_lets_a_bundle_name_a_folder(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, value: str, allowed: bool
) -> None:
    monkeypatch.setenv(ALLOW_LOCAL, value)
    facts = {"autoencoder": {"encoder": {"model": "/somewhere"}}}
    assert (failure(BundleError, lambda: check_base(bundle, facts)) is None) == allowed


def test_a_schema_that_does_not_fit_the_decoder_is_said_before_rows_are_drawn(bundle: Path) -> None:
    """Fields of other kinds: found out by automata and relations, in words of their own."""
    facts = json.loads((bundle / "schema.json").read_bytes())
    (moment,) = [field for field in facts["fields"] if field["kind"] == "datetime"]
    moment["format"] = "integer"
    (bundle / "schema.json").write_text(json.dumps(facts))
    write_hashes(bundle)
    with pytest.raises(BundleError, match="its files do not fit each other"):
        OpenBundle(bundle, SamplingConfig()).synthesizer()


def test_whole_numbers_from_one_end_to_the_other_are_looked_at(tmp_path: Path) -> None:
    """Their difference has 65 bits."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"n": pa.array([-(2**63), 2**63 - 1, 5, 6] * 20, pa.int64())}), path)
    assert inspected(path, target=None, overrides=()).lines[0].column == "n"


def test_a_workbook_on_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("openpyxl.worksheet._writer.NamedTemporaryFile", full)
    with pytest.raises(StorageError, match=r"rows\.xlsx: no space left"):
        write_table(pa.table({"a": [1]}), str(tmp_path / "rows.xlsx"))
