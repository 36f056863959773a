"""Bad input ends with one line that names the culprit and the remedy, code 2, and nothing left behind."""

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflm_jobs.pipeline.runlog import RunRecord

pytestmark = pytest.mark.integration

Difflm = Callable[..., Any]

GOOD = "age,city,label\n" + "".join(f"{20 + n % 40},{'abc'[n % 3]},{n % 2}\n" for n in range(60))


def refused(difflm: Difflm, *arguments: str) -> str:
    """The one line that a call is refused with; checks the code, and that only the given files are there."""
    before = sorted(Path().rglob("*"))
    ended = difflm(*arguments)
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert ended.code == 2, ended.err
    assert len(lines) == 1, ended.err
    assert "Traceback" not in ended.err
    assert [path for path in sorted(Path().rglob("*")) if path not in before and path != Path("runs")] == []
    return lines[0]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_a_missing_file(difflm: Difflm) -> None:
    message = refused(difflm, "run", "none.csv")
    assert (
        message
        == "error: data.train: none.csv: no such file; check the path or give another one with --set data.train=PATH"
    )


@pytest.mark.parametrize("text", ["", "age,city\n"])
def test_an_empty_table(difflm: Difflm, tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.csv").write_text(text, encoding="utf-8")
    assert "empty.csv" in refused(difflm, "run", "empty.csv")


def test_no_such_target_column(difflm: Difflm, table: Path) -> None:
    message = refused(difflm, "run", "people.csv", "--target", "lable")
    assert "people.csv" in message
    assert "'lable'" in message
    assert "'label'" in message


def test_a_column_that_is_all_missing(difflm: Difflm, table: Path) -> None:
    rows = GOOD.splitlines()
    table.write_text("\n".join([rows[0] + ",gone", *(row + "," for row in rows[1:])]) + "\n", encoding="utf-8")
    message = refused(difflm, "run", "people.csv")
    assert "'gone'" in message
    assert "drop_all_missing" in message


def test_fewer_rows_than_the_split_needs(difflm: Difflm, table: Path) -> None:
    table.write_text("".join(GOOD.splitlines(keepends=True)[:3]), encoding="utf-8")
    message = refused(difflm, "run", "people.csv")
    assert "people.csv" in message
    assert "2 rows" in message


def test_a_typo_in_a_key(difflm: Difflm, table: Path) -> None:
    Path("mine.yaml").write_text("data: {train: people.csv, taget: label}\n", encoding="utf-8")
    assert "mine.yaml: data.taget: unknown key; did you mean 'data.target'?" in refused(difflm, "run", "mine.yaml")
    assert "did you mean 'data.target'?" in refused(difflm, "run", "people.csv", "--set", "data.taget=label")


def test_a_wrong_value(difflm: Difflm, table: Path) -> None:
    message = refused(difflm, "run", "people.csv", "--set", "data.validation=2")
    assert "--set data.validation=2: data.validation: expected less than 1; found 2" in message


def test_a_preset_without_its_data(difflm: Difflm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFLM_DATA", raising=False)
    message = refused(difflm, "run", "adult")
    assert "DIFFLM_DATA" in message
    assert "--set data.train=PATH" in message


def test_a_full_disk(difflm: Difflm, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail)
    message = refused(difflm, "run", "people.csv")
    assert "no space left for writing" in message
    assert "free some space or give another folder (--runs, --out)" in message


def test_a_disk_that_fills_up_while_writing(tmp_path: Path) -> None:
    """No file may grow beyond 16 KiB in this process: what the system then answers is what a full quota does."""
    rows = "".join(f"{n},{n * 7919 % 10007},{n % 2}\n" for n in range(20_000))
    (tmp_path / "large.csv").write_text("a,b,label\n" + rows, encoding="utf-8")
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384)); "
    code = limit + "runpy.run_module('difflm_jobs', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "prepare", "large.csv"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert "no space left for writing" in line
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "large.csv"]


def test_a_log_that_cannot_grow_does_not_hide_what_happened(
    difflm: Difflm, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunRecord, "append", full)
    table.write_text("".join(GOOD.splitlines(keepends=True)[:3]), encoding="utf-8")
    assert "2 rows" in refused(difflm, "run", "people.csv")


def test_a_decoder_path_that_does_not_exist(difflm: Difflm, table: Path) -> None:
    message = refused(difflm, "run", "people.csv", "--set", "decoder={kind: pretrained, model: ./none}")
    assert "decoder.model: ./none: no such folder; give a hub id or a folder made by save_pretrained" in message


@pytest.mark.parametrize("verb", [["run"], ["plan"], ["submit", "--address", "http://head:8265", "run"]])
def test_an_engine_that_is_not_there(
    difflm: Difflm, table: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    message = refused(difflm, *verb, "people.csv", "--set", "sampling.engine.kind=vllm")
    remedy = "--set runtime.synthesis.pool.gpus_per_actor=1" if verb[0] == "submit" else "pip install vllm"
    assert "sampling.engine.kind is vllm" in message
    assert remedy in message


def test_too_little_memory_is_said_before_anything_is_read(difflm: Difflm, table: Path) -> None:
    limit = ["--set", "runtime.memory.node_gib=0.3"]
    for verb in ("run", "train-autoencoder"):
        message = refused(difflm, verb, "people.csv", *limit)
        assert re.match(
            r"error: fit-decoder needs about \d\.\d GiB \(activations \d\.\d\) on a machine with 0\.3 GiB", message
        )
        assert "(records of 256 tokens are assumed until" in message
        assert "give decoder_fit.batch_size=16 decoder_fit.tokens_per_batch=2048 " in message
        assert not Path("runs").exists()
    refused(difflm, "plan", "people.csv", *limit)
    planned = difflm("plan", "people.csv", *limit)
    assert "Memory of a process, MiB, estimated" in planned.out, "the plan itself is printed all the same"
    assert difflm("prepare", "people.csv", *limit).code == 0, "a stage that needs no model is not refused"


def test_gpus_that_are_not_there(difflm: Difflm, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    gpus = ["--set", "runtime.workers.gpus_per_worker=1"]
    message = refused(difflm, "run", "people.csv", *gpus)
    assert "fit-decoder needs 1 process(es) with 1 GPU of " in message
    assert "and this machine has 0 GPU" in message
    planned = difflm("plan", "people.csv", *gpus)
    assert planned.code == 0
    assert re.search(r"needs: processes of up to \d\.\d GiB, 1 GPU of \d\.\d GiB each", planned.out)


def test_a_bundle_that_is_none(difflm: Difflm, table: Path) -> None:
    message = refused(difflm, "synthesize", "nowhere", "--rows", "5", "--out", "x.csv")
    assert "nowhere is no bundle" in message
    message = refused(difflm, "synthesize", "nowhere", "--rows", "5", "--out", "x.docx")
    assert "x.docx: unknown ending '.docx'" in message


def test_evaluating_what_is_not_there(difflm: Difflm, table: Path) -> None:
    assert "none.csv: no such file" in refused(difflm, "evaluate", "none.csv", "--train", "people.csv")
    message = refused(difflm, "evaluate", "people.csv", "--train", "people.csv", "--target", "lable")
    assert "people.csv: no target column 'lable'" in message


def test_gates_of_a_finished_table(difflm: Difflm, table: Path) -> None:
    given = ["evaluate", "people.csv", "--train", "people.csv"]
    assert "gate 'mia_ac < 1': no score 'mia_ac'; did you mean 'mia_auc'?" in refused(
        difflm, *given, "--gate", "mia_ac < 1"
    )
    assert "no record is dropped from a finished table" in refused(difflm, *given, "--gate", "drop: exact_copies == 0")
    less = [f"--set=evaluation.{part}=null" for part in ("detection", "fidelity", "utility", "membership")]
    ended = difflm(*given, *less, "--gate", "shape < 1", "--gate", "exact_copies == 0", "--gate", "warn: trend > 1")
    assert ended.code == 1
    assert "error: gate 'exact_copies == 0': exact_copy_share is 100 after 60 rows" in ended.err
    assert "warning: gate 'warn: trend > 1': trend_error is 0 after 60 rows" in ended.out
    assert difflm(*given, *less, "--gate", "shape < 1").code == 0


def test_a_folder_that_cannot_be_made(difflm: Difflm, table: Path) -> None:
    Path("runs").write_text("a file where the folder should be", encoding="utf-8")
    message = refused(difflm, "run", "people.csv")
    assert "runs/people: cannot be written (not a directory)" in message


def test_no_such_run(difflm: Difflm) -> None:
    assert "none: no such run; there are no runs in runs yet" in refused(difflm, "show", "none")
    assert "none: no such run" in refused(difflm, "verify", "none")
    assert "x.difflm: no such file; difflm export RUN x.difflm writes one" in refused(difflm, "show", "x.difflm")


def test_an_unknown_verb(difflm: Difflm) -> None:
    ended = difflm("rum", "demo")
    assert ended.code == 2
    assert "rum" in ended.err
