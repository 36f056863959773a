"""Training encoder and injector around the frozen decoder (DiffLM, Eq. 2-4), with the paper's adaptive beta.

Other schedules of beta, and a capacity of some nats for z, are choices (`kl_schedule`).

Shape legend: B batch, T tokens, F fields, Z latent size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.autoencoder import Autoencoder, AutoencoderShape, build_autoencoder
from difflm.models.decoder import FrozenDecoder
from difflm.models.decoder_store import DecoderParts, read_tensors
from difflm.models.encoder import (
    CompactEncoderConfig,
    EncoderConfig,
    EncoderInputs,
    PretrainedEncoder,
    PretrainedEncoderConfig,
    encoder_inputs,
    load_encoder,
)
from difflm.models.injector import InjectorConfig, SlotInjector, SoftPromptConfig, SoftTokens
from difflm.models.kl_schedule import AdaptiveBeta, CapacityKl, KlConfig, KlSchedule
from difflm.models.pretrained import hash_weights, pinned, use_flash_attention
from difflm.records.schema import read_schema
from difflm.telemetry import JSON
from difflm.training.loop import LoopConfig
from difflm.training.record_data import TokenBatches, read_split, tokenize
from difflm.training.task import TaskSpec, Verdict


class AutoencoderConfig(Config):
    """Encoder, injector and how they are trained.

    The KL term is summed over Z, so beta is far below the paper's number, whose KL is averaged.
    """

    encoder: EncoderConfig = CompactEncoderConfig()
    injector: InjectorConfig = SoftPromptConfig()
    kl: KlConfig = AdaptiveBeta(start=0.01, minimum=0.001, minimum_improvement=0.01)
    steps: int = Field(default=1200, ge=1, description="most optimizer steps")
    epochs: float = Field(default=60.0, gt=0, description="most passes over the rows (but 300 steps)")
    batch_size: int = Field(default=128, ge=1)
    tokens_per_batch: int = Field(default=16384, ge=1, description="most tokens of a micro-batch: long records")
    group_by_length: bool = Field(
        default=False,
        exclude_if=lambda grouped: not grouped,  # artifacts that were made before there was a choice keep their names
        description="batches of equally long records: faster where lengths differ widely",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        exclude_if=lambda recomputed: not recomputed,
        description="the decoder's layers run once more in the backward pass instead of being kept: less memory",
    )
    early_stopping_interval: int = Field(
        default=10, ge=1, description="evaluations without improvement that end the training"
    )
    validation_records: int = Field(default=1024, ge=1)
    loop: LoopConfig = LoopConfig(learning_rate=2e-3, warmup_steps=50, evaluate_every=50, checkpoint_every=100)

    @model_validator(mode="after")
    def _memory_is_read_once(self) -> AutoencoderConfig:
        if self.gradient_checkpointing and self.injector.kind == "kv_memory":
            raise ValueError(
                "gradient_checkpointing recomputes layers, which cannot read injector.kind=kv_memory twice; "
                "choose another injector or smaller batches"
            )
        return self

    @model_validator(mode="after")
    def _flash_attention_reads_bfloat16(self) -> AutoencoderConfig:
        flash = self.encoder.kind == "pretrained" and self.encoder.attention == "flash_attention_2"
        if flash and self.loop.precision == "float32":
            raise ValueError("encoder.attention flash_attention_2 needs loop.precision bfloat16 or auto")
        return self

    @property
    def shape(self) -> AutoencoderShape:
        """What inference needs of this."""
        return AutoencoderShape(encoder=self.encoder, injector=self.injector)


class AutoencoderTask:
    """`TrainingTask` of the autoencoder stage."""

    def __init__(
        self,
        config: AutoencoderConfig,
        module: Autoencoder,
        train: tuple[TokenBatches, EncoderInputs],
        validation: tuple[TokenBatches, EncoderInputs],
        *,
        seed: int,
    ) -> None:
        self.config, self._module, self.seed = config, module, seed
        self.train, self.train_inputs = train
        self.validation, self.validation_inputs = validation
        self.order = self.train.order(
            most=config.batch_size, tokens=config.tokens_per_batch, group_by_length=config.group_by_length, seed=seed
        )
        self.schedule = KlSchedule(config.kl)
        self.worth: FieldWorth | None = None
        self.best_objective, self.stale, self.last = math.inf, 0, dict[str, float]()

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        return self.order.steps(most=self.config.steps, epochs=self.config.epochs, floor=300)

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        rows_B = self.order.rows(step, micro, rank, world_size)
        return self._batch(self.train, self.train_inputs, rows_B, self.schedule.beta(step))

    def _batch(self, batches: TokenBatches, inputs: EncoderInputs, rows_B: Tensor, beta: float) -> dict[str, Tensor]:
        batch = batches.at(rows_B)
        grid_BG = batch.pop("grid_BG")
        tensors = {"beta": torch.tensor(beta, device=grid_BG.device)}
        if self.worth is not None:
            tensors["worth_BT"] = self.worth(batch["ids_BT"])
        return batch | inputs(rows_B, grid_BG) | tensors

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        rows = torch.arange(rank, min(len(self.validation), self.config.validation_records), world_size)
        for part in rows.split(self.order.batch_size):  # type: ignore[no-untyped-call]
            if len(part):
                yield len(part), self._batch(self.validation, self.validation_inputs, part, 1.0)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        """Follow the paper's rule: no improvement for a while lowers beta, none for longer ends the training.

        With a capacity, beta moves until KL is there, and training does not end before.
        """
        nats, kl_nats = metrics["reconstruction_nats"], metrics["kl_nats"]
        before = self.schedule.beta(step)
        moved = self.schedule.observe(nats, kl_nats)
        objective = self.schedule.objective(metrics.get("worth_nats", nats), kl_nats)
        if objective < self.best_objective:
            self.best_objective, self.stale = objective, 0
        elif self.schedule.settled:
            self.stale += 1
        self.last = {**metrics, "beta": self.schedule.beta(step - 1)}
        note = f"reconstruction {nats:.2f} nats, KL {kl_nats:.1f}, beta {before:.4g}"
        if moved:
            note += f" -> {self.schedule.beta(step):.4g}"
        return Verdict(objective=objective, stop=self.stale >= self.config.early_stopping_interval, note=note)

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def state_dict(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule.state_dict(),
            "best_objective": self.best_objective,
            "stale": self.stale,
            "last": self.last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state["schedule"])
        self.best_objective, self.stale, self.last = state["best_objective"], state["stale"], state["last"]

    def artifact_tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._module.named_parameters() if value.requires_grad}

    def summary(self) -> dict[str, JSON]:
        trainable = sum(value.numel() for value in self._module.parameters() if value.requires_grad)
        best = "best_objective" if isinstance(self.config.kl, CapacityKl) else "best_reconstruction_nats"
        return {
            "trainable_parameters": trainable,
            best: self.best_objective,
            **self.last,
        }


def finish_autoencoder(directory: Path, config: AutoencoderConfig) -> None:
    """Write what is needed beside best.safetensors to build the autoencoder again, from any folder and at any time."""
    shape = config.shape
    if isinstance(shape.encoder, PretrainedEncoderConfig):
        model, revision = pinned(shape.encoder.model, shape.encoder.revision)
        encoder = shape.encoder.model_copy(update={"model": model, "revision": revision})
        digest = _adapted_sha256(encoder)
        shape = shape.model_copy(update={"encoder": encoder, "encoder_sha256": digest})
    (directory / "autoencoder.json").write_text(shape.model_dump_json(indent=2))


def _adapted_sha256(encoder: PretrainedEncoderConfig) -> str | None:
    """Return the hash of the weights that adapters stand on; None where all weights are in the artifact."""
    if encoder.lora is None:
        return None
    # The hash does not depend on the precision, and a large model in float32 would take twice the memory.
    return hash_weights(load_encoder(encoder.model, revision=encoder.revision, dtype=torch.bfloat16))


def build_autoencoder_task(spec: TaskSpec, device: torch.device | str) -> AutoencoderTask:
    """Build the task. Inputs: `prepare` (the prepared data) and `fit-decoder` (the decoder's directory)."""
    prepared, directory = Path(spec.inputs["prepare"]), Path(spec.inputs["fit-decoder"])
    config = AutoencoderConfig.model_validate(spec.config)
    schema = read_schema(prepared)
    torch.manual_seed(spec.seed)
    module, parts = build_autoencoder(config.shape, directory, schema, computed_in=config.loop.precision)
    if config.gradient_checkpointing:
        module.decoder.recompute_layers()
    _use_flash_attention(module, config, parts)
    if isinstance(config.kl, CapacityKl):
        _begin_empty(module, directory)
    splits = []
    for split in ("train", "validation"):
        table = read_split(prepared, split, schema)
        tokens = TokenBatches.of(tokenize(table, schema, parts.tokenizer, parts.slots), device)
        splits.append((tokens, encoder_inputs(config.encoder, table, schema, device)))
    task = AutoencoderTask(config, module.to(device), splits[0], splits[1], seed=spec.seed)
    injector = module.injector
    if isinstance(config.kl, CapacityKl) and config.kl.equal_fields and isinstance(injector, SlotInjector):
        rows = task.order.batch_size
        task.worth = FieldWorth.of(injector, module.decoder, parts, task.validation, batch_size=rows)
    return task


LEAST_NATS, MOST_NATS = 0.25, 1.0
"""A field that takes the decoder fewer nats counts as with so many: what is certain anyway needs no steering. One that
takes more does, too: where a nat of a column of digits counted next to nothing, prompts bent its distribution.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldWorth:
    """What a nat of each field counts, for tokenizers that have one token for the text in front of every value."""

    opening_F: Tensor
    worth_F: Tensor

    def __call__(self, ids_BT: Tensor) -> Tensor:
        """Return the worth of every token's field, shape (B, T)."""
        return self.worth_F[self.field(ids_BT)]

    def field(self, ids_BT: Tensor) -> Tensor:
        """Return the field of every token, shape (B, T)."""
        return (torch.isin(ids_BT, self.opening_F).long().cumsum(dim=1) - 1).clamp(0, len(self.opening_F) - 1)

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        injector: SlotInjector,
        decoder: FrozenDecoder,
        parts: DecoderParts,
        batches: TokenBatches,
        *,
        batch_size: int,
        most: int = 512,
    ) -> FieldWorth | None:
        """LEAST_NATS over the nats that each field takes the decoder behind the prompt of z = 0, between these bounds.

        None where texts in front of values are no single tokens of their own.
        """
        opening = [ids[0] for ids in parts.tokenizer.fixed_ids[:-1]]
        if len(set(opening)) < len(opening) or any(len(ids) != 1 for ids in parts.tokenizer.fixed_ids[:-1]):
            return None
        device = batches.lengths_N.device
        worth = cls(opening_F=torch.tensor(opening, device=device), worth_F=torch.ones(len(opening), device=device))
        nats_F, rows = torch.zeros(len(opening), device=device), 0
        for count, batch in batches.share(0, 1, batch_size=batch_size, most=most):
            latents_BZ = torch.zeros(count, injector.latent_size, device=device)
            nats_BT = decoder.nll(injector.prompt(latents_BZ), batch["ids_BT"], batch["lengths_B"])
            nats_F.index_add_(0, worth.field(batch["ids_BT"]).flatten(), nats_BT.flatten().float())
            rows += count
        return replace(worth, worth_F=LEAST_NATS / (nats_F / rows).clamp(LEAST_NATS, MOST_NATS))


def _begin_empty(module: Autoencoder, directory: Path) -> None:
    """Let soft tokens aligned with slots begin as the prompt that the compact decoder was fitted to take as empty."""
    injector, fitted = module.injector, directory / "best.safetensors"
    if isinstance(injector, SlotInjector) and isinstance(injector.form, SoftTokens) and fitted.is_file():
        injector.begin_as(read_tensors(fitted)["absent"])


def _use_flash_attention(module: Autoencoder, config: AutoencoderConfig, parts: DecoderParts) -> None:
    """Switch the models to FlashAttention that were asked to train with it."""
    if parts.facts["config"].get("attention") == "flash_attention_2":
        use_flash_attention(module.decoder.model, key="decoder.attention")
    encoder = config.encoder
    if encoder.kind == "pretrained" and encoder.attention == "flash_attention_2":
        assert isinstance(module.encoder, PretrainedEncoder), "it was built from this configuration"
        use_flash_attention(module.encoder.model, key="autoencoder.encoder.attention")
