"""Fitting from Python, in one process without Ray: the artifacts and rows that the command line makes with it."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import difflm
from difflm.errors import ConfigError, DataError
from difflm.seeding import derive_seed
from difflm.testing.processes import kill_pid, wait_until
from difflm_jobs.api import _nested

RUN_SEED = derive_seed(0, "synthesize") >> 1
"""Of the rows that a run with seed 0 makes by itself."""


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


FIT = """
import sys, difflm
generator = difflm.fit("people.csv", config="tiny.yaml", out="tiny", progress=False)
assert "ray" not in sys.modules, "Ray was imported"
generator.sample(300, seed={seed}).to_parquet("rows.parquet")
print(generator.report.score("shape_error").value)
assert "ray" not in sys.modules, "Ray was imported"
"""


@pytest.fixture(scope="module")
def fitted(undisturbed: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a process fitted the tiny experiment from Python, drew its rows and evaluated them."""
    folder = tmp_path_factory.mktemp("python")
    for name in ("people.csv", "tiny.yaml"):
        (folder / name).write_bytes((undisturbed.folder / name).read_bytes())
    (folder / "fit.py").write_text(FIT.format(seed=RUN_SEED))
    (folder / "printed").write_text(run([sys.executable, "fit.py"], folder, undisturbed.environment()))
    return folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "artifacts").iterdir())


@pytest.mark.integration
@pytest.mark.distributed
def test_it_makes_the_artifacts_of_the_command_line(fitted: Path, undisturbed: Any) -> None:
    mine, theirs = names(fitted / "tiny"), names(undisturbed.root)
    assert [name for name in mine if not name.startswith("report-")] == [
        name for name in theirs if not name.startswith("report-")
    ]
    (bundle,) = (name for name in mine if name.startswith("bundle-"))
    for path in sorted((undisturbed.root / "artifacts" / bundle).rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            other = fitted / "tiny" / "artifacts" / bundle / path.relative_to(undisturbed.root / "artifacts" / bundle)
            assert other.read_bytes() == path.read_bytes(), path.name


@pytest.mark.integration
@pytest.mark.distributed
def test_it_draws_the_rows_of_the_command_line(fitted: Path, undisturbed: Any) -> None:
    theirs = pd.read_csv(undisturbed.artifact("synthetic") / "synthetic.csv")
    mine = pd.read_parquet(fitted / "rows.parquet")
    pd.testing.assert_frame_equal(mine, theirs, check_dtype=False)


@pytest.mark.integration
def test_a_run_is_loaded_with_its_report(fitted: Path) -> None:
    generator = difflm.load(fitted / "tiny")
    assert generator.report.score("shape_error").value == float((fitted / "printed").read_text())
    assert len(generator.sample(3)) == 3


@pytest.mark.integration
def test_a_killed_fit_goes_on(fitted: Path, undisturbed: Any, tmp_path: Path) -> None:
    for name in ("people.csv", "tiny.yaml"):
        (tmp_path / name).write_bytes((fitted / name).read_bytes())
    command = [sys.executable, "-c", FIT.format(seed=RUN_SEED)]
    work = tmp_path / "tiny" / "work"
    with subprocess.Popen(command, cwd=tmp_path, env=undisturbed.environment(), stdout=subprocess.DEVNULL) as process:
        wait_until(
            lambda: [*work.glob("prior-*/life-*/checkpoints/step-*")],
            what="a checkpoint of the prior",
            timeout_s=300,
            alive=lambda: process.poll() is None,
        )
        kill_pid(process.pid)
    assert not [name for name in names(tmp_path / "tiny") if name.startswith("prior-")]
    done = subprocess.run(
        command, cwd=tmp_path, env=undisturbed.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), pd.read_parquet(fitted / "rows.parquet"))


QUICK = {
    "decoder.hidden_size": 32,
    "decoder.layers": 1,
    "decoder.heads": 2,
    "decoder.intermediate_size": 64,
    "decoder_fit.steps": 4,
    "decoder_fit.copied_below": 0.99,
    "autoencoder": {"steps": 4, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}},
    "prior": {"steps": 4, "width": 16, "blocks": 1},
    "sampling.precision": "float32",
}


@pytest.mark.parametrize(
    ("table", "target", "message"),
    [
        (pd.DataFrame({"a": []}), None, r"table: 0 rows, 1 columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), None, r"two columns are called 'a'"),
        (pd.DataFrame({"a": [1, "x", []]}), None, r"column 'a' holds values of several types"),
        (pd.DataFrame({"a": range(50)}), "b", r"no target column 'b'|target column 'b'"),
        ("nothing.csv", None, r"nothing\.csv: no such file"),
    ],
)
def test_what_cannot_be_learned_is_refused_and_leaves_nothing(
    table: Any, target: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        difflm.fit(table, target, config=QUICK, out="run", progress=False)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "artifacts" in path.parts]
    assert left == []


def test_no_setting_is_lost_where_dotted_keys_meet_sections() -> None:
    encoder = {"encoder": {"heads": 2}, "steps": 3}
    wanted = {"autoencoder": {"encoder": {"heads": 2, "layers": 1}, "steps": 3}}
    assert _nested({"autoencoder.encoder.layers": 1, "autoencoder": encoder}) == wanted
    assert _nested({"autoencoder": encoder, "autoencoder.encoder.layers": 1}) == wanted


def test_settings_that_cannot_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decoder_fit\.stepz"):
        difflm.fit(pd.DataFrame({"a": range(50)}), config={"decoder_fit.stepz": 3}, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"its last part names the run"):
        difflm.fit(pd.DataFrame({"a": range(50)}), out=tmp_path / "my run")


def test_the_examples_of_the_documentation_run() -> None:
    import difflm_jobs.api

    assert doctest.testmod(difflm_jobs.api).failed == 0
