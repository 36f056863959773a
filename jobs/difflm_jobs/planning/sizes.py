"""Sizes of an experiment's models and records, as far as they are known before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.models.decoder_store import slot_layout
from difflm.models.precision import Precision, PrecisionSetting, own_device, resolve_precision
from difflm.runtime.training import chosen_engine
from difflm_jobs.planning.memory import BYTES, FLOAT32, ProcessMemory, Transformer, model_states
from difflm_jobs.planning.model_shapes import (
    RecordShape,
    decoder_shape,
    denoiser_parameters,
    encoder_shape,
    latent_numbers,
    trained_parameters,
)

if TYPE_CHECKING:
    from difflm.training.loop import LoopConfig
    from difflm_jobs.config import ExperimentConfig

ASSUMED_TOKENS = 256
"""Of the longest record of a table, before the decoder has counted them."""
ASSUMED_CHARACTERS_PER_TOKEN = 3
ASSUMED_TOKENS_PER_SLOT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of an experiment's models and records, as far as they are known."""

    config: ExperimentConfig
    record: RecordShape
    rows: int | None
    decoder: Transformer | None
    encoder: Transformer | None

    @classmethod
    def of(cls, config: ExperimentConfig, prepared: Mapping[str, object], decoder: Path | None) -> Sizes:
        """`prepared` are the facts of the prepared table, empty before it exists; `decoder` the fitted one's folder."""
        rows, shape = prepared.get("train rows"), decoder_shape(config)
        vocabulary = 0 if shape is None else shape.vocabulary
        return cls(
            config=config,
            record=_assumed(config) if decoder is None else _counted(decoder),
            rows=rows if isinstance(rows, int) else None,
            decoder=shape,
            encoder=encoder_shape(config.autoencoder, vocabulary=vocabulary),
        )

    @property
    def frozen_bytes(self) -> int:
        """Of a number of the frozen decoder's weights in training."""
        decoder = self.config.decoder
        if decoder.kind == "compact":
            return FLOAT32
        setting = self.config.autoencoder.loop.precision if decoder.dtype == "auto" else decoder.dtype
        return BYTES[self.training_precision(setting)]

    def training_precision(self, setting: PrecisionSetting) -> Precision:
        """What training workers are assumed to compute in: under `auto` what they would on this machine."""
        return assumed_precision(setting, on_gpus=self.config.runtime.workers.gpus_per_worker > 0)

    @property
    def trained(self) -> int | None:
        """Parameters of the autoencoder that are trained."""
        if self.decoder is None or self.encoder is None:
            return None
        return trained_parameters(self.config.autoencoder, self.encoder, self.decoder, self.record)

    @property
    def frozen_encoder(self) -> int:
        """Parameters of an encoder that only its adapters are trained of; they are float32."""
        return 0 if self.encoder is None or self.encoder.adapters is None else self.encoder.parameters

    @property
    def prior(self) -> int:
        """Parameters of the prior's network."""
        prior = self.config.prior
        latents = latent_numbers(self.config.autoencoder, self.record)
        return denoiser_parameters(prior, latents) if prior.kind == "diffusion" else 0

    @property
    def encoder_tokens(self) -> int:
        """Of a record as the encoder reads it: its slots, or its text in tokens of the encoder's own."""
        encoder = self.config.autoencoder.encoder
        if encoder.kind == "compact":
            return self.record.slots
        return min(encoder.longest, max(self.record.tokens, ASSUMED_TOKENS))

    def batch(self, most: int, tokens: int, *, grouped: bool) -> tuple[int, int]:
        """Rows and tokens of a micro-batch; batches of short records have more of the one than of the other."""
        rows = most if self.rows is None else min(most, self.rows)
        fitting = min(rows, max(1, tokens // self.record.tokens))
        return (rows, min(rows * self.record.tokens, tokens)) if grouped else (fitting, fitting * self.record.tokens)

    def model_states(self, trained: int, frozen: int, loop: LoopConfig, *, frozen_encoder: int = 0) -> ProcessMemory:
        """Weights, gradients and optimizer state of a training worker, around a frozen decoder and perhaps encoder."""
        workers = self.config.runtime.workers.num_workers
        autocast = self.training_precision(loop.precision) == "bfloat16"
        engine = chosen_engine(self.config.runtime.engine, workers)
        states = partial(model_states, autocast=autocast, engine=engine, workers=workers)
        rest = states(trained=trained, frozen=frozen, frozen_bytes=self.frozen_bytes)
        return rest.plus(states(trained=0, frozen=frozen_encoder, frozen_bytes=FLOAT32))


def assumed_precision(setting: PrecisionSetting, *, on_gpus: bool) -> Precision:
    """The precision of a setting on this machine; GPUs that are elsewhere are assumed to be fast in bfloat16."""
    if on_gpus and setting == "auto" and own_device() == "cpu":
        return "bfloat16"
    return resolve_precision(setting, "cuda" if on_gpus else "cpu")


def _assumed(config: ExperimentConfig) -> RecordShape:
    tokens = ASSUMED_TOKENS if config.data.kind == "table" else config.data.longest // ASSUMED_CHARACTERS_PER_TOKEN
    slots, cells = max(1, tokens // ASSUMED_TOKENS_PER_SLOT), config.decoder.cells_per_slot
    return RecordShape(tokens=max(1, tokens), slots=slots, cells=cells, known=False)


def _counted(decoder: Path) -> RecordShape:
    facts = json.loads((decoder / "decoder.json").read_bytes())
    layout = slot_layout(facts)
    cells = layout.cells_SC().shape[1]
    return RecordShape(tokens=facts["longest"], slots=layout.count, cells=cells, known=True)
