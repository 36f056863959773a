"""Toys: a shard worker and a training task that take milliseconds and can hold, raise or die on a command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.artifacts.atomic import write_bytes_atomic
from difflm.artifacts.dataset import Shard
from difflm.config import Config
from difflm.errors import SynthesisError, TrainingError
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.testing.processes import wait_until
from difflm.training.task import TaskSpec, Verdict

HOLD_DEADLINE_S = 120.0
TOY = "difflm.testing.toys:build_toy_task"
"""The factory of the toy task."""


class ToyShardWorker:
    """Arguments: `folder` for outputs; `hold`, `raise_on`, `break_on`, `die_on`, optional ids of shards; `breaking` and
    `deadly`, optional lists of indices; `unbuildable` makes building it exit the process.

    `hold` announces its pid in `held.pid` and waits for a file `go`; `raise_on` raises SynthesisError, `break_on` a
    ValueError, always; `die_on` exits the process, always. A shard or piece with a breaking index raises, one with a
    deadly index exits the process. Each piece is a file of its own.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = args
        self._folder = Path(args["folder"])
        if args.get("unbuildable"):
            os._exit(1)

    def run(self, shard: Shard) -> dict[str, JSON]:
        if shard.id == self._args.get("hold") and not (self._folder / "go").exists():
            write_bytes_atomic(self._folder / "held.pid", str(os.getpid()).encode())
            wait_until((self._folder / "go").exists, what="the file go", timeout_s=HOLD_DEADLINE_S)
        if shard.id == self._args.get("raise_on"):
            raise SynthesisError(f"no draw of rows {shard.start} to {shard.stop} is valid")
        if shard.id == self._args.get("break_on"):
            raise ValueError("broken\non purpose")
        if shard.id == self._args.get("die_on"):
            os._exit(1)
        numbers = range(shard.start, shard.stop)
        if set(numbers) & set(self._args.get("breaking", ())):
            raise ValueError(f"broken on one of {shard.start} to {shard.stop}")
        if set(numbers) & set(self._args.get("deadly", ())):
            os._exit(1)
        write_bytes_atomic(
            self._folder / f"{shard.id}.{shard.start}-{shard.stop}.txt", "\n".join(map(str, numbers)).encode()
        )
        return {"rows": len(numbers), "total": sum(numbers)}


_POLL_S = 0.02


class ToyConfig(Config):
    """How long the toy trains and where it misbehaves; steps are 0-based indices of optimizer steps."""

    steps: int = Field(default=20, ge=1)
    width: int = Field(default=8, ge=2)
    batch_size: int = Field(default=4, ge=1)
    validation_batches: int = Field(default=3, ge=0)
    patience: int = Field(default=100, ge=1, description="Evaluations without improvement before it stops.")
    nan_at_step: int | None = Field(default=None, description="The loss is NaN from this step on.")
    raise_at_step: int | None = Field(default=None, description="batch() raises RuntimeError at this step.")
    hold_at_step: int | None = Field(default=None, description="batch() waits there; needs inputs['scratch'].")


class ToyModule(nn.Module):
    """A frozen projection between trainable layers, with dropout and Gaussian noise in the forward pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encode = nn.Linear(width, width)
        self.frozen = nn.Linear(width, width)
        self.decode = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        for parameter in self.frozen.parameters():
            parameter.requires_grad = False

    def forward(self, values: Tensor, poison: Tensor) -> dict[str, Tensor]:
        latents = self.encode(values)
        latents = latents + 0.1 * torch.randn_like(latents)
        decoded = self.decode(torch.tanh(self.frozen(self.dropout(latents))))
        reconstruction = (decoded - values).square().mean()
        return {"loss": reconstruction + 1e-3 * latents.square().mean() + poison.sum(), "mse": reconstruction}


class ToyTask:
    """A `TrainingTask`: random targets of rank one, validation, patience, and a moving average of the trainable
    weights.
    """

    def __init__(self, config: ToyConfig, *, seed: int, scratch: Path | None = None) -> None:
        self._config = config
        self._seed = seed
        self._scratch = scratch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module: nn.Module = ToyModule(config.width)
        self._average: dict[str, Tensor] = {}
        self._best = float("inf")
        self._bad_evaluations = 0

    def steps(self) -> int:
        return self._config.steps

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        if step == self._config.raise_at_step:
            raise RuntimeError(f"toy failure at step {step}")
        if step == self._config.hold_at_step:
            self._hold(rank)
        poisoned = self._config.nan_at_step is not None and step >= self._config.nan_at_step
        return self._values("train", step * 1000 + micro, rank) | {
            "poison": torch.tensor([float("nan") if poisoned else 0.0])
        }

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        for number in range(rank, self._config.validation_batches, world_size):
            batch = self._values("validation", number, 0) | {"poison": torch.zeros(1)}
            yield self._config.batch_size, batch

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        improved = metrics["mse"] < self._best
        self._best = min(self._best, metrics["mse"])
        self._bad_evaluations = 0 if improved else self._bad_evaluations + 1
        return Verdict(objective=metrics["mse"], stop=self._bad_evaluations >= self._config.patience)

    def after_step(self, step: int) -> None:
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                value = parameter.detach().to("cpu", torch.float32, copy=True)
                self._average[name] = self._average.get(name, value).lerp(value, 0.5)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "best": self._best, "bad_evaluations": self._bad_evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average = dict(state["average"])
        self._best = float(state["best"])
        self._bad_evaluations = int(state["bad_evaluations"])

    def artifact_tensors(self) -> dict[str, Tensor]:
        own = {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}
        return own | {f"average.{name}": value for name, value in self._average.items()}

    def summary(self) -> dict[str, JSON]:
        return {"best_mse": self._best}

    def _values(self, split: str, number: int, rank: int) -> dict[str, Tensor]:
        generator = torch_generator(self._seed, split, number, rank)
        scales = torch.randn(self._config.batch_size, 1, generator=generator)
        direction = torch.linspace(-1.0, 1.0, self._config.width)
        return {"values": scales * direction}

    def _hold(self, rank: int) -> None:
        """Announce this process in `held-<rank>.pid`, then wait until a file `go` appears."""
        if self._scratch is None:
            raise TrainingError("hold_at_step needs a folder in inputs['scratch']")
        if (self._scratch / "go").exists():
            return
        temporary = self._scratch / f"held-{rank}.tmp"
        temporary.write_text(str(os.getpid()))
        temporary.rename(self._scratch / f"held-{rank}.pid")
        deadline = time.monotonic() + HOLD_DEADLINE_S
        while not (self._scratch / "go").exists():
            if time.monotonic() > deadline:
                raise TrainingError(f"{self._scratch / 'go'} did not appear within {HOLD_DEADLINE_S:.0f} s")
            time.sleep(_POLL_S)


def build_toy_task(spec: TaskSpec, device: torch.device | str) -> ToyTask:
    """Build the toy of a `TaskSpec`: `config` has the keys of `ToyConfig`, `inputs["scratch"]` is where it holds."""
    scratch = Path(spec.inputs["scratch"]) if "scratch" in spec.inputs else None
    return ToyTask(ToyConfig.model_validate(spec.config), seed=spec.seed, scratch=scratch)
