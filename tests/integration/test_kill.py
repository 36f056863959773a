"""A run that is killed in any stage ends, when it is given again, with the artifacts of an undisturbed one."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from difflm.testing.processes import ChildProcess, assert_no_orphans, kill_pid, marked_pids, pids_by_command, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.distributed]

# Timings, process ids and memory differ from run to run: these files are compared without them, or hold only figures
# of the others.
MEASURED = {"events.jsonl", "summary.json", "report.json"}
TOLD_AGAIN = {"report.md", "report.html"}
CLOCKS = {"seconds", "timings", "loop_seconds", "rss", "pid", "peak_rss_mib"}


def committed(work: Path) -> int:
    """Checkpoints or shards that a stage has finished."""
    checkpoints = list(work.glob("life-*/checkpoints/step-*/loop.json"))
    return len(checkpoints) + len(list(work.glob("shards/entries/part-*.json")))


def contents(root: Path) -> dict[str, dict[str, Any]]:
    """For each artifact the hashes of its files, or what they say without measurements of time and memory."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((root / "artifacts").glob("*/manifest.json")):
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        found[path.parent.name] = {
            name: said(path.with_name(name)) if name in MEASURED else entry["sha256"]
            for name, entry in files.items()
            if name not in TOLD_AGAIN
        }
    return found


def said(path: Path) -> list[Any]:
    """The JSON values of a file without clocks: one, or one per line."""
    text = path.read_text(encoding="utf-8")
    values = text.splitlines() if path.suffix == ".jsonl" else [text]
    return [without_clocks(json.loads(value)) for value in values]


def without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clocks(item) for key, item in value.items() if key not in CLOCKS}
    return [without_clocks(item) for item in value] if isinstance(value, list) else value


def await_commit(child: ChildProcess, experiment: Any, kind: str) -> Path:
    """Wait until the stage that makes ``kind`` has committed something; return its work folder."""

    def under_way() -> bool:
        return any(committed(work) > 0 for work in (experiment.root / "work").glob(f"{kind}-*"))

    wait_until(under_way, what=f"the first commit of {kind}", timeout_s=300, alive=child.running)
    (work,) = (experiment.root / "work").glob(f"{kind}-*")
    return Path(work)


def kill_worker(child: ChildProcess, experiment: Any, kind: str, worker: str) -> None:
    """Kill a worker of the stage that makes ``kind`` once it has committed something, and wait until it goes on."""
    work = await_commit(child, experiment, kind)
    own = set(marked_pids(child.marker))
    workers = [pid for pid in pids_by_command(worker) if pid in own]
    assert workers, f"no process called {worker}"
    kill_pid(workers[0])
    before = committed(work)
    wait_until(
        lambda: not work.exists() or committed(work) > before or newer(work),
        what=f"{kind} to go on without its worker",
        timeout_s=300,
        alive=child.running,
    )


def newer(work: Path) -> bool:
    """Whether anything in a work folder was written within the last seconds."""
    times = [path.stat().st_mtime for path in work.rglob("*.json*")]
    return bool(times) and max(times) > time.time() - 1


def test_killed_over_and_over_it_ends_with_the_same_artifacts(
    request: pytest.FixtureRequest, untouched: Any, tmp_path: Path
) -> None:
    # A worker, then the driver; the second life starts at once, beside what is left of the processes of the first, and
    # loses a worker, too. The stages that train share one loop, whose killed workers tests/distributed compares bit for
    # bit; a driver that is killed while rows are made is in test_synthesize.py.
    def life(name: str) -> ChildProcess:
        command, log = [sys.executable, "-m", "difflm_jobs", "run", "tiny.yaml"], tmp_path / f"{name}.log"
        return ChildProcess.start(command, output=log, environment=untouched.environment(), folder=untouched.folder)

    first = life("first")
    kill_worker(first, untouched, "decoder", "ray::RayTrainWorker")
    await_commit(first, untouched, "autoencoder")
    kill_pid(first.process.pid)
    first.wait(timeout_s=60)
    assert not list((untouched.root / "artifacts").glob("autoencoder-*")), "it was finished before the kill"
    second = life("second")
    kill_worker(second, untouched, "synthetic", "ray::MapWorker")
    assert second.wait(timeout_s=300) == 0, second.tail()
    undisturbed = request.getfixturevalue("undisturbed")  # asked for now: another process may be making it meanwhile
    assert contents(untouched.root) == contents(undisturbed.root)
    for child in (first, second):
        assert_no_orphans(child.marker)
    assert [path.name for path in (untouched.root / "artifacts").glob(".*")] == []
