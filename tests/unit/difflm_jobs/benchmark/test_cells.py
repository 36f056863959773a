"""Jobs of methods: rows, what they cost, time limits, failures, and what is found again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.csv
import pytest

from difflm.errors import ConfigError
from difflm.telemetry import Stopwatch
from difflm.testing.gguf_models import save_gguf
from difflm.testing.processes import wait_until
from difflm_jobs.benchmark.cells import Bench, _model_files, _settings, halves, make_rows, score_rows
from difflm_jobs.benchmark.methods import Method, read_methods

Scripted = Callable[[str], Method]
COPYING = """
def fit(train, job):
    return train

def sample(model, rows, job):
    return model.sample(rows, replace=True, random_state=job["seed"])
"""


def test_a_method_makes_rows_which_are_scored_once(bench: Bench, scripted: Scripted) -> None:
    cell = make_rows(bench, scripted(COPYING), seed=1)
    assert cell.reason is None
    assert cell.rows is not None
    rows = pyarrow.csv.read_csv(cell.rows)
    assert rows.column_names == ["age", "height", "city", "paid"]
    assert rows.num_rows == 60
    assert set(rows.column("age").to_pylist()) <= set(bench.table.train.column("age").to_pylist())
    assert cell.facts["phase"] == "done"
    assert set(cell.facts["seconds"]) == {"fitting", "sampling"}
    assert cell.facts["peak_mib"] > 10
    scored = score_rows(bench, cell, real=False)
    assert scored.report is not None
    report = json.loads(scored.report.read_bytes())
    copies = next(entry for entry in report["evaluations"] if entry["name"] == "privacy")["scores"][2]
    assert (copies["name"], copies["value"]) == ("exact_copy_share", 100.0)
    made = scored.report.stat().st_mtime_ns
    again = score_rows(bench, make_rows(bench, scripted(COPYING), seed=1), real=False)
    assert again.report is not None
    assert again.report.stat().st_mtime_ns == made
    assert make_rows(bench, scripted(COPYING), seed=2).identity != cell.identity
    other = replace(bench, minutes=1.0)
    assert make_rows(other, scripted(COPYING), seed=1).identity != cell.identity


def test_beyond_the_minutes_all_processes_of_a_method_are_killed_and_the_cell_says_so(
    bench: Bench, scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "pid"

    class LateOnceBegun(Stopwatch):
        @property
        def seconds(self) -> float:
            return 1e9 if begun.exists() else 0.0

    monkeypatch.setattr("difflm_jobs.benchmark.limited.Stopwatch", LateOnceBegun)
    method = scripted(
        f"""
import os, subprocess, sys

def fit(train, job):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    with open({str(begun)!r} + "~", "w") as file:
        file.write(str(child.pid))
    os.rename({str(begun)!r} + "~", {str(begun)!r})
    child.wait()
"""
    )
    cell = make_rows(bench, method, seed=0)
    assert cell.rows is None
    assert cell.reason == "killed after 10 minutes, while fitting"
    pid = int(begun.read_text())

    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_until(gone, what="the end of the method's child", timeout_s=60)
    begun.unlink()
    assert make_rows(bench, method, seed=0).reason == cell.reason
    assert not begun.exists()  # it was not run again
    assert score_rows(bench, cell, real=False) is cell


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "def fit(train, job):\n    raise ValueError('too few rows')\n",
            "failed while fitting: ValueError: too few rows",
        ),
        (COPYING.replace("model.sample(", "model[['age']].sample("), "failed while sampling: KeyError: 'height'"),
        (COPYING.replace("return model.", "import os; os.kill(os.getpid(), 9)\n    return model."), "ended by SIGKILL"),
        (COPYING.replace("model.sample(", "model.assign(age=None).sample("), "no usable row was made; 60 were not"),
    ],
)
def test_a_failure_is_told_and_tried_again(bench: Bench, scripted: Scripted, code: str, said: str) -> None:
    cell = make_rows(bench, scripted(code), seed=0)
    assert cell.reason is not None
    assert said in cell.reason
    assert make_rows(bench, scripted(COPYING), seed=0).reason is None


def test_rows_that_are_not_usable_are_counted_and_what_yields_is_asked_until_there_are_enough(
    bench: Bench, scripted: Scripted
) -> None:
    method = scripted(
        """
TAKES_MISSING = False

def fit(train, job):
    assert not train["height"].isna().any()
    return train

def sample(model, rows, job):
    while True:
        frame = model.head(8).astype({"age": float})
        frame["age"] += 0.2
        frame.loc[0, "city"] = None
        yield frame
"""
    )
    cell = make_rows(bench, method, seed=0)
    assert cell.rows is not None
    rows = pyarrow.csv.read_csv(cell.rows)
    assert rows.num_rows == 60
    assert str(rows.schema.field("age").type) == "int64"
    assert cell.facts["rejected"] == 9
    missing, left_out = cell.facts["notes"]
    assert missing.endswith("missing numbers of 'height' were given its median")
    assert left_out == "9 rows without a value that every training row has were left out"


def test_a_model_that_is_not_there_is_told_and_a_replaced_one_is_another(bench: Bench, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (great,) = read_methods(["great"], overrides=[f"great.model={model}"])
    assert make_rows(bench, great, seed=0).reason == (
        f"great.model: {model}: no such folder; give a hub id or a folder made by save_pretrained"
    )
    hashes = []
    for text in ("{}", '{"model_type": "llama"}'):
        model.mkdir(exist_ok=True)
        (model / "config.json").write_text(text)
        hashes.append(_model_files(great))
    assert hashes[0] != hashes[1]
    (loaded,) = read_methods(["icl"], overrides=[f"icl.model={model}"])
    assert _model_files(loaded)["icl.model"] == hashes[1]["great.model"]
    (asked,) = read_methods(["icl"], overrides=[f"icl.model={model}", "icl.base_url=http://localhost:8000/v1"])
    assert _model_files(asked) == {}


def test_real_rows_are_half_of_the_held_out_ones_scored_against_the_others(bench: Bench) -> None:
    (real,) = read_methods(["real"], overrides=())
    first, second = halves(bench.table.test, 0)
    assert first.num_rows + second.num_rows == bench.table.test.num_rows
    cell = score_rows(bench, make_rows(bench, real, seed=0), real=True)
    assert cell.report is not None
    report = json.loads(cell.report.read_bytes())
    assert report["rows"]["synthetic"] == first.num_rows
    assert report["rows"]["test"] == second.num_rows


@pytest.mark.parametrize("linked", ["the folder", "a file"])
def test_links_that_somebody_else_put_in_the_place_of_the_table_lead_nowhere(
    bench: Bench, tmp_path: Path, linked: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("train.csv", "real-0.csv"):
        (home / name).write_text("mine")
    if linked == "the folder":
        shutil.rmtree(bench.folder)
        bench.folder.symlink_to(home)
    else:
        for name in ("train.csv", "real-0.csv"):
            (bench.folder / name).unlink(missing_ok=True)
            (bench.folder / name).symlink_to(home / name)
    assert bench.table.write(bench.folder) == bench.hashes
    (real,) = read_methods(["real"], overrides=())
    make_rows(bench, real, 0)
    assert [(home / name).read_text() for name in ("train.csv", "real-0.csv")] == ["mine"] * 2


@pytest.mark.parametrize("names", [["people.csv"], ["train.csv", "test.csv"], ["train.csv", "schema.json", "notes"]])
def test_a_folder_of_tables_that_no_benchmark_wrote_is_not_replaced(bench: Bench, names: list[str]) -> None:
    """`--out .` took the folder `table` with all it held, the table of the benchmark itself, too."""
    shutil.rmtree(bench.folder)
    bench.folder.mkdir()
    for name in names:
        (bench.folder / name).write_text("mine")
    with pytest.raises(ConfigError, match="table: is none of a benchmark, and would be replaced"):
        bench.table.write(bench.folder)
    assert {path.name: path.read_text() for path in bench.folder.iterdir()} == dict.fromkeys(names, "mine")


def test_rows_that_cannot_be_scored_say_why(bench: Bench, tmp_path: Path) -> None:
    from difflm_jobs.benchmark.cells import Cell

    (tmp_path / "theirs.csv").write_text("age,city\n30,Rome\n")
    cell = Cell(method="theirs", seed=0, rows=tmp_path / "theirs.csv", identity="0")
    reason = score_rows(bench, cell, real=False).reason
    assert reason is not None
    assert reason.startswith("its rows cannot be scored: the table has no column 'height'")


def test_trees_run_as_a_method_and_hand_out_real_values(bench: Bench) -> None:
    (cart,) = read_methods(["cart"], overrides=["cart.min_leaf=10"])
    cell = make_rows(bench, cart, seed=0)
    assert cell.reason is None
    assert cell.rows is not None
    rows = pyarrow.csv.read_csv(cell.rows)
    for name in rows.column_names:
        assert set(rows.column(name).to_pylist()) <= set(bench.table.train.column(name).to_pylist())


@pytest.mark.parametrize("name", ["smote", "arf"])
def test_methods_of_others_run_where_their_environment_is(bench: Bench, name: str) -> None:
    """Their environments are not made here, which takes minutes and a network: difflm benchmark makes them."""
    from difflm_jobs.benchmark.environments import COMPLETE, cache_folder, environment_folder

    (method,) = read_methods([name], overrides=[f"{name}.{'neighbours=3' if name == 'smote' else 'trees=5'}"])
    assert method.environment is not None
    folder = environment_folder(method.environment, cache_folder(None))
    if not (folder / COMPLETE).is_file():
        pytest.skip(
            f"NOT TESTED: {name} has no environment in {folder}; difflm benchmark TABLE --methods {name} makes it"
        )
    cell = make_rows(replace(bench, cache=cache_folder(None)), method, seed=0)
    assert cell.reason is None
    assert cell.rows is not None
    assert pyarrow.csv.read_csv(cell.rows).num_rows == 60


def test_a_job_is_given_a_folder_that_any_library_loads_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a folder of its own, and GGUF files and packages are this platform's names."""
    monkeypatch.setenv("DIFFLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    save_gguf(tmp_path / "tiny.gguf")
    (great, unpacked) = (
        read_methods(["great"], overrides=[f"great.model={name}"])[0] for name in ("model", "tiny.gguf")
    )
    assert _settings(great)["model"] == str(tmp_path / "model")
    folder = Path(_settings(unpacked)["model"])
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "config.json").is_file()
    (icl,) = read_methods(["icl"], overrides=["icl.model=model"])
    assert _settings(icl)["model"] == "model"
    (own,) = read_methods(["llm"], overrides=["llm.model=tiny.gguf"])
    assert _settings(own)["model"] == str(tmp_path / "tiny.gguf")
