"""Evaluator actors: a killed one catches up from disk to the same scores, a hopeless one is given up."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from difflm.artifacts.dataset import DATA, Dataset
from difflm.artifacts.storage import LocalStore
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.testing.processes import kill_pid, pids_by_command, wait_until
from difflm.testing.tables import mixed_table
from difflm_evaluators.columns.real_tables import write_real
from difflm_evaluators.live.actors import EvaluatorActors
from difflm_evaluators.live.live import LiveConfig, Scored
from difflm_evaluators.live.part_scorer import PartScorer

pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("cluster")]

CONFIG = LiveConfig(interval_s=0.1, niceness=0, attempts=1, timeout_s=200, max_queries=300)


def test_a_killed_evaluator_catches_up_and_a_lost_part_ends_it(tmp_path: Path) -> None:
    train = mixed_table(80)
    schema = infer_schema(train)
    write_real(tmp_path, conform_table(train, schema), conform_table(mixed_table(40, seed=1), schema), schema)
    dataset = Dataset(store=LocalStore(tmp_path / "rows"))
    rows = conform_table(mixed_table(600, seed=2), schema)
    parts = [(start, start + 10) for start in range(0, 600, 10)]
    for start, stop in parts:
        dataset.commit(start, stop, rows.slice(start, 10), account={})
    restarts: list[str] = []
    actors = EvaluatorActors(dataset, tmp_path, CONFIG, rows=600, on_restart=restarts.append)
    actors.give(parts[:40])

    def scored_before() -> Scored | None:
        return actors.poll()

    early = wait_until(scored_before, what="the first scores", timeout_s=200)
    assert early is not None
    assert 0 < early.rows <= 400
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    (pid,) = own.intersection(pids_by_command("ray::EvaluatorActor"))
    kill_pid(pid)
    actors.give(parts[40:])
    left: list[int] = []
    final = actors.finish(left.append)
    assert final is not None
    assert len(restarts) == 1
    undisturbed = PartScorer(dataset, tmp_path, share=300 / 600, seed=CONFIG.seed)
    undisturbed.take(parts)
    assert final == undisturbed.score()  # to the last bit

    (tmp_path / "rows" / DATA / "part-000000020-000000030.parquet").unlink()
    actors.give([(20, 30)])
    assert actors.finish(left.append) is None
    assert actors.failure is not None
    assert "was committed and is not there" in actors.failure
    assert actors.poll() is None
