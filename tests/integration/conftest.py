"""The command line in this process and outside it, and an experiment so small that every stage takes seconds."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from filelock import FileLock

from difflm.runtime.compute import LocalCompute
from difflm_jobs.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]

LOOP = "{evaluate_every: 50, checkpoint_every: 20, log_every: 5, precision: float32}"

CONFIG = f"""
name: tiny
data: {{train: people.csv, target: label}}
decoder: {{hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64}}
decoder_fit: {{steps: 200, batch_size: 32, copied_below: 0.999, clean_share: 0.1, validation_records: 40, loop: {LOOP}}}
autoencoder:
  encoder: {{hidden_size: 16, layers: 1, heads: 2}}
  steps: 200
  batch_size: 32
  loop: {LOOP}
prior: {{steps: 400, width: 16, blocks: 1, batch_size: 32, loop: {LOOP}}}
sampling: {{steps: 5, precision: float32}}
rows: 300
evaluation:
  detection: {{seeds: [0], threads: 1}}
  fidelity: {{threads: 1}}
  utility: {{seeds: [0], threads: 1}}
  privacy: {{threads: 1}}
  membership: {{threads: 1}}
  projection: {{max_points: 60}}
runtime:
  workers: {{num_workers: 1, cpus_per_worker: 1}}
  cluster: {{num_cpus: 2}}
  encoding: {{rows_per_shard: 100, pool: {{max_actors: 1}}}}
  synthesis: {{rows_per_shard: 10, pool: {{max_actors: 1}}}}
"""


def write_experiment(folder: Path) -> Path:
    """people.csv and tiny.yaml in ``folder``; returns the configuration's path."""
    draw = random.Random(1)
    lines = ["age,city,income,member,label"]
    for _ in range(400):
        age, noise = draw.randint(18, 80), draw.gauss(0, 300)
        income = "" if draw.random() < 0.05 else f"{age * 100 + noise:.2f}"
        label = "high" if age * 100 + noise > 4500 else "low"
        lines.append(f"{age},{draw.choice(['Rome', 'Oslo', 'Lima'])},{income},{draw.choice(['yes', 'no'])},{label}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "people.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "tiny.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def difflm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ended]:
    """`difflm("run", "table.csv")` in an empty folder; returns the exit code and both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["difflm", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Ended(code=int(caught.value.code or 0), out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    """A local Ray of this process, on which all verbs called by `difflm` then work, and which they leave running.

    For tests of what a verb does; that a command starts Ray and leaves nothing behind is shown by those that are
    called in processes of their own. One CPU: a worker takes seconds to start, and tiny maps need no second one.
    """
    from difflm.runtime.cluster import ClusterConfig, start_or_connect, stop

    stop()  # tests/distributed keep theirs until the session ends, with the environment of then
    start_or_connect(ClusterConfig(address="local", num_cpus=1, object_store_mib=128))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difflm.runtime.cluster.stop", lambda: None)
        yield
    stop()


def child_environment() -> dict[str, str]:
    """The environment for a command line in another process: the source roots, no cluster of anybody else."""
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "RAY_worker_niceness": "0", "PYTHONPATH": roots, "COLUMNS": "160"}


def call(folder: Path, *arguments: str) -> Ended:
    """The command line in a process of its own, in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-m", "difflm_jobs", *arguments],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True)
class Experiment:
    """A folder with a tiny experiment, and the ways to run it there."""

    folder: Path

    @property
    def root(self) -> Path:
        """Where its artifacts are."""
        return self.folder / "runs" / "tiny"

    def environment(self) -> dict[str, str]:
        """The environment in which verbs run."""
        return child_environment()

    def call(self, *arguments: str) -> Ended:
        """Any verb, in the experiment's folder."""
        return call(self.folder, *arguments)

    def artifact(self, kind: str) -> Path:
        """The only artifact of a kind."""
        (found,) = (self.root / "artifacts").glob(f"{kind}-*")
        return found


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A tiny experiment that ran to its end once; look at it, and change nothing.

    All processes of the tests share it: the first that asks runs it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    experiment = Experiment(folder)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").is_file():
            folder.mkdir(exist_ok=True)
            write_experiment(folder)
            ended = experiment.call("run", "tiny.yaml")
            assert ended.code == 0, ended.out + ended.err
            (folder / "complete").touch()
    return experiment


@pytest.fixture
def untouched(tmp_path: Path) -> Experiment:
    """The same experiment before its first run."""
    write_experiment(tmp_path)
    return Experiment(tmp_path)


def without_ray(patch: pytest.MonkeyPatch) -> None:
    """Have verbs train and map in this process: what comes of it does not depend on where, and is there much sooner."""
    patch.setattr("difflm.runtime.compute.RayCompute", LocalCompute)
    patch.setattr("difflm.runtime.cluster.start_or_connect", lambda config: None)
    patch.setattr("difflm.runtime.cluster.stop", lambda: None)


@pytest.fixture
def locally(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs of this test compute in this process."""
    without_ray(monkeypatch)


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[pytest.MonkeyPatch]:
    """Training and mapping in this process, with one thread."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        patch.setenv("COLUMNS", "160")
        torch.set_num_threads(1)
        yield patch
    torch.set_num_threads(threads)


SMALL = {"hidden_size": 32, "layers": 1, "heads": 2}
FAST_LOOP = {"precision": "float32", "evaluate_every": 50}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Settings with which what the pages train takes seconds."""
    return {
        "decoder": {**SMALL, "intermediate_size": 64},
        "decoder_fit": {"steps": 150, "batch_size": 32, "loop": FAST_LOOP},
        "autoencoder": {"encoder": SMALL, "steps": 40, "loop": FAST_LOOP},
        "prior": {"steps": 60, "width": 16, "blocks": 1, "loop": FAST_LOOP},
        "sampling": {"steps": 4, "precision": "float32"},
        "calibration": {"rows": 64},
        "critic": {"trees": 0},
        "evaluation": {
            "fidelity": None,
            "membership": None,
            "projection": None,
            "utility": {"seeds": [0], "threads": 1},
        },
    }


def write_people(folder: Path) -> None:
    """The tables about people that the pages name."""
    draw = random.Random(1)

    def row(gaps: float = 0.0) -> str:
        age = draw.randint(18, 80)
        cells = [str(age), draw.choice(["Rome", "Oslo", "Lima"])]
        label = ">50K" if age + draw.gauss(0, 9) > 45 else "<=50K"
        return ",".join([*("" if draw.random() < gaps else cell for cell in cells), label])

    for name, count, gaps in [
        ("people.csv", 300, 0.05),
        ("unseen.csv", 80, 0.05),
        ("theirs.csv", 80, 0.05),
        ("rows.csv", 80, 0.05),
        ("train.csv", 300, 0.05),
        ("test.csv", 80, 0.05),
        ("some.csv", 4, 0.0),
        ("two.csv", 2, 0.0),
        ("gaps.csv", 20, 0.3),
    ]:
        lines = ["age,city,income", *(row(gaps) for _ in range(count))]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables that the pages name."""
    from difflm import write_table

    folder = tmp_path_factory.mktemp("docs")
    write_people(folder)
    write_table(pandas.read_csv(folder / "people.csv"), f"sqlite:///{folder / 'sales.db'}?table=people")
    return folder
