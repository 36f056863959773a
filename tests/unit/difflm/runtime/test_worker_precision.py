"""One precision for all workers of a job: how they agree, and what keeps it when a job goes on elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflm.models.precision import Precision, PrecisionSetting
from difflm.runtime import training_worker
from difflm.runtime.cluster import ClusterContext
from difflm.runtime.training import PlainEngineConfig
from difflm.runtime.training_worker import WorkerJob, _agreed_precision, _build_task
from difflm.runtime.work_folder import WorkFolder
from difflm.runtime.worker_precision import worker_precision
from difflm.training.loop import LoopConfig
from difflm.training.task import TaskSpec

Others = Callable[..., None]


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Others:
    """Make this process rank 0 of a group whose other ranks are fast in the given precisions."""

    def group(own: Precision, *others: Precision) -> None:
        def gather(told: list[Any], mine: Any) -> None:
            told[:] = [mine, *((None, fast) for fast in others)]

        monkeypatch.setattr(training_worker.dist, "get_world_size", lambda: 1 + len(others))
        monkeypatch.setattr(training_worker.dist, "get_backend", lambda: "gloo")
        monkeypatch.setattr(training_worker.dist, "all_gather_object", gather)
        monkeypatch.setattr(training_worker, "fast_precision", lambda device: own)

    return group


def job(folder: Path, setting: PrecisionSetting = "auto", **config: Any) -> WorkerJob:
    return WorkerJob(
        spec=TaskSpec(factory="toy", config=config, inputs={}, seed=1),
        loop=LoopConfig(precision=setting),
        engine=PlainEngineConfig(),
        threads=1,
        work=WorkFolder(folder),
    )


@pytest.mark.parametrize(
    ("fast", "agreed"),
    [
        (("bfloat16",), "bfloat16"),
        (("float32",), "float32"),
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("bfloat16", "float32"), "float32"),
        (("float32", "bfloat16"), "float32"),
    ],
)
def test_all_ranks_train_in_what_every_one_is_fast_in(
    tmp_path: Path, ranks: Others, fast: tuple[Precision, ...], agreed: Precision
) -> None:
    ranks(*fast)
    assert _agreed_precision(job(tmp_path)) == agreed


@pytest.mark.parametrize("recorded", ["float32", "bfloat16"])
def test_a_resumed_training_keeps_the_precision_of_its_checkpoint(
    tmp_path: Path, ranks: Others, recorded: Precision
) -> None:
    for step, precision in (("00000004", "none of these"), ("00000008", recorded)):
        folder = tmp_path / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "loop.json").write_text(json.dumps({"precision": precision}))
    ranks("float32" if recorded == "bfloat16" else "bfloat16")
    assert _agreed_precision(job(tmp_path)) == recorded


def test_a_setting_stands_on_any_processor(tmp_path: Path, ranks: Others) -> None:
    ranks("float32")
    assert _agreed_precision(job(tmp_path, "bfloat16")) == "bfloat16"


def test_the_task_reads_what_was_agreed(tmp_path: Path, ranks: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks("float32")
    seen: list[TaskSpec] = []
    monkeypatch.setattr("difflm.training.task.build_task", lambda spec, device: seen.append(spec))
    _build_task(job(tmp_path, loop={"precision": "auto", "log_every": 3}), "float32")
    assert seen[0].config == {"loop": {"precision": "float32", "log_every": 3}}


def test_on_a_local_cluster_this_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ClusterContext(local=True, address="", num_cpus=1, num_gpus=0, nodes=1)
    monkeypatch.setattr("difflm.runtime.worker_precision.current_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert worker_precision("auto", cpus=1, gpus=0, timeout_s=1) == "float32"
    assert worker_precision("bfloat16", cpus=1, gpus=0, timeout_s=1) == "bfloat16"
