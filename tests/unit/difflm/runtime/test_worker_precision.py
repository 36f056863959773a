"""One precision for all workers of a job: how they agree, and what keeps it when a job goes on elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from difflm.models.precision import Precision, PrecisionSetting
from difflm.runtime import training_worker
from difflm.runtime.cluster import ClusterContext
from difflm.runtime.compute import LocalCompute
from difflm.runtime.training import PlainEngineConfig, TrainingJob, WorkersConfig
from difflm.runtime.training_worker import Peers, WorkerJob, agreed_precision
from difflm.runtime.work_folder import WorkFolder
from difflm.runtime.worker_precision import worker_precision
from difflm.testing.toys import TOY, ToyConfig, ToyTask
from difflm.training.loop import LoopConfig
from difflm.training.task import TaskSpec, TrainingTask


class Group(Peers):
    """This process as rank 0 of a group whose other ranks are fast in the given precisions."""

    def __init__(self, *others: Precision) -> None:
        super().__init__()
        self.others = others

    def gather(self, own: object) -> list[Any]:
        return [own, *((None, fast) for fast in self.others)]


def agreed(job: WorkerJob, monkeypatch: pytest.MonkeyPatch, own: Precision, *others: Precision) -> Precision:
    monkeypatch.setattr(training_worker, "fast_precision", lambda device: own)
    return agreed_precision(job, Group(*others), torch.device("cpu"))


def job(folder: Path, setting: PrecisionSetting = "auto", **config: Any) -> WorkerJob:
    return WorkerJob(
        spec=TaskSpec(factory=TOY, config=config, inputs={}, seed=1),
        loop=LoopConfig(precision=setting),
        engine=PlainEngineConfig(),
        threads=1,
        work=WorkFolder(folder),
    )


@pytest.mark.parametrize(
    ("fast", "chosen"),
    [
        (("bfloat16",), "bfloat16"),
        (("float32",), "float32"),
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("bfloat16", "float32"), "float32"),
        (("float32", "bfloat16"), "float32"),
    ],
)
def test_all_ranks_train_in_what_every_one_is_fast_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: tuple[Precision, ...], chosen: Precision
) -> None:
    assert agreed(job(tmp_path), monkeypatch, *fast) == chosen


@pytest.mark.parametrize("recorded", ["float32", "bfloat16"])
def test_a_resumed_training_keeps_the_precision_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Precision
) -> None:
    facts = {"format_version": 2, "step": 4, "best_step": 4, "best_objective": None, "seconds": 1.0}
    for step, precision in (("00000004", "none of these"), ("00000008", recorded)):
        folder = tmp_path / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "loop.json").write_text(json.dumps({**facts, "precision": precision}))
    other: Precision = "float32" if recorded == "bfloat16" else "bfloat16"
    assert agreed(job(tmp_path), monkeypatch, other) == recorded


def test_a_setting_stands_on_any_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agreed(job(tmp_path, "bfloat16"), monkeypatch, "float32") == "bfloat16"


@pytest.mark.parametrize("limit", ["AVX2", "ALL"])
def test_a_training_says_what_was_chosen_and_its_task_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    told: list[TaskSpec] = []

    def build(spec: TaskSpec, device: torch.device) -> TrainingTask:
        told.append(spec)
        return ToyTask(ToyConfig(steps=4), seed=1)

    monkeypatch.setattr(training_worker, "build_task", build)
    training = TrainingJob(
        name="toy",
        spec=TaskSpec(factory=TOY, config={"loop": {"precision": "auto", "log_every": 3}}, inputs={}, seed=1),
        loop=LoopConfig(evaluate_every=2),
        engine=PlainEngineConfig(),
        workers=WorkersConfig(),
        work_dir=tmp_path / "work",
        output_dir=tmp_path / "output",
    )
    chosen = "float32" if limit == "AVX2" else "bfloat16"
    assert LocalCompute().train(training).precision == chosen
    assert told[0].config == {"loop": {"precision": chosen, "log_every": 3}}
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert summary["training"]["precision"] == chosen


def test_on_a_local_cluster_this_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ClusterContext(local=True, address="", num_cpus=1, num_gpus=0, nodes=1)
    monkeypatch.setattr("difflm.runtime.worker_precision.current_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert worker_precision("auto", cpus=1, gpus=0, timeout_s=1) == "float32"
    assert worker_precision("bfloat16", cpus=1, gpus=0, timeout_s=1) == "bfloat16"
