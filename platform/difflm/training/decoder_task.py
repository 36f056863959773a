"""Fitting the compact decoder to copy a record from a prefix of its slots.

Shape legend: B batch, S slots.

Curriculum: complete and clean prefixes until copying is there (and for `clean_share` of the steps at least); then a mix
of all, some and no slots, with noise of 0, 0.2 or 0.5 embedding scales. The figure for it is `copied`: nats with the
full prefix over nats without. A decoder that did not learn to copy cannot be steered, so it is an error, not an
artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.errors import TrainingError
from difflm.models.compact import CompactDecoderFit
from difflm.models.decoder_store import DecoderParts, read_parts, unfitted
from difflm.records.schema import read_schema
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.training.least_steps import COPYING_STEPS
from difflm.training.loop import LoopConfig
from difflm.training.record_data import TokenBatches, read_split, tokenize
from difflm.training.task import TaskSpec, Verdict

NOISE_LEVELS = (0.0, 0.2, 0.5)
VALIDATED_NOISE = 0.5
DEAF = 0.9
"""A decoder whose nats fall by less than this factor when it is shown the whole record hears nothing."""
SETTLED_NATS = 0.05
"""Nats per field that leave nothing to copy: a table of constants is certain without a prefix, too."""


class DecoderFitConfig(Config):
    """How the compact decoder is fitted."""

    steps: int = Field(default=2000, ge=1, description="most optimizer steps")
    epochs: float = Field(
        default=10.0,
        gt=0,
        description="most passes over the rows (but 150 steps, to copy 400); more are learned by heart",
    )
    batch_size: int = Field(default=128, ge=1)
    tokens_per_batch: int = Field(default=16384, ge=1, description="most tokens of a micro-batch: long records")
    group_by_length: bool = Field(
        default=False,
        exclude_if=lambda grouped: not grouped,  # artifacts that were made before there was a choice keep their names
        description="batches of equally long records: faster where lengths differ widely",
    )
    told_share: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="with a pooled encoder: share of rows that are steered by their latents",
    )
    reordered_share: float = Field(
        default=0.75, ge=0, lt=1, description="with a pooled encoder: share of the other rows that are in another order"
    )
    told_reordered_share: float = Field(
        default=0.2, ge=0, lt=1, description="with a pooled encoder: the same of the rows that are steered"
    )
    clean_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="with an encoder of slots: share of steps with complete, clean prefixes",
    )
    copied_below: float = Field(
        default=0.5, gt=0, lt=1, description="nats with the full prefix over nats without that counts as copying"
    )
    validation_records: int = Field(default=512, ge=1)
    patience: int = Field(
        default=5,
        ge=1,
        description="with a pooled encoder: evaluations that end the fit: without improvement once the learning rate "
        "is low, or clearly worse at any rate",
    )
    lengthened: float = Field(
        default=3.0,
        ge=1,
        allow_inf_nan=False,
        description="with a pooled encoder: how many times as many steps the fit may take while validation still gets "
        "better late, as on tables of many rows, within half of the passes; 1: never more",
    )
    loop: LoopConfig = LoopConfig(
        method="muon", learning_rate=3e-3, ema_decay=0.995, warmup_steps=50, evaluate_every=100, checkpoint_every=100
    )


class DecoderFitModule(nn.Module):
    """The fit; in evaluation it reports nats with the full prefix, with a noisy one and with none; the loss is the mean
    of the last two.
    """

    def __init__(self, fit: CompactDecoderFit) -> None:
        super().__init__()
        self.fit = fit

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        if self.training:
            return self.fit(**batch)  # type: ignore[no-any-return]
        keep_BS, noise_B = torch.ones_like(batch["keep_BS"]), torch.zeros_like(batch["noise_B"])
        batch = {**batch, "keep_BS": keep_BS, "noise_B": noise_B}
        full = self.fit(**batch)
        noisy = self.fit(**{**batch, "noise_B": noise_B + VALIDATED_NOISE})
        none = self.fit(**{**batch, "keep_BS": ~keep_BS})
        loss = (noisy["loss"] + none["loss"]) / 2
        return {"loss": loss, "nats_full": full["nats"], "nats_noisy": noisy["nats"], "nats_none": none["nats"]}


def _copied_prefix(count: int, slots: int, generator: torch.Generator, *, clean: bool) -> tuple[Tensor, Tensor]:
    """Draw which slots are shown, shape (B, S), and the noise, shape (B): of every row all, or thirds none/some/all."""
    if clean:
        return torch.ones(count, slots, dtype=torch.bool), torch.zeros(count)
    kind_B1 = torch.randint(0, 3, (count, 1), generator=generator)
    share_B1 = torch.rand(count, 1, generator=generator)
    some_BS = torch.rand(count, slots, generator=generator) < share_B1
    keep_BS = (kind_B1 == 2) | ((kind_B1 == 1) & some_BS)
    noise_B = torch.tensor(NOISE_LEVELS)[torch.randint(0, len(NOISE_LEVELS), (count,), generator=generator)]
    return keep_BS, noise_B


class DecoderTask:
    """`TrainingTask` of the decoder stage."""

    def __init__(
        self, config: DecoderFitConfig, parts: DecoderParts, train: TokenBatches, validation: TokenBatches, *, seed: int
    ) -> None:
        self.config, self.parts, self.train, self.validation, self.seed = config, parts, train, validation, seed
        self.order = train.order(
            most=config.batch_size, tokens=config.tokens_per_batch, group_by_length=config.group_by_length, seed=seed
        )
        torch.manual_seed(seed)
        self._module = DecoderFitModule(unfitted(parts))
        self.copied_at: int | None = None
        self.last: dict[str, float] = {}

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        return self.order.steps(most=self.config.steps, epochs=self.config.epochs, floor=COPYING_STEPS)

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        batch = self.train.at(self.order.rows(step, micro, rank, world_size))
        generator = torch_generator(self.seed, "prefix", step, micro, rank)
        return batch | self._prefix(len(batch["lengths_B"]), step, generator)

    def _prefix(self, count: int, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        slots, device = self.parts.slots.count, self.train.lengths_N.device
        clean = step < self.config.clean_share * self.steps() or self.copied_at is None
        keep_BS, noise_B = _copied_prefix(count, slots, generator, clean=clean)
        return {"keep_BS": keep_BS.to(device), "noise_B": noise_B.to(device)}

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        for count, batch in self.validation.share(
            rank, world_size, batch_size=self.order.batch_size, most=self.config.validation_records
        ):
            keep_BS = torch.ones(count, self.parts.slots.count, dtype=torch.bool, device=batch["lengths_B"].device)
            yield count, batch | {"keep_BS": keep_BS, "noise_B": torch.zeros(count, device=batch["lengths_B"].device)}

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = dict(metrics)
        copied = self.copied()
        note = f"with the full prefix {metrics['nats_full']:.2f} nats, without {metrics['nats_none']:.2f}"
        settled = metrics["nats_full"] < SETTLED_NATS * len(self.parts.slots.grid.widths)
        if self.copied_at is None and (copied < self.config.copied_below or settled):
            self.copied_at = step
            note += "; copying is there"
        if step >= self.steps() and self.copied_at is None and copied > DEAF:
            raise TrainingError(
                f"after {step} steps the decoder does not copy from its prefix: {note} (ratio {copied:.2f}), so "
                "nothing could steer it; raise decoder_fit.steps and decoder_fit.epochs"
            )
        # States before copying are never the best one, however low their loss: they cannot be steered.
        return Verdict(objective=metrics["loss"] + (1e3 if self.copied_at is None else 0.0), note=note)

    def copied(self) -> float:
        """Nats with the full prefix over nats without, at the last evaluation."""
        return self.last["nats_full"] / max(self.last["nats_none"], 1e-9)

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def state_dict(self) -> dict[str, Any]:
        return {"copied_at": self.copied_at, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.copied_at, self.last = state["copied_at"], state["last"]

    def artifact_tensors(self) -> dict[str, Tensor]:
        # The output matrix is the tied embedding: one of the two is enough.
        return dict(self._module.fit.named_parameters())

    def summary(self) -> dict[str, JSON]:
        parameters = sum(value.numel() for value in self._module.fit.model.parameters())
        return {
            "parameters": parameters,
            "copied_at": self.copied_at,
            "copied_ratio": round(self.copied(), 4),
            **self.last,
        }


def build_decoder_task(spec: TaskSpec, device: torch.device | str) -> DecoderTask:
    """Build the task. Inputs: `prepare` (the data) and `tokenizer` (a decoder directory with tokenizer and layout)."""
    prepared = Path(spec.inputs["prepare"])
    schema = read_schema(prepared)
    parts = read_parts(Path(spec.inputs["tokenizer"]), schema)
    splits = [
        TokenBatches.of(tokenize(read_split(prepared, split, schema), schema, parts.tokenizer, parts.slots), device)
        for split in ("train", "validation")
    ]
    task = DecoderTask(DecoderFitConfig.model_validate(spec.config), parts, splits[0], splits[1], seed=spec.seed)
    task.module.to(device)
    return task
