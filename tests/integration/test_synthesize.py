"""`difflm synthesize`: refusals before any work, parts that can be gone on with, and kills that lose nothing."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow.csv import write_csv

from difflm.artifacts.dataset import DATA, DATASET_MANIFEST, Dataset
from difflm.artifacts.storage import LocalStore, open_store
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.kinds.columns import conform_table
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.decoding.engines import BuiltinEngineConfig
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.telemetry import read_events
from difflm.testing.bundles import (
    TINY_DECODER,
    TINY_POOLED_SHAPE,
    committed,
    part_hashes,
    untrained_stages,
    write_undisturbed,
)
from difflm.testing.models import save_decoder
from difflm.testing.processes import ChildProcess, assert_no_orphans, kill_pid, marked_pids, pids_by_command, wait_until
from difflm.testing.servers import new_bucket, s3_environment, s3_server
from difflm.testing.tables import mixed_table
from difflm_evaluators.columns.real_tables import write_real
from difflm_evaluators.live.part_scorer import PartScorer

pytestmark = pytest.mark.integration

Difflm = Callable[..., Any]

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLING = ["--set", "sampling={steps: 3, precision: float32, text_tokens: 8}"]
AS_CONFIG = SamplingConfig(steps=3, precision="float32", text_tokens=8)
TWO = ["--set", "runtime.cluster={num_cpus: 2, object_store_mib: 100}"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_stages(tmp_path_factory.mktemp("stages"), mixed_table(40)).bundle


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a fresh bucket; the environment names server and credentials."""
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(endpoint).items():
            patch.setenv(name, value)
        yield new_bucket(endpoint)


@pytest.fixture(scope="module")
def shared_cluster(bucket: str, shared_cluster: None) -> None:
    """The cluster is started when the environment already names the object store: its workers read that one."""


def refused(difflm: Difflm, *arguments: str, verb: str = "synthesize") -> str:
    """The one line that a call is refused with; checks the code, and that nothing new is there."""
    before = sorted(Path().rglob("*"))
    ended = difflm(verb, *arguments)
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert sorted(Path().rglob("*")) == before
    return str(line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0", "--out", "rows"], "--rows 0: give a number from 1 to 999,999,999"),
        (["--rows", "-3", "--out", "rows"], "--rows -3: give a number from 1"),
        (["--rows", "9", "--out", "rows", "--format", "xlsx"], "--format xlsx: unknown; give one of parquet, jsonl"),
        (["--rows", "9", "--out", "x.csv", "--format", "arrow"], "--format arrow: x.csv says 'csv'; leave one of them"),
        (["--rows", "9", "--out", "x.docx"], "x.docx: unknown ending '.docx'; give a name that ends in .parquet"),
        (["--rows", "9", "--out", "rows", "--resume", "maybe"], "--resume maybe: unknown; give one of never, always"),
        (["--rows", "9", "--out", "foo://b/x"], "foo://b/x: unknown scheme 'foo'; give a path or one of s3://"),
        (["--rows", "9", "--out", "s3://b/x.csv"], "one file can be written to a local path only; give a prefix"),
        (["--rows", "9", "--out", "rows", "--resume", "always"], "rows: holds no job to go on with; check the folder"),
        (["--rows", "9", "--out", "rows", "--set", "sampling.step=3"], "did you mean 'sampling.steps'?"),
        (["--rows", "9", "--out", "rows", "--where", "agee > 30"], "'agee'"),
        (["--rows", "9", "--out", "rows", "--where", "age > 40 and age < 30"], "'age'"),
        (["--rows", "9", "--out", "rows", "--where", 'city == "Paris"'], "'Paris'"),
        (["--rows", "9", "--out", "rows", "--where", "age >"], "age >"),
        (["--rows", "9", "--out", "rows", "--balance", "age"], "column 'age' is integer; only categories"),
        (["--rows", "9", "--out", "rows", "--balance", "agee"], "there is no column 'agee'"),
        (["--rows", "9", "--out", "rows", "--like", "none.csv"], "none.csv: no such file"),
        (["--rows", "9", "--out", "rows", "--gate", "shape < 3"], "gate 'shape < 3': nothing is evaluated; give"),
        (["--rows", "9", "--out", "rows", "--gate", "shap < 3"], "no score 'shap'; did you mean 'shape'?"),
        (["--rows", "9", "--out", "rows", "--evaluate"], "is no run with the splits of its bundle; give the training"),
        (["--rows", "9", "--out", "rows", "--evaluate-against", "none.csv"], "none.csv: no such file"),
        (
            ["--rows", "9", "--out", "rows", "--evaluate-against", "x.csv", "--set", "live.interval=1"],
            "live.interval_s",
        ),
        (["--rows", "9", "--out", "rows", "--like", "a.csv", "--between", "b.csv"], "give one of them"),
        (["--rows", "9", "--out", "rows", "--like", "a.csv", "--strength", "2"], "--strength 2: give a number from 0"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    difflm: Difflm, bundle: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(difflm, str(bundle), *arguments)


def test_an_engine_that_is_not_installed_is_named(
    difflm: Difflm, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    message = refused(difflm, str(bundle), "--rows", "9", "--out", "rows", "--set", "sampling.engine.kind=vllm")
    assert "sampling.engine.kind is vllm, which is not installed here; pip install vllm" in message


def test_a_folder_that_cannot_be_written_is_named(difflm: Difflm, bundle: Path) -> None:
    Path("file").write_text("in the way", encoding="utf-8")
    assert "file/rows" in refused(difflm, str(bundle), "--rows", "9", "--out", "file/rows")


def test_a_missing_base_model_is_named(difflm: Difflm, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("pretrained")
    model = save_decoder(folder / "model", "gpt2", positions=300)
    config = PretrainedDecoderConfig(model=str(model), dtype="float32")
    bundle = untrained_stages(folder / "stages", mixed_table(40).select(["age", "city"]), decoder=config).bundle
    shutil.rmtree(model)
    message = refused(difflm, str(bundle), "--rows", "9", "--out", "rows")
    assert f"its base model '{model}' cannot be loaded" in message


def environment() -> dict[str, str]:
    """For a command line in another process: the source roots, no cluster of anybody else."""
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "RAY_worker_niceness": "0", "PYTHONPATH": roots, "COLUMNS": "160"}


def verb(bundle: Path, rows: int, out: Path | str, *more: str) -> list[str]:
    given = ["synthesize", str(bundle), "--rows", str(rows), "--out", str(out), *SAMPLING, *TWO, *more]
    return [*given, "--set", "runtime.synthesis.rows_per_shard=10"]


def nothing_is_started(config: object) -> None:
    raise AssertionError("a cluster was asked for")


@pytest.mark.usefixtures("locally")
@pytest.mark.parametrize("any_order", [False, True], ids=["conditional prior", "any order"])
def test_a_condition_holds_in_every_row_and_is_part_of_the_job(
    difflm: Difflm, bundle: Path, tmp_path: Path, any_order: bool
) -> None:
    out = tmp_path / "rows"
    if any_order:
        bundle = untrained_stages(tmp_path / "stages", mixed_table(40), shape=TINY_POOLED_SHAPE).bundle
    made = difflm(*verb(bundle, 24, out, "--where", "age >= 40 and age < 60", "--balance", "label"))
    assert made.code == 0, made.err
    rows = pq.read_table(out / DATA).to_pylist()
    assert len(rows) == 24
    assert all(40 <= int(row["age"]) < 60 for row in rows)
    assert Counter(row["label"] for row in rows) == {"yes": 12, "no": 12}
    ended = difflm("synthesize", str(bundle), "--rows", "24", "--out", str(out), *SAMPLING, "--where", "age >= 50")
    assert ended.code == 2
    assert "another plan" in ended.err


@pytest.mark.distributed
@pytest.mark.usefixtures("shared_cluster")
def test_grammars_of_llguidance_give_the_same_rows_on_workers_as_in_this_process(
    difflm: Difflm, tmp_path: Path
) -> None:
    out, decoder = tmp_path / "rows", TINY_DECODER.model_copy(update={"number_pairs": False})
    bundle = untrained_stages(tmp_path / "stages", mixed_table(40), decoder=decoder).bundle
    made = difflm(*verb(bundle, 24, out, "--seed", "4", "--set", "sampling.engine.constraint=llguidance"))
    assert made.code == 0, made.err
    sampling = AS_CONFIG.model_copy(update={"engine": BuiltinEngineConfig(constraint="llguidance")})
    loaded = load_bundle(bundle, solver=sampling.solver_settings())
    drawn, _ = Synthesizer(loaded, sampling).draw_valid(range(24), seed=4)
    assert pq.read_table(out / DATA).to_pylist() == loaded.codec.table_of(record for _, record in drawn).to_pylist()


def test_tables_that_do_not_fit_the_bundle_are_refused(difflm: Difflm, bundle: Path) -> None:
    table = mixed_table(40)
    write_csv(table.slice(0, 3), "three.csv")
    write_csv(table.slice(0, 3).drop_columns(["wage"]), "less.csv")
    write_csv(table.slice(0, 2).set_column(2, "city", [["Lyon", "Paris"]]), "other.csv")
    write_csv(table.set_column(0, "age", [["old"] * 40]), "words.csv")
    write_csv(table.slice(0, 0), "none.csv")
    rows = [str(bundle), "--rows", "9", "--out", "rows"]
    assert "less.csv: no column 'wage'" in refused(difflm, *rows, "--evaluate-against", "less.csv")
    assert "none.csv" in refused(difflm, *rows, "--evaluate-against", "none.csv")
    assert "words.csv: column 'age'" in refused(
        difflm, *rows, "--evaluate-against", "three.csv", "--holdout", "words.csv"
    )
    assert "three.csv: a way leads from one record to another; it has 3 rows" in refused(
        difflm, *rows, "--between", "three.csv"
    )
    assert "less.csv: no column 'wage'" in refused(difflm, *rows, "--like", "less.csv")
    assert "neither a condition nor" in refused(difflm, *rows, "--like", "three.csv", "--where", "age > 30")
    filled = ["--out", "filled.csv"]
    assert "other.csv: row 1, column 'city': 'Paris' is nothing" in refused(
        difflm, str(bundle), "other.csv", *filled, verb="impute"
    )
    assert "there is no column 'agee'" in refused(
        difflm, str(bundle), "three.csv", *filled, "--column", "agee", verb="impute"
    )


@pytest.mark.usefixtures("locally")
def test_given_records_are_varied_and_filled_in(difflm: Difflm, bundle: Path, tmp_path: Path) -> None:
    table = mixed_table(40).slice(0, 12)
    gaps = [None if row % 3 == 0 else value for row, value in enumerate(table.column("age").to_pylist())]
    write_csv(table, tmp_path / "rows.csv")
    write_csv(table.set_column(0, "age", [gaps]), tmp_path / "gaps.csv")
    varied = difflm(*verb(bundle, 24, tmp_path / "varied", "--like", str(tmp_path / "rows.csv")))
    assert varied.code == 0, varied.err
    assert pq.read_table(tmp_path / "varied" / DATA).num_rows == 24

    filled = tmp_path / "filled.parquet"
    arguments = [str(bundle), str(tmp_path / "gaps.csv"), "--out", str(filled), *SAMPLING, *TWO]
    imputed = difflm("impute", *arguments, "--set", "sampling.text_tokens=200")
    assert imputed.code == 0, imputed.err
    made = pq.read_table(filled)
    assert made.column("age").null_count == 0
    kept = [(row, int(age)) for row, age in enumerate(gaps) if age is not None]
    assert [(row, made.column("age")[row].as_py()) for row, _ in kept] == kept
    for name in ("day", "note", "label"):
        assert made.column(name).to_pylist() == table.column(name).to_pylist()


def scores_of(out: Path, folder: Path, train: Path, bundle: Path) -> dict[str, float]:
    """The scores of a dataset's parts, computed in this process."""
    schema = read_schema(bundle)
    folder.mkdir()
    write_real(folder, conform_table(read_table(train, ReadConfig()), schema), None, schema)
    dataset = Dataset(store=LocalStore(out))
    scorer = PartScorer(dataset, folder, share=1.0, seed=0)
    scorer.take([(entry.start, entry.stop) for entry in dataset.entries()])
    return scorer.score().values


@pytest.mark.distributed
@pytest.mark.usefixtures("shared_cluster")
def test_more_rows_extend_what_is_there_and_verify_sees_damage(
    difflm: Difflm, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows"
    first = difflm(*verb(bundle, 25, out))
    assert first.code == 0, first.err
    assert re.search(rf"{out}: 25 rows from \d+ draws, rejected: (none|\d+ [a-z]+)", first.out)
    before = part_hashes(out)
    assert pq.read_table(out / DATA).num_rows == 25
    assert difflm("verify", str(out)).code == 0

    write_csv(mixed_table(40), tmp_path / "train.csv")  # the parts of the first run are scored, too
    watched = ["--evaluate-against", str(tmp_path / "train.csv"), "--gate", "warn: shape < 1e-3"]
    more = difflm(*verb(bundle, 40, out, "--resume", "always", *watched))
    assert more.code == 0, more.err
    assert "warning: gate 'warn: shape < 1e-3': shape_error is " in more.err
    manifest = json.loads((out / DATASET_MANIFEST).read_text(encoding="utf-8"))
    assert [(shard["start"], shard["stop"]) for shard in manifest["shards"]] == [
        (0, 10),
        (10, 20),
        (20, 25),
        (25, 30),
        (30, 40),
    ]
    assert manifest["totals"]["rows_asked"] == 40
    found = manifest["totals"]["evaluation"]
    assert (found["rows"], found["gates"][-1]["decision"]) == (40, "warned")
    assert found["scores"] == scores_of(out, tmp_path / "real", tmp_path / "train.csv", bundle)
    assert [event["kind"] for event in read_events(out / "events.jsonl")][-2:] == ["scores", "gate"]
    assert before.items() <= part_hashes(out).items()
    assert "indices 0 to 39: 40 rows, 0 given up" in difflm("verify", str(out)).out

    monkeypatch.setattr("difflm.runtime.cluster.start_or_connect", nothing_is_started)
    again = difflm(*verb(bundle, 40, out))
    assert (again.code, "40 rows from" in again.out) == (0, True)
    fewer = difflm(*verb(bundle, 30, out))
    assert (fewer.code, "already holds indices up to 40" in fewer.err) == (2, True)
    other = difflm("synthesize", str(bundle), "--rows", "40", "--out", str(out), "--seed", "1")
    assert (other.code, "another sampling, seed, rows_per_shard; give another folder" in other.err) == (2, True)

    part = next(iter(sorted((out / DATA).iterdir())))
    part.write_bytes(b"X" + part.read_bytes()[1:])
    damaged = difflm("verify", str(out))
    assert (damaged.code, "changed since it was written" in damaged.err) == (2, True)
    part.unlink()
    assert "indices 0 to 10 are missing" in difflm("verify", str(out)).err


@pytest.mark.distributed
@pytest.mark.usefixtures("shared_cluster")
def test_an_object_store_takes_parts_like_a_disk(difflm: Difflm, bundle: Path, bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/people/rows"
    write_csv(mixed_table(40), tmp_path / "train.csv")  # evaluators read the parts back from the store
    ended = difflm(*verb(bundle, 25, url, "--format", "jsonl", "--evaluate-against", str(tmp_path / "train.csv")))
    assert ended.code == 0, ended.err
    store = open_store(url)
    found = json.loads(store.read(DATASET_MANIFEST) or "null")["totals"]["evaluation"]
    assert (found["rows"], found["scores"]["conforming_share"]) == (25, 100.0)
    verified = difflm("verify", url)
    assert f"{url}: 3 parts, all as written; indices 0 to 24: 25 rows, 0 given up" in verified.out
    assert sorted(store.sizes(DATA)) == [f"part-{a:09d}-{b:09d}.jsonl" for a, b in ((0, 10), (10, 20), (20, 25))]
    assert "holds the job" in difflm(*verb(bundle, 25, url, "--seed", "1", "--format", "jsonl")).err
    missing = difflm(*verb(bundle, 25, "s3://nowhere/x"))
    assert (missing.code, "there is no bucket 'nowhere'" in missing.err) == (2, True)


@pytest.mark.distributed
@pytest.mark.usefixtures("shared_cluster")
def test_kills_of_worker_and_driver_lose_and_double_nothing(difflm: Difflm, bundle: Path, tmp_path: Path) -> None:
    draw, rows, out = random.Random(7), 1500, tmp_path / "rows"
    command = [sys.executable, "-m", "difflm_jobs", *verb(bundle, rows, out)]
    child = ChildProcess.start(command, output=tmp_path / "log", environment=environment())
    aim = draw.randint(5, 40)
    wait_until(lambda: committed(out, aim), what="some parts", timeout_s=300, alive=child.running)
    own = set(marked_pids(child.marker))
    kill_pid(draw.choice([pid for pid in pids_by_command("ray::MapWorker") if pid in own]))
    wait_until(lambda: committed(out, aim + 20), what="more parts", timeout_s=300, alive=child.running)
    kill_pid(child.process.pid)
    child.wait(timeout_s=60)
    unfinished = difflm("verify", str(out))
    assert (unfinished.code, "not finished" in unfinished.err) == (2, True)
    ended = difflm(*verb(bundle, rows, out))  # at once, beside what is left of the one before
    assert ended.code == 0, ended.err
    assert_no_orphans(child.marker)
    assert difflm("verify", str(out)).code == 0
    write_undisturbed(tmp_path / "undisturbed", bundle, rows=rows, per_shard=10, sampling=AS_CONFIG)
    assert len(part_hashes(out)) == 150
    assert part_hashes(out) == part_hashes(tmp_path / "undisturbed")
