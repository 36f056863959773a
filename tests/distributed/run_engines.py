"""Script: one rank of a gloo group that trains on every engine, resumed half-way, and dumps what it saw.

Arguments: rank, world size, rendezvous file, output folder, names. Writes `<name>-<rank>.json` per name. A name is that
of an engine, which trains the toy; or `mistral-ENGINE-INJECTOR`, whose frozen decoder is a tiny Mistral, perhaps with
`-lora` (adapters on a tiny BERT as the encoder) and `-checkpointing` (the decoder's layers are recomputed) behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from difflm.runtime.deepspeed_engine import DeepSpeedEngine, DeepSpeedEngineConfig
from difflm.testing.toys import ToyConfig, ToyTask
from difflm.training.engine import Engine, PlainEngine
from difflm.training.loop import Event, LoopConfig, LoopResult, run_loop
from difflm.training.task import TaskSpec, TrainingTask, build_task

LOOP = LoopConfig(
    learning_rate=1e-2, warmup_steps=2, evaluate_every=4, checkpoint_every=4, log_every=1, gradient_accumulation=2,
    gradient_clip=0.5,
)  # fmt: skip
STEPS = 12
MISTRAL_LOOP = LOOP.model_copy(update={"evaluate_every": 2, "checkpoint_every": 3, "gradient_accumulation": 1})
MISTRAL_STEPS = 5
SEED = 11
WHOLE_ONLY = {
    *("mistral-zero3-kv_memory", "mistral-zero2-embedding", "mistral-zero3-embedding"),
    "mistral-zero2-embedding-lora",
}


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

    def _meet(self) -> None:
        if dist.is_initialized():
            dist.barrier()

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        directory = self.folder / f"step-{step:08d}"
        directory.mkdir(parents=True, exist_ok=True)
        self._meet()
        write(directory)
        self._meet()
        if step == self.stop_at:
            raise Stopped


def save_mistral(folder: Path) -> None:
    """A tiny Mistral with random weights, the stage folders around it, and a tiny BERT."""
    from difflm.models.decoder import PretrainedDecoderConfig
    from difflm.testing.bundles import untrained_stages
    from difflm.testing.models import save_decoder, save_encoder
    from difflm.testing.tables import mixed_table

    model = save_decoder(folder / "mistral", "mistral")
    decoder = PretrainedDecoderConfig(model=str(model), dtype="float32")
    untrained_stages(folder / "stages", mixed_table(80), decoder=decoder)
    save_encoder(folder / "bert", "bert")


def make_task(name: str, folder: Path) -> TrainingTask:
    """The toy, or an autoencoder around the tiny Mistral."""
    if not name.startswith("mistral"):
        return ToyTask(ToyConfig(steps=STEPS, validation_batches=3), seed=SEED)
    from difflm.models.encoder import CompactEncoderConfig, PretrainedEncoderConfig
    from difflm.models.pretrained import LoraConfig
    from difflm.training.autoencoder_task import AutoencoderConfig

    encoder: CompactEncoderConfig | PretrainedEncoderConfig
    encoder = CompactEncoderConfig(hidden_size=16, layers=1, heads=2, latent_per_slot=2)
    if "lora" in name:
        lora = LoraConfig(rank=2, dropout=0.1)
        encoder = PretrainedEncoderConfig(model=str(folder / "bert"), latent_size=8, lora=lora)
    config = AutoencoderConfig.model_validate(
        {
            "encoder": encoder,
            "injector": {"kind": name.split("-")[2], "hidden_size": 16},
            "kl": {"kind": "adaptive"},
            "gradient_checkpointing": "checkpointing" in name,
            "steps": MISTRAL_STEPS,
            "batch_size": 8,
            "validation_records": 8,
        }
    )
    inputs = {"prepare": str(folder / "stages" / "prepared"), "fit-decoder": str(folder / "stages" / "decoder")}
    spec = TaskSpec(factory="autoencoder", config=config.model_dump(mode="json"), inputs=inputs, seed=SEED)
    return build_task(spec, "cpu")


def loop_of(name: str) -> LoopConfig:
    """The loop of a name: with a Mistral every step costs."""
    return MISTRAL_LOOP if name.startswith("mistral") else LOOP


def build(name: str, task: TrainingTask, precision: str) -> Engine:
    options: dict[str, Any] = {
        "device": torch.device("cpu"),
        "weight_decay": LOOP.weight_decay,
        "gradient_clip": LOOP.gradient_clip,
        "gradient_accumulation": loop_of(name).gradient_accumulation,
        "precision": precision,
    }
    stage = re.search(r"zero(\d)", name)
    if stage is None:
        return PlainEngine(task.module, **options)
    config = DeepSpeedEngineConfig(
        zero_stage=int(stage[1]),  # type: ignore[arg-type]
        weights="bfloat16" if "weights16" in name else "float32",
        offload_optimizer="offload" in name,
    )
    return DeepSpeedEngine(task.module, config, **options)


def frozen_digest(task: TrainingTask, engine: Engine) -> str:
    """Hash of the frozen parameters' bytes, gathered where they are sharded."""
    frozen = [p for p in task.module.parameters() if not p.requires_grad]
    if engine.lockstep:
        import deepspeed

        with deepspeed.zero.GatheredParameters(frozen):
            content = b"".join(p.detach().float().numpy().tobytes() for p in frozen)
    else:
        content = b"".join(p.detach().float().numpy().tobytes() for p in frozen)
    return hashlib.sha256(content).hexdigest()


def train(name: str, folder: Path, io: FolderIO) -> dict[str, Any]:
    """One life of a training: its curve, and of one that was not stopped its best state and the frozen parameters."""
    task = make_task(name, folder)
    expected_frozen = hashlib.sha256(
        b"".join(p.detach().numpy().tobytes() for p in task.module.parameters() if not p.requires_grad)
    ).hexdigest()
    engine = build(name, task, "bfloat16" if "autocast" in name else "float32")
    seen: dict[str, Any] = {}
    try:
        result = run_loop(task, engine, loop_of(name), io, seed=SEED)
    except Stopped:
        pass
    else:
        seen = {
            "best": digest(result),
            "best_names": sorted(result.best_tensors),
            "best_step": result.best_step,
            "frozen_unchanged": frozen_digest(task, engine) == expected_frozen,
        }
    if isinstance(engine, DeepSpeedEngine):
        engine.close()
    seen["curve"] = [
        {key: event[key] for key in event.keys() & {"kind", "step", "loss", "lr", "grad_norm", "metrics"}}
        for event in io.events
    ]
    return seen


def digest(result: LoopResult) -> str:
    """Hash of the best tensors."""
    hashed = hashlib.sha256()
    for key, tensor in sorted(result.best_tensors.items()):
        hashed.update(key.encode() + tensor.float().numpy().tobytes())
    return hashed.hexdigest()


def run(name: str, folder: Path) -> dict[str, Any]:
    """Train once whole, and once stopped on the way and resumed. A Mistral is resumed from what the whole training left
    on its way, unless it is too much like another one.
    """
    whole, parts = folder / name / "whole", folder / name / "parts"
    lives = {"whole": FolderIO(whole)}
    if not name.startswith("mistral"):
        lives |= {"stopped": FolderIO(parts, stop_at=8), "resumed": FolderIO(parts, resume=True)}
    elif name not in WHOLE_ONLY:
        lives |= {"resumed": FolderIO(whole, resume=True)}
    return {life: train(name, folder, io) for life, io in lives.items()}


def alone(folder: Path, *, at: Path | None = None) -> dict[str, Any]:
    """One worker without a group, from the beginning to a stop at step 3, or to the end from others' checkpoint."""
    name = "mistral-plain-soft_prompt"
    io = FolderIO(at or folder / name / "parts", stop_at=None if at else 3, resume=at is not None)
    return train(name, folder, io)


def main() -> None:
    rank, world_size, rendezvous, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    names = sys.argv[5:]
    with_mistral = [name for name in names if name.startswith("mistral")]
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    if with_mistral and rank == 0:
        save_mistral(output)
        alone(output)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    dist.barrier()
    for name in names:
        seen = run(name, output)
        if name in with_mistral and name.endswith("soft_prompt"):
            one = FolderIO(output / "mistral-plain-soft_prompt" / "parts", resume=True)
            seen["from_one_worker"] = train(name, output, one)
        (output / f"{name}-{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()
    if rank == 0:
        for name in with_mistral:
            if name.endswith("soft_prompt"):
                seen = alone(output, at=output / name / "whole")
                (output / f"{name}-one-worker.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
