"""Sizes of an experiment's models and records, as far as they are known before anything runs.

The models are those that the stages train: the platform's own functions build them on torch's meta device, without
weights, and their parameters, layers and widths are read off (`model_shapes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from difflm.diffusion.network import TransformerNetwork, build_network
from difflm.errors import MISFITS, ArtifactError, reason_of
from difflm.models.autoencoder import Injector, PosteriorHead
from difflm.models.bag_encoder import BagEncoder
from difflm.models.building import build_injector, latent_size
from difflm.models.compact import CompactDecoderFit, llama_parameters
from difflm.models.decoder_store import slot_layout
from difflm.models.encoder import CompactEncoder
from difflm.models.field_slots import DigitTokens, NumberFeatures, SlotLayout
from difflm.models.injection.prefix import PrefixInjector
from difflm.models.injection.vocabulary import VocabularyInjector
from difflm.models.precision import Precision, PrecisionSetting, own_device, resolve_precision
from difflm.models.steered import IndependentFields
from difflm.records.tokenization import GridLayout
from difflm.regular_files import read_file
from difflm.runtime.training import chosen_engine
from difflm.telemetry import parse_json
from difflm.training.draft_task import writes_tokens
from difflm_jobs.planning.memory import BYTES, FLOAT32, ProcessMemory, Transformer, model_states
from difflm_jobs.planning.model_shapes import decoder_shape, parameters, pretrained_shape

if TYPE_CHECKING:
    from difflm.models.bag_encoder import BagEncoderConfig
    from difflm.models.compact import CompactDecoderConfig
    from difflm.models.encoder import CompactEncoderConfig, PooledEncoderConfig
    from difflm.training.autoencoder_task import AutoencoderConfig
    from difflm.training.loop import LoopConfig
    from difflm_jobs.config import ExperimentConfig

ASSUMED_TOKENS = 256
"""Of the longest record of a table, before the decoder has counted them."""
ASSUMED_CHARACTERS_PER_TOKEN = 3
ASSUMED_TOKENS_PER_SLOT = 4
ASSUMED_USED_TOKENS = 8192
"""Of a pretrained vocabulary, those that the values of a table need."""


def fitted_parameters(decoder: CompactDecoderConfig, layout: SlotLayout, *, vocabulary: int) -> int:
    """Count what the fit of a compact decoder trains: the decoder, and what makes its prefix."""
    counted: Any = nn.Identity()
    with torch.device("meta"):
        rest = CompactDecoderFit(decoder, layout, model=counted, vocabulary_size=vocabulary, bos_id=0, pad_id=0)
    return llama_parameters(decoder, vocabulary) + parameters(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderSize:
    """An autoencoder around a frozen decoder: its encoder, its parameters, and the prompt that its injector makes.

    `frozen` are those of an encoder that only its adapters are trained of. `vector_numbers` is the size of one of the
    `positions` vectors that the decoder reads as its prompt. `vocabulary` are the tokens that they are written
    through.
    """

    encoder: Transformer
    trained: int
    frozen: int
    positions: int
    vector_numbers: int
    vocabulary: int = 0


def autoencoder_size(
    config: AutoencoderConfig, decoder: Transformer | None, layout: SlotLayout
) -> AutoencoderSize | None:
    """Build encoder, posterior head and injector without weights; None where a model's configuration is out of reach.

    Raises:
        ModelError: no layer of the encoder has the name of a target of its adapters.
    """
    section = config.encoder
    found: Transformer | None = None
    if section.kind == "pretrained":
        found = pretrained_shape(section.model, section.revision, causal=False, lora=section.lora)
    elif decoder is not None:
        found = (
            _bag_encoder(section, layout, decoder.width)
            if section.kind == "bag"
            else _compact_encoder(section, layout, decoder.vocabulary)
        )
    if found is None or decoder is None:
        return None
    outputs = section.latent_per_slot if section.kind == "compact" else section.latent_size
    with torch.device("meta"):
        used = min(decoder.vocabulary, ASSUMED_USED_TOKENS) if writes_tokens(config.injector) else 0
        injector = build_injector(config.injector, section, layout, decoder, scale=1.0, tokens_U=torch.arange(used))
        rest = parameters(injector) + parameters(PosteriorHead(found.width, outputs))
    return AutoencoderSize(
        encoder=found,
        trained=rest + (found.parameters if found.adapters is None else found.adapters.parameters),
        frozen=0 if found.adapters is None else found.parameters,
        positions=injector.positions,
        vector_numbers=_vector_numbers(injector, decoder.width),
        vocabulary=used,
    )


def _vector_numbers(injector: Injector, width: int) -> int:
    match injector:
        case VocabularyInjector():
            return width
        case PrefixInjector():
            return math.prod(injector.vector_shape)
    return math.prod(injector.form.vector_shape)


def _bag_encoder(config: BagEncoderConfig, layout: SlotLayout, width: int) -> Transformer:
    with torch.device("meta"):
        encoder = BagEncoder(config, layout.grid, torch.empty(1), torch.empty(1, width))
    size = config.hidden_size
    return Transformer(
        parameters=parameters(encoder),
        layers=0,
        width=size,
        heads=1,
        key_heads=1,
        head_size=size,
        intermediate=0,
        vocabulary=0,
        gated=False,
    )


def _compact_encoder(
    config: CompactEncoderConfig | PooledEncoderConfig, layout: SlotLayout, vocabulary: int
) -> Transformer:
    fields = len(layout.grid.widths)
    with torch.device("meta"):
        digits = DigitTokens(value_V=torch.empty(0), base_V=torch.empty(0), minus_id=0)
        numbers = NumberFeatures(((),) * fields, layout.grid, layout.field_S, digits=digits)
        encoder = CompactEncoder(config, layout, vocabulary_size=vocabulary, pad_id=0, numbers=numbers)
    layers: Any = encoder.blocks.layers
    return Transformer(
        parameters=parameters(encoder),
        layers=len(layers),
        width=config.hidden_size,
        heads=config.heads,
        key_heads=config.heads,
        head_size=config.hidden_size // config.heads,
        intermediate=max((layer.linear1.out_features for layer in layers), default=0),
        vocabulary=vocabulary,
        gated=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of an experiment's models and records, as far as they are known.

    `tokens` are those of the longest record, and `counted` says whether the decoder's layout was read, or both are
    assumed. `prior` are the parameters of a diffusion's network, and `prior_tokens` its vectors per latent.
    """

    config: ExperimentConfig
    tokens: int
    layout: SlotLayout
    counted: bool
    rows: int | None
    decoder: Transformer | None
    autoencoder: AutoencoderSize | None
    latents: int
    prior: int
    prior_tokens: int

    @classmethod
    def of(cls, config: ExperimentConfig, prepared: Mapping[str, object], decoder: Path | None) -> Sizes:
        """Take the facts of the prepared table, empty before it exists, and the folder of the fitted decoder."""
        rows, shape = prepared.get("train rows"), decoder_shape(config.decoder)
        tokens, layout = _assumed(config) if decoder is None else _counted(decoder)
        latents = latent_size(config.autoencoder.encoder, layout)
        network: nn.Module | None = None
        if config.prior.kind == "diffusion":
            with torch.device("meta"):
                network = build_network(config.prior.network, latent_size=latents)
        return cls(
            config=config,
            tokens=tokens,
            layout=layout,
            counted=decoder is not None,
            rows=rows if isinstance(rows, int) else None,
            decoder=shape,
            autoencoder=autoencoder_size(config.autoencoder, shape, layout),
            latents=latents,
            prior=0 if network is None else parameters(network),
            prior_tokens=len(network.places) if isinstance(network, TransformerNetwork) else 1,
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
        """Return what training workers are assumed to compute in: under `auto` what they would on this machine."""
        return assumed_precision(setting, on_gpus=self.config.runtime.workers.gpus_per_worker > 0)

    @property
    def independent_fields(self) -> int:
        """Parameters of what a pooled latent learns by, as of a table without texts."""
        fields = len(self.layout.grid.widths)
        with torch.device("meta"):
            return parameters(
                IndependentFields(self.latents, fields=fields, texts=(), layout=self.layout.grid, vocabulary=0)
            )

    @property
    def encoder_tokens(self) -> int:
        """Of a record as the encoder reads it: its slots, or its text in tokens of the encoder's own."""
        encoder = self.config.autoencoder.encoder
        if encoder.kind != "pretrained":
            return self.layout.count
        return min(encoder.longest, max(self.tokens, ASSUMED_TOKENS))

    def batch(self, most: int, tokens: int, *, grouped: bool) -> tuple[int, int]:
        """Bound rows and tokens of a micro-batch; one of short records has more of the one than of the other."""
        rows = most if self.rows is None else min(most, self.rows)
        fitting = min(rows, max(1, tokens // self.tokens))
        return (rows, min(rows * self.tokens, tokens)) if grouped else (fitting, fitting * self.tokens)

    def model_states(self, trained: int, frozen: int, loop: LoopConfig, *, frozen_encoder: int = 0) -> ProcessMemory:
        """Count weights, gradients and optimizer state of a training worker, of frozen models beside them, too."""
        workers = self.config.runtime.workers.num_workers
        autocast = self.training_precision(loop.precision) == "bfloat16"
        engine = chosen_engine(self.config.runtime.engine, workers)
        states = partial(model_states, autocast=autocast, engine=engine, workers=workers)
        rest = states(trained=trained, frozen=frozen, frozen_bytes=self.frozen_bytes)
        return rest.plus(states(trained=0, frozen=frozen_encoder, frozen_bytes=FLOAT32))


def assumed_precision(setting: PrecisionSetting, *, on_gpus: bool) -> Precision:
    """Resolve a precision on this machine; GPUs that are elsewhere are assumed to be fast in bfloat16."""
    if on_gpus and setting == "auto" and own_device() == "cpu":
        return "bfloat16"
    return resolve_precision(setting, "cuda" if on_gpus else "cpu")


def _assumed(config: ExperimentConfig) -> tuple[int, SlotLayout]:
    """Return tokens and slots of a record of values that fill one slot each."""
    tokens = ASSUMED_TOKENS if config.data.kind == "table" else config.data.longest // ASSUMED_CHARACTERS_PER_TOKEN
    if config.decoder.kind == "pretrained" and not config.decoder.keys:
        tokens //= 2  # names of fields are about half of a record
    slots, cells = max(1, tokens // ASSUMED_TOKENS_PER_SLOT), config.decoder.cells_per_slot
    return max(1, tokens), SlotLayout(grid=GridLayout(widths=(cells,) * slots), cells_per_slot=cells)


_UNREADABLE: tuple[type[Exception], ...] = (*MISFITS, OSError)


def _counted(decoder: Path) -> tuple[int, SlotLayout]:
    path = decoder / "decoder.json"
    try:
        facts = parse_json(read_file(path))
        return int(facts["longest"]), slot_layout(facts)
    except _UNREADABLE as error:
        reason = reason_of(error)
        raise ArtifactError(f"{path}: cannot be read ({reason}); remove {decoder} and run it again") from error
