"""Script: one rank of a gloo group that trains on every engine, resumed half-way, and dumps what it saw.

Arguments: rank, world size, rendezvous file, output folder. Writes `<engine>-<rank>.json` per engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from difflm.runtime.deepspeed_engine import DeepSpeedEngine, DeepSpeedEngineConfig
from difflm.testing.toy_task import ToyConfig, ToyTask
from difflm.training.engine import Engine, PlainEngine
from difflm.training.loop import Event, LoopConfig, run_loop

LOOP = LoopConfig(
    learning_rate=1e-2, warmup_steps=2, evaluate_every=4, checkpoint_every=4, log_every=1, gradient_accumulation=2,
    gradient_clip=0.5,
)  # fmt: skip
STEPS = 12
SEED = 11


class Stopped(Exception):
    """The run ends here on purpose, to be resumed."""


class FolderIO:
    """A `LoopIO` on a folder that all ranks share."""

    def __init__(self, folder: Path, *, stop_at: int | None = None, resume: bool = False) -> None:
        self.folder, self.stop_at, self.resume = folder, stop_at, resume
        self.events: list[Event] = []

    def resume_from(self) -> Path | None:
        return max(self.folder.glob("step-*"), default=None) if self.resume else None

    def started(self, step: int) -> None:
        """Nothing of an earlier life is kept in memory."""

    def log(self, event: Event) -> None:
        self.events.append(event)

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        directory = self.folder / f"step-{step:08d}"
        directory.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        write(directory)
        dist.barrier()
        if step == self.stop_at:
            raise Stopped


def build(name: str, task: ToyTask, precision: str) -> Engine:
    options: dict[str, Any] = {
        "device": torch.device("cpu"),
        "weight_decay": LOOP.weight_decay,
        "gradient_clip": LOOP.gradient_clip,
        "gradient_accumulation": LOOP.gradient_accumulation,
        "precision": precision,
    }
    if name.startswith("plain"):
        return PlainEngine(task.module, **options)
    config = DeepSpeedEngineConfig(
        zero_stage=int(name[4]),  # type: ignore[arg-type]
        weights="bfloat16" if "weights16" in name else "float32",
        offload_optimizer="offload" in name,
    )
    return DeepSpeedEngine(task.module, config, **options)


def frozen_digest(task: ToyTask, engine: Engine) -> str:
    """Hash of the frozen parameters' bytes, gathered where they are sharded."""
    frozen = [p for p in task.module.parameters() if not p.requires_grad]
    if engine.lockstep:
        import deepspeed

        with deepspeed.zero.GatheredParameters(frozen):
            content = b"".join(p.detach().float().numpy().tobytes() for p in frozen)
    else:
        content = b"".join(p.detach().float().numpy().tobytes() for p in frozen)
    return hashlib.sha256(content).hexdigest()


def run(name: str, folder: Path) -> dict[str, Any]:
    """Train to the end; for resumable names, once whole and once stopped at step 8 and resumed."""
    precision = "bfloat16" if "autocast" in name else "float32"
    seen: dict[str, Any] = {}
    for life, io in {
        "whole": FolderIO(folder / name / "whole"),
        "stopped": FolderIO(folder / name / "parts", stop_at=8),
        "resumed": FolderIO(folder / name / "parts", resume=True),
    }.items():
        task = ToyTask(ToyConfig(steps=STEPS, validation_batches=3), seed=SEED)
        expected_frozen = hashlib.sha256(
            b"".join(p.detach().numpy().tobytes() for p in task.module.parameters() if not p.requires_grad)
        ).hexdigest()
        engine = build(name, task, precision)
        try:
            result = run_loop(task, engine, LOOP, io, seed=SEED)
        except Stopped:
            result = None
        else:
            digest = hashlib.sha256()
            for key, tensor in sorted(result.best_tensors.items()):
                digest.update(key.encode() + tensor.float().numpy().tobytes())
            seen[life] = {
                "best": digest.hexdigest(),
                "best_names": sorted(result.best_tensors),
                "best_step": result.best_step,
                "frozen_unchanged": frozen_digest(task, engine) == expected_frozen,
            }
        seen.setdefault(life, {})["curve"] = [
            {key: event[key] for key in event.keys() & {"kind", "step", "loss", "lr", "grad_norm", "metrics"}}
            for event in io.events
        ]
        if isinstance(engine, DeepSpeedEngine):
            engine.close()
    return seen


def main() -> None:
    rank, world_size, rendezvous, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    for name in sys.argv[5:]:
        seen = run(name, output)
        (output / f"{name}-{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
