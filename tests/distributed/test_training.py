"""Training jobs on Ray Train: two ZeRO-2 workers, killed worker, killed driver, and errors said in one line."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from difflm.errors import ClusterError, TrainingError
from difflm.runtime.cluster import ClusterContext
from difflm.runtime.training import PlainEngineConfig, TrainingJob, TrainingResult, WorkersConfig, train
from difflm.telemetry import read_events
from difflm.testing.processes import ChildProcess, assert_no_orphans, kill_pid, wait_until

pytestmark = pytest.mark.distributed

SCRIPT = Path(__file__).with_name("run_training.py")
_spec = importlib.util.spec_from_file_location("run_training", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
run_training = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_training)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished job: its result, its curve without clocks, the bytes it left."""

    result: TrainingResult
    curve: list[dict[str, Any]]
    best: bytes
    progress: list[tuple[int, int, Mapping[str, float]]]
    listening: frozenset[str]


def listening() -> set[str]:
    """The addresses at which processes that this one started listen."""
    found: set[str] = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            open_ = process.net_connections(kind="tcp")
            found |= {one.laddr.ip for one in open_ if one.status == psutil.CONN_LISTEN}
    return found


def run(job: TrainingJob) -> Outcome:
    progress: list[tuple[int, int, Mapping[str, float]]] = []
    addresses: set[str] = set()

    def heard(step: int, total: int, metrics: Mapping[str, float]) -> None:
        if not progress:
            addresses.update(listening())
        progress.append((step, total, metrics))

    result = train(job, progress=heard)
    curve = [
        {key: value for key, value in event.items() if key not in ("seconds", "rss")}
        for event in read_events(job.output_dir / "events.jsonl")
    ]
    return Outcome(
        result=result,
        curve=curve,
        best=(job.output_dir / "best.safetensors").read_bytes(),
        progress=progress,
        listening=frozenset(addresses),
    )


def held(scratch: Path) -> list[int]:
    """The pids of both workers once they wait; empty before."""
    files = sorted(scratch.glob("held-*.pid"))
    return [int(path.read_text()) for path in files] if len(files) == 2 else []


def folders(root: Path) -> tuple[Path, Path]:
    work, scratch = root / "work", root / "scratch"
    scratch.mkdir(parents=True)
    return work, scratch


@pytest.fixture(scope="module")
def reference(cluster: ClusterContext, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The job that nobody disturbs."""
    work, scratch = folders(tmp_path_factory.mktemp("reference"))
    (scratch / "go").touch()
    return run(run_training.two_worker_job(work, scratch))


def test_an_undisturbed_job_says_what_it_did(reference: Outcome) -> None:
    result = reference.result
    assert (result.steps, result.stopped, result.resumed_from) == (24, "complete", 0)
    assert [event["step"] for event in reference.curve if event["kind"] == "train"] == list(range(1, 25))
    assert reference.progress[-1][:2] == (24, 24)
    assert {worker["rank"] for worker in result.workers} == {0, 1}
    assert all(isinstance(worker["peak_rss_mib"], float) for worker in result.workers)
    assert set(result.timings) == {"start", "task", "engine", "loop", "finish", "stop"}
    assert 0 < result.loop_seconds < result.total_seconds
    assert result.best_step < 24, "the kills below need a best state that is not simply the last one"


def test_nothing_listens_but_on_this_machine_while_workers_train(reference: Outcome) -> None:
    """torch's own rendezvous listens on every address, for whoever finds its port."""
    assert reference.listening, "Ray's own are among them"
    assert reference.listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_killed_worker_is_replaced_and_the_curve_repeats(reference: Outcome, tmp_path: Path) -> None:
    work, scratch = folders(tmp_path)
    job = run_training.two_worker_job(work, scratch)
    killer = ChildProcess.start(
        [sys.executable, "-c", KILLER, str(scratch)], output=tmp_path / "killer.log"
    )  # a process of its own, since train() blocks this one
    try:
        outcome = run(job)
    finally:
        assert killer.wait(timeout_s=60) == 0, killer.tail()
    assert outcome.result.resumed_from == 12
    assert outcome.curve == reference.curve
    assert outcome.best == reference.best
    assert not list(work.glob("life-*/checkpoints"))


KILLER = """
import sys
from pathlib import Path
from difflm.testing.processes import kill_pid, wait_until
scratch = Path(sys.argv[1])
def held():
    files = sorted(scratch.glob("held-*.pid"))
    return [int(path.read_text()) for path in files] if len(files) == 2 else []
pids = wait_until(held, what="both workers to wait", timeout_s=120)
(scratch / "go").touch()
kill_pid(pids[1])
"""


def test_a_killed_drivers_job_goes_on_undisturbed_by_workers_that_outlive_it(
    reference: Outcome, tmp_path: Path
) -> None:
    """They are frozen when their driver dies, and go on in the middle of the next training: before the end of step 15,
    and two steps before their next checkpoint. Then they end as well.
    """
    work, scratch = folders(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    driver = ChildProcess.start([sys.executable, str(SCRIPT), str(work), str(scratch)], output=tmp_path / "driver.log")
    try:
        wait_until(lambda: held(scratch), what="both workers to wait", timeout_s=120, alive=driver.running)
        for pid in held(scratch):
            os.kill(pid, signal.SIGSTOP)
    finally:
        driver.kill()
    job = run_training.two_worker_job(work, other)
    waker = ChildProcess.start([sys.executable, "-c", WAKER, str(scratch), str(other)], output=tmp_path / "waker.log")
    try:
        outcome = run(job)
    finally:
        assert waker.wait(timeout_s=120) == 0, waker.tail()
        assert_no_orphans(driver.marker)
    assert outcome.result.resumed_from == 12
    assert outcome.curve == reference.curve
    assert outcome.best == reference.best
    assert [path.name for path in work.glob("life-*")] == ["life-000002"]
    again = train(replace(job, output_dir=tmp_path / "elsewhere"))
    assert (again.steps, again.timings) == (24, {}), "a finished job is handed out, not run again"
    assert (tmp_path / "elsewhere" / "best.safetensors").read_bytes() == reference.best


WAKER = """
import os, signal, sys
from pathlib import Path
from difflm.testing.processes import wait_until
old, new = map(Path, sys.argv[1:])
def held(scratch):
    files = sorted(scratch.glob("held-*.pid"))
    return [int(path.read_text()) for path in files] if len(files) == 2 else []
wait_until(lambda: held(new), what="both new workers to wait", timeout_s=120)
(old / "go").touch()
for pid in held(old):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
def alive(pid):
    return Path(f"/proc/{pid}").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text()
wait_until(lambda: not any(map(alive, held(old))), what="the end of the old workers", timeout_s=100)
(new / "go").touch()
"""


def small_job(root: Path, *, max_failures: int = 0, **toy: Any) -> TrainingJob:
    job = run_training.two_worker_job(root / "work", root)
    spec = replace(job.spec, config={"steps": 6, **toy})
    workers = WorkersConfig(num_workers=1, max_failures=max_failures)
    return replace(job, spec=spec, engine=PlainEngineConfig(), workers=workers)


def test_a_loss_that_is_not_finite_ends_the_job_with_its_step(cluster: ClusterContext, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^loss \[nan\].*at step 3 on rank 0"):
        train(small_job(tmp_path, nan_at_step=2, max_failures=3))


def test_a_worker_that_raises_is_named_in_one_line(cluster: ClusterContext, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"^training toy failed: rank 0: RuntimeError: toy failure at step 2$"):
        train(small_job(tmp_path, raise_at_step=2))


def test_a_work_folder_of_another_job_is_refused(cluster: ClusterContext, tmp_path: Path) -> None:
    job = small_job(tmp_path)
    (tmp_path / "work").mkdir()
    other = replace(job, loop=job.loop.model_copy(update={"learning_rate": 1.0}))
    with pytest.raises(ClusterError, match="64 CPUs and the local cluster has 2"):
        train(replace(job, workers=WorkersConfig(num_workers=64)))
    with pytest.raises(TrainingError, match="differs in loop;"):
        train(other)


def test_kill_pid_of_a_process_that_is_gone_does_nothing(tmp_path: Path) -> None:
    child = ChildProcess.start([sys.executable, "-c", ""], output=tmp_path / "log")
    assert child.wait(timeout_s=30) == 0
    kill_pid(child.process.pid)
