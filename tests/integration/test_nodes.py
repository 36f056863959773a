"""A synthesis on several nodes, one of which is lost in the middle, gives the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path

import pytest
from pyarrow.csv import write_csv

from difflm.artifacts.dataset import DATASET_MANIFEST
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import committed, part_hashes, untrained_stages, write_undisturbed
from difflm.testing.clusters import RayNode, RayNodes, ray_nodes
from difflm.testing.processes import ChildProcess, kill_pid, wait_until
from difflm.testing.tables import mixed_table

pytestmark = [pytest.mark.integration, pytest.mark.distributed]

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS, PER_SHARD, PARTS = 2000, 10, 200
SAMPLING = SamplingConfig(steps=3, precision="float32", text_tokens=8)


def synthesize(bundle: Path, out: Path, train: Path) -> list[str]:
    settings = [
        "--set",
        "sampling={steps: 3, precision: float32, text_tokens: 8}",
        "--set",
        f"runtime.synthesis.rows_per_shard={PER_SHARD}",
    ]
    watched = ["--evaluate-against", str(train), "--set", "live.actors=2"]
    return ["synthesize", str(bundle), "--rows", str(ROWS), "--out", str(out), *settings, *watched]


def submit(nodes: RayNodes, log: Path, *verb: str) -> ChildProcess:
    command = [sys.executable, "-m", "difflm_jobs", "submit", "--address", nodes.dashboard, *verb]
    roots = os.pathsep.join(("platform", "evaluators", "jobs"))
    return ChildProcess.start(command, output=log, environment={**nodes.environment, "PYTHONPATH": roots})


def metrics(nodes: RayNodes) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{nodes.metrics_port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_a_lost_node_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    bundle = untrained_stages(tmp_path / "stages", mixed_table(40)).bundle
    out, train = tmp_path / "rows", tmp_path / "train.csv"
    write_csv(mixed_table(40), train)
    with ray_nodes(1, 1, 1) as nodes:
        job = submit(nodes, tmp_path / "job.log", *synthesize(bundle, out, train))
        # Whichever node is at work by then: where one starts late, the others may be done before it begins.
        lost = wait_until(
            lambda: next((node for node in nodes.others if unpacked(node)), None) if committed(out, 30) else None,
            what="parts, and the bundle on another node",
            timeout_s=420,
            alive=job.running,
        )
        assert not committed(out, PARTS - 1), "it was done before the kill"
        kill_pid(lost.raylet())
        wait_until(lambda: "ray_difflm_rows" in metrics(nodes), what="metrics", timeout_s=60)
        assert job.wait(timeout_s=400) == 0, job.tail()
    assert f"{ROWS:,} rows from" in job.tail()
    write_undisturbed(tmp_path / "undisturbed", bundle, rows=ROWS, per_shard=PER_SHARD, sampling=SAMPLING)
    evaluation = json.loads((out / DATASET_MANIFEST).read_text(encoding="utf-8"))["totals"]["evaluation"]
    assert evaluation.get("rows") == ROWS, evaluation
    assert evaluation["scores"]["conforming_share"] == 100.0
    assert len(part_hashes(out)) == PARTS
    assert part_hashes(out) == part_hashes(tmp_path / "undisturbed")


def unpacked(node: RayNode) -> list[Path]:
    """The bundle as it arrived on a node."""
    return list(node.temporary.glob("difflm-*/*/bundle.json"))
