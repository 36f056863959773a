"""Rows of a saved generator: drawn as it was saved, unless settings say otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from difflm.api import Generator
from difflm.errors import ConfigError
from difflm.synthesis.plans.request import PlanRequest
from difflm.synthesis.saved_sampling import read_sampling
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import untrained_stages
from difflm.testing.tables import mixed_table
from difflm_jobs.cli.terminal import audience
from difflm_jobs.rows.bundle_rows import DatasetRequest, write_rows
from difflm_jobs.rows.destinations import single_file
from difflm_jobs.stages.stages import this_process


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    bundle = untrained_stages(folder / "stages", mixed_table(60).select(["age", "city"])).bundle
    sampling = SamplingConfig(steps=3, temperature=0.5, precision="float32")
    return Generator(bundle, sampling=sampling).save(folder / "people")


def _sampling_of_rows(saved: Path, out: Path, *overrides: str) -> dict[str, Any]:
    wanted = DatasetRequest(
        bundle=saved, rows=4, seed=0, out=f"{out}/", format="csv", resume="if-possible", plan=PlanRequest()
    )
    write_rows(wanted, overrides=overrides, audience=audience(), compute=this_process)
    settings: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())["settings"]["sampling"]
    return settings


def test_a_saved_generator_draws_as_it_was_saved(saved: Path, tmp_path: Path) -> None:
    found = _sampling_of_rows(saved, tmp_path / "rows")
    assert (found["steps"], found["temperature"]) == (3, 0.5)
    found = _sampling_of_rows(saved, tmp_path / "other", "sampling.temperature=0.9")
    assert (found["steps"], found["temperature"]) == (3, 0.9)


def test_old_files_name_no_solver_and_mean_the_one_that_there_was(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "old")
    assert read_sampling(saved) == SamplingConfig(steps=3, temperature=0.5, precision="float32")
    path = tmp_path / "old" / "sampling.json"
    facts = json.loads(path.read_text())
    del facts["solver"]
    path.write_text(json.dumps(facts))
    found = read_sampling(tmp_path / "old")
    assert found is not None
    assert found.solver == "heun"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "--out is empty; give a file"),
        ("a\0b.csv", "--out: .* is no path"),
        ("bundle/rows.csv", "lies in the bundle"),
        ("bundle", "lies in the bundle"),
        ("elsewhere/../bundle/rows/", "lies in the bundle"),
        (".", "is no dataset"),
        ("..", "is no dataset"),
        ("taken.csv", "taken.csv: is there and no file"),
    ],
)
def test_rows_go_into_no_folder_of_others(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(saved, home / "bundle")
    (home / "taken.csv").mkdir()
    monkeypatch.chdir(home)
    before = sorted(tmp_path.rglob("*"))
    wanted = DatasetRequest(
        bundle=home / "bundle", rows=5, seed=0, out=out, format=None, resume="if-possible", plan=PlanRequest()
    )
    with pytest.raises(ConfigError, match=message):
        write_rows(wanted, overrides=[], audience=audience(), compute=this_process)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_long_url_is_no_name_of_a_file() -> None:
    assert single_file(f"s3://KEY:SECRET@bucket/rows?endpoint_override={'h' * 400}", None) is None


@pytest.mark.parametrize("out", ["file://data/rows.csv", "file:///data/rows.csv?y=1", "file:///data%00/rows.csv"])
def test_a_file_url_that_names_no_path_is_refused(out: str) -> None:
    """With two slashes, the rows of data/rows.csv went to /rows.csv."""
    with pytest.raises(ConfigError, match="file://"):
        single_file(out, None)
    assert single_file("file:///data/my%20rows.csv", None) == Path("/data/my rows.csv")
