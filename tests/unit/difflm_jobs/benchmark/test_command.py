"""The command from outside: killed and begun again, with rows made elsewhere; and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from difflm.errors import ConfigError
from difflm.testing.processes import wait_until
from difflm_jobs.benchmark.run import read_given

COUNTING = """
import os, pathlib, time

def fit(train, job):
    done = pathlib.Path({done!r})
    done.write_text(done.read_text() + job["method"] + " " if done.exists() else job["method"] + " ")
    if job["method"] == "second" and not pathlib.Path({go!r}).exists():
        pathlib.Path({pid!r}).write_text(str(os.getpid()))
        time.sleep(1000)
    return train

def sample(model, rows, job):
    return model.sample(rows, replace=True, random_state=job["seed"])
"""


def _pid(path: str) -> int:
    """Read the number of the process that waits; 0 before it is there."""
    return int(Path(path).read_text() or 0) if Path(path).exists() else 0


def _runs(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def test_a_killed_benchmark_goes_on_and_leaves_no_process_behind(people: Path, tmp_path: Path) -> None:
    files = {name: str(tmp_path / name) for name in ("done", "go", "pid")}
    (tmp_path / "counting.py").write_text(COUNTING.format(**files))
    method = f"{{title: T, python: '{sys.executable}', adapter: counting.py}}"
    (tmp_path / "mine.yaml").write_text(f"methods: {{first: {method}, second: {method}}}")
    arguments = ["benchmark", str(people), "--target", "paid", "--methods", "first,second", "--count", "40"]
    arguments += ["--minutes", "5", "--method-file", str(tmp_path / "mine.yaml"), "--runs", str(tmp_path / "runs")]
    arguments += ["--rows", f"theirs={people}"]
    light = ("detection", "fidelity", "utility", "membership")
    arguments += ["--no-protocol", *(part for name in light for part in ("--set", f"evaluation.{name}=null"))]
    command = [sys.executable, "-m", "difflm_jobs", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pid = wait_until(
            lambda: _pid(files["pid"]), what="the second method", timeout_s=600, alive=lambda: process.poll() is None
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_until(gone, what="the end of the method's process", timeout_s=60)
    folder = tmp_path / "runs" / "people-benchmark"
    states = {each["name"]: each["cells"] for each in json.loads((folder / "benchmark.json").read_bytes())["methods"]}
    assert [cell["reason"] for cell in states["first"]] == [None]  # the page was there after the first cell
    Path(files["go"]).touch()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(files["done"]).read_text().split() == ["first", "second", "second"]
    found = json.loads((folder / "benchmark.json").read_bytes())
    assert [method["name"] for method in found["methods"]] == ["first", "second", "theirs"]
    assert all(cell["reason"] is None for method in found["methods"] for cell in method["cells"])
    assert found["methods"][2]["means"]["exact_copy_share"]["mean"] > 0
    assert found["methods"][0]["means"]["rows_per_second"]["seeds"] == 1
    page = (folder / "benchmark.html").read_text()
    assert "Benchmark of people" in page
    assert (folder / "compare.html").is_file()


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("rows.csv", "expected a name and a file, such as --rows TabDiff=rows.csv"),
        ("cart=rows.csv", "'cart' is among --methods; give the rows another name"),
        ("TabDiff=nowhere.csv", "nowhere.csv: no such file"),
    ],
)
def test_given_rows_are_checked_first(pair: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_given([pair], ["cart"])


def test_several_files_of_one_name_are_seeds(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    found = read_given([f"TabDiff={tmp_path / name}" for name in ("a.csv", "b.csv")], ["cart"])
    assert found == {"TabDiff": [tmp_path / "a.csv", tmp_path / "b.csv"]}
