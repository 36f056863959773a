"""A run that is killed in any stage ends, when it is given again, with the artifacts of an undisturbed one."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflm.testing.processes import ChildProcess, assert_no_orphans, kill_pid, marked_pids, pids_by_command, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.distributed]

# Timings, process ids and memory differ from run to run, and these files hold them.
MEASURED = {"events.jsonl", "summary.json", "report.json", "report.md", "report.html"}


def committed(work: Path) -> int:
    """Checkpoints or shards that a stage has finished."""
    return len(list(work.glob("checkpoints/step-*/loop.json"))) + len(list(work.glob("shards/part-*.json")))


def contents(root: Path) -> dict[str, dict[str, str]]:
    """For each artifact the hashes of its files, but for those that hold measurements."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((root / "artifacts").glob("*/manifest.json")):
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        found[path.parent.name] = {name: entry["sha256"] for name, entry in files.items() if name not in MEASURED}
    return found


def kill_during(experiment: Any, kind: str, worker: str, log: Path) -> None:
    """Run until the stage that makes ``kind`` has committed something; then kill a worker, and then the driver."""
    child = ChildProcess.start(experiment.command(), output=log, environment=experiment.environment())

    def under_way(more_than: int = 0) -> Callable[[], bool]:
        return lambda: any(committed(work) > more_than for work in (experiment.root / "work").glob(f"{kind}-*"))

    wait_until(under_way(), what=f"the first commit of {kind}", timeout_s=300, alive=child.running)
    own = set(marked_pids(child.marker))
    workers = [pid for pid in pids_by_command(worker) if pid in own]
    assert workers, f"no process called {worker}"
    kill_pid(workers[0])
    (work,) = (experiment.root / "work").glob(f"{kind}-*")
    before = committed(work)
    wait_until(
        lambda: not work.exists() or committed(work) > before or newer(work),
        what=f"{kind} to go on without its worker",
        timeout_s=300,
        alive=child.running,
    )
    kill_pid(child.process.pid)
    child.wait(timeout_s=60)
    assert_no_orphans(child.marker)


def newer(work: Path) -> bool:
    """Whether anything in a work folder was written within the last seconds."""
    times = [path.stat().st_mtime for path in work.rglob("*.json*")]
    return bool(times) and max(times) > time.time() - 1


def test_killed_in_every_stage_it_ends_with_the_same_artifacts(
    undisturbed: Any, untouched: Any, tmp_path: Path
) -> None:
    trainer, mapper = "ray::RayTrainWorker", "ray::MapWorker"
    stages = {"decoder": trainer, "autoencoder": trainer, "prior": trainer, "synthetic": mapper}
    for kind, worker in stages.items():
        kill_during(untouched, kind, worker, tmp_path / f"{kind}.log")
        assert not list((untouched.root / "artifacts").glob(f"{kind}-*")), f"{kind} was finished before the kill"
    ended = untouched.call("run", "tiny.yaml")
    assert ended.code == 0, ended.out + ended.err
    assert contents(untouched.root) == contents(undisturbed.root)
    assert [path.name for path in (untouched.root / "artifacts").glob(".*")] == []
