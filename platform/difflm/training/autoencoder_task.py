"""Training encoder and injector around the frozen decoder (DiffLM, Eq. 2-4), with the paper's adaptive beta.

Other schedules of beta, and a capacity of some nats for z, are choices (`kl_schedule`).

Shape legend: B batch, T tokens, F fields, Z latent size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.autoencoder import Autoencoder, AutoencoderShape
from difflm.models.building import build_autoencoder
from difflm.models.decoder_store import DecoderParts, read_tensors
from difflm.models.encoder import (
    EncoderConfig,
    EncoderInputs,
    PooledEncoderConfig,
    PretrainedEncoder,
    PretrainedEncoderConfig,
    encoder_inputs,
    load_encoder,
)
from difflm.models.injection.injector import READ_ONCE, InjectorConfig, SoftPromptConfig, has_empty_prompt
from difflm.models.injection.prefix import PrefixConfig, PrefixInjector
from difflm.models.kl_schedule import CapacityKl, KlConfig, KlSchedule
from difflm.models.pretrained import hash_weights, pinned, use_flash_attention
from difflm.records.schema import read_schema
from difflm.telemetry import JSON
from difflm.training.any_order import counted_tokens, opening_tokens
from difflm.training.draft_task import DraftConfig, with_used_tokens
from difflm.training.least_steps import AUTOENCODER_STEPS
from difflm.training.loop import LoopConfig
from difflm.training.record_data import TokenBatches, read_split, read_told, tokenize
from difflm.training.task import TaskSpec, Verdict

WHOLE_RECORDS: Mapping[str, Mapping[str, object]] = {
    "decoder_fit": {"steps": 600, "epochs": 40.0, "loop": {"method": "adamw", "ema_decay": 0.0}},
    "autoencoder": {
        "injector": {"kind": "soft_prompt", "soft_tokens": 32, "empty": False},
        "kl": {"kind": "adaptive", "start": 0.01, "minimum": 0.001, "minimum_improvement": 0.01},
        "steps": 1200,
        "loop": {"learning_rate": 2e-3, "ema_decay": 0.0},
    },
    "prior": {"kind": "diffusion", "width": 512, "blocks": 4, "steps": 12000},
}
"""What differs by default, by section, where z carries whole records: with any encoder but the pooled one."""


class AutoencoderConfig(Config):
    """Encoder, injector and how they are trained.

    By default z carries a few nats, and encoder and injector go on from the draft that the compact decoder was fitted
    with. Every other encoder puts whole records into z, with the defaults of `WHOLE_RECORDS`. The KL term is summed
    over Z, so beta is far below the paper's number, whose KL is averaged.
    """

    encoder: EncoderConfig = PooledEncoderConfig()
    injector: InjectorConfig = SoftPromptConfig(soft_tokens=4, empty=True)
    draft: DraftConfig = Field(
        default=DraftConfig(),
        exclude_if=lambda draft: draft == DraftConfig(),
        description="what comes first with injector.kind=vocabulary, or prefix with words: encoder and injector "
        "without the language model",
    )
    kl: KlConfig = CapacityKl()
    steps: int = Field(default=300, ge=1, description="most optimizer steps")
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
    loop: LoopConfig = LoopConfig(
        learning_rate=5e-4, ema_decay=0.99, warmup_steps=50, evaluate_every=50, checkpoint_every=100
    )

    @model_validator(mode="after")
    def _memory_is_read_once(self) -> AutoencoderConfig:
        if self.gradient_checkpointing and self.injector.kind in READ_ONCE:
            raise ValueError(
                "gradient_checkpointing recomputes layers, which cannot read "
                f"injector.kind={self.injector.kind} twice; choose another injector or smaller batches"
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
        opening_F: Tensor | None = None,
        copies: int = 1,
    ) -> None:
        """Take the splits, of training every row `copies` times; tokens of `opening_F` say which field follows, and do
        not count.
        """
        self.config, self._module, self.seed, self.copies = config, module, seed, copies
        self.train, self.train_inputs = train
        self.validation, self.validation_inputs = validation
        self.order = self.train.order(
            most=config.batch_size, tokens=config.tokens_per_batch, group_by_length=config.group_by_length, seed=seed
        )
        self.schedule = KlSchedule(config.kl)
        self.opening_F = opening_F
        self.best_objective, self.stale, self.last = math.inf, 0, dict[str, float]()

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        epochs = self.config.epochs / self.copies
        return self.order.steps(most=self.config.steps, epochs=epochs, floor=AUTOENCODER_STEPS)

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        rows_B = self.order.rows(step, micro, rank, world_size)
        batch = self._batch(self.train, self.train_inputs, rows_B, self.schedule.beta(step))
        if self._says_nothing():
            batch["told_B"] = torch.arange(len(rows_B), device=batch["beta"].device) >= len(rows_B) // UNTOLD
        return batch

    def _says_nothing(self) -> bool:
        """Whether the injector also learns a prompt for records of which nothing is said."""
        return has_empty_prompt(self._module.injector)

    def _batch(self, batches: TokenBatches, inputs: EncoderInputs, rows_B: Tensor, beta: float) -> dict[str, Tensor]:
        batch = batches.at(rows_B)
        grid_BG = batch.pop("grid_BG")
        tensors = {"beta": torch.tensor(beta, device=grid_BG.device)}
        if self.schedule.capacity:
            tensors["capacity"] = torch.tensor(self.schedule.capacity, device=grid_BG.device)
        if self.opening_F is not None:
            tensors["counted_BT"] = counted_tokens(batch["ids_BT"], batch["lengths_B"], self.opening_F)
        return batch | inputs(rows_B, grid_BG) | tensors

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        rows = torch.arange(rank, min(len(self.validation), self.config.validation_records), world_size)
        for part in rows.split(self.order.batch_size):  # type: ignore[no-untyped-call]
            if len(part):
                yield len(part), self._batch(self.validation, self.validation_inputs, part, 1.0)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        """Follow the paper's rule: no improvement for a while lowers beta, none for longer ends the training."""
        nats, kl_nats = metrics["reconstruction_nats"], metrics["kl_nats"]
        before = self.schedule.beta(step)
        moved = self.schedule.observe(nats)
        objective = self.schedule.objective(nats, kl_nats)
        if objective < self.best_objective:
            self.best_objective, self.stale = objective, 0
        else:
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
        return dict(self._module.own_parameters())

    def summary(self) -> dict[str, JSON]:
        trainable = sum(value.numel() for value in self._module.parameters() if value.requires_grad)
        best = "best_objective" if isinstance(self.config.kl, CapacityKl) else "best_reconstruction_nats"
        return {
            "trainable_parameters": trainable,
            best: self.best_objective,
            **self.last,
        }


def finish_autoencoder(directory: Path, shape: AutoencoderShape) -> None:
    """Write what is needed beside best.safetensors to build the autoencoder again, from any folder and at any time."""
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
    """Build the task. Inputs: `prepare` (the prepared data), `fit-decoder` (the decoder's directory), and where encoder
    and injector were warmed up without it, `draft` (the folder of their tensors).
    """
    prepared, directory = Path(spec.inputs["prepare"]), Path(spec.inputs["fit-decoder"])
    config = AutoencoderConfig.model_validate(spec.config)
    schema = read_schema(prepared)
    shape = with_used_tokens(config.shape, prepared, directory)
    torch.manual_seed(spec.seed)
    module, parts = build_autoencoder(shape, directory, schema, computed_in=config.loop.precision)
    if isinstance(module.injector, PrefixInjector):
        assert isinstance(config.injector, PrefixConfig)
        text = config.injector.text or ", ".join(schema.names) + "\n"
        module.injector.begin(module.decoder.memory_of(_filling(text, parts, positions=module.injector.positions)))
    if config.gradient_checkpointing:
        module.decoder.recompute_layers()
    _choose_attention(module, config, parts, device)
    if config.encoder.kind == "pooled":
        _go_on_with_draft(module, directory)
    if "draft" in spec.inputs:
        _go_on_with_draft(module, Path(spec.inputs["draft"]))
        if isinstance(module.injector, PrefixInjector):
            module.settle()
    train, copies = read_split(prepared, "train", schema), 1
    if config.encoder.kind == "pooled":
        train, copies = read_told(prepared, schema, most=config.steps * config.batch_size, seed=spec.seed)
    splits = []
    for table in (train, read_split(prepared, "validation", schema)):
        tokens = TokenBatches.of(tokenize(table, schema, parts.tokenizer, parts.slots), device)
        splits.append((tokens, encoder_inputs(config.encoder, table, schema, device)))
    opening_F = opening_tokens(parts.tokenizer) if parts.any_order else None
    return AutoencoderTask(
        config,
        module.to(device),
        splits[0],
        splits[1],
        seed=spec.seed,
        opening_F=None if opening_F is None else opening_F.to(device),
        copies=copies,
    )


def _filling(text: str, parts: DecoderParts, *, positions: int) -> Tensor:
    """Return tokens of the text, repeated until they fill so many positions with BOS in front."""
    ids = parts.tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor((ids * -(-positions // max(1, len(ids))))[: positions - 1], dtype=torch.int64)


UNTOLD = 8
"""One of so many records is written behind the empty prompt, where there is one."""


def _go_on_with_draft(module: Autoencoder, directory: Path) -> None:
    """Take over the draft of encoder and injector in a folder, if it is one of this shape."""
    fitted = directory / "best.safetensors"
    if not fitted.is_file():
        return
    own = {name: value.shape for name, value in module.named_parameters() if value.requires_grad}
    if isinstance(module.injector, PrefixInjector):  # its prefix is learned with the decoder alone
        own = {name: shape for name, shape in own.items() if not name.startswith("injector.") or ".words." in name}
    draft = {name: value for name, value in read_tensors(fitted).items() if name in own}
    if {name: value.shape for name, value in draft.items()} == own:
        module.load_state_dict(draft, strict=False)


def _choose_attention(
    module: Autoencoder, config: AutoencoderConfig, parts: DecoderParts, device: torch.device | str
) -> None:
    """Switch models to the FlashAttention that was asked for, and a decoder on a CPU to what is faster there."""
    asked = parts.facts["config"].get("attention", "auto")
    if asked == "flash_attention_2":
        use_flash_attention(module.decoder.model, key="decoder.attention")
    if asked == "auto" and torch.device(device).type == "cpu":
        module.decoder.attend_by_length()
    encoder = config.encoder
    if encoder.kind == "pretrained" and encoder.attention == "flash_attention_2":
        assert isinstance(module.encoder, PretrainedEncoder), "it was built from this configuration"
        use_flash_attention(module.encoder.model, key="autoencoder.encoder.attention")
