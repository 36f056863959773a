"""Shapes of models that are not there yet: their parameters and layers, from the configuration alone.

Shape legend: Z latent size, S slots, W numbers of a vector of the injector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from difflm.diffusion.network import build_network
from difflm.models.encoder import encoder_class
from difflm.models.field_slots import BINS
from difflm.models.pretrained import adapted_layers, adapter_parameters
from difflm_jobs.planning.memory import Adapters, Transformer

if TYPE_CHECKING:
    from difflm.models.compact import CompactDecoderConfig
    from difflm.models.pretrained import LoraConfig
    from difflm.training.autoencoder_task import AutoencoderConfig
    from difflm.training.diffusion_task import DiffusionPriorConfig
    from difflm_jobs.config import ExperimentConfig

KNOWN = {
    "mistralai/Mistral-7B-Instruct-v0.3": Transformer(
        parameters=7_248_023_552,
        layers=32,
        width=4096,
        heads=32,
        key_heads=8,
        head_size=128,
        intermediate=14336,
        vocabulary=32768,
    ),
    "meta-llama/Meta-Llama-3-8B-Instruct": Transformer(
        parameters=8_030_261_248,
        layers=32,
        width=4096,
        heads=32,
        key_heads=8,
        head_size=128,
        intermediate=14336,
        vocabulary=128256,
    ),
    "bert-base-uncased": Transformer(
        parameters=109_482_240,
        layers=12,
        width=768,
        heads=12,
        key_heads=12,
        head_size=64,
        intermediate=3072,
        vocabulary=30522,
        gated=False,
    ),
}
"""The paper's models, so that a plan of its presets needs no hub."""

_EMBEDDING = 48  # of a token, in front of a slot's vector


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordShape:
    """How long records are: tokens of the longest, slots, and tokens of a slot.

    `known` says whether the decoder's layout was read, or all of this is assumed.
    """

    tokens: int
    slots: int
    cells: int
    known: bool


def decoder_shape(config: ExperimentConfig) -> Transformer | None:
    """The decoder; None where the configuration of a pretrained one is out of reach."""
    decoder = config.decoder
    if decoder.kind == "compact":
        return compact_shape(decoder)
    return pretrained_shape(decoder.model, decoder.revision)


def compact_shape(decoder: CompactDecoderConfig) -> Transformer:
    """The compact decoder with a full vocabulary and tied embeddings."""
    size, head_size = decoder.hidden_size, decoder.hidden_size // decoder.heads
    attention = 2 * size * size + 2 * size * decoder.key_heads * head_size
    layer = attention + 3 * size * decoder.intermediate_size + 2 * size
    return Transformer(
        parameters=decoder.vocabulary_size * size + decoder.layers * layer + size,
        layers=decoder.layers,
        width=size,
        heads=decoder.heads,
        key_heads=decoder.key_heads,
        head_size=head_size,
        intermediate=decoder.intermediate_size,
        vocabulary=decoder.vocabulary_size,
    )


@lru_cache
def pretrained_shape(model: str, revision: str | None, *, causal: bool = True) -> Transformer | None:
    """A Hugging Face causal LM, or an encoder, from its configuration alone; None where that is out of reach."""
    if model in KNOWN:
        return KNOWN[model]
    config = _configuration(model, revision)
    return None if config is None else transformer_shape(_without_weights(config, causal=causal))


@lru_cache
def adapters_shape(model: str, revision: str | None, lora: LoraConfig) -> Adapters | None:
    """Adapters on an encoder; None where its configuration is out of reach.

    Raises:
        ModelError: none of its layers has the name of a target.
    """
    config = _known_configuration(KNOWN[model]) if model in KNOWN else _configuration(model, revision)
    if config is None:
        return None
    layers = adapted_layers(_without_weights(config, causal=False), lora.targets)
    return Adapters(
        parameters=adapter_parameters(layers, lora.rank),
        numbers=sum(read + lora.rank for read, _ in layers.values()),
        dropout=lora.dropout > 0,
    )


def _configuration(model: str, revision: str | None) -> Any:
    from difflm.models.loading import load_configuration

    try:
        return load_configuration(model, revision=revision)
    except (OSError, ValueError, KeyError):
        return None


def _known_configuration(shape: Transformer) -> Any:
    """One whose layers have the names and sizes of a model of `KNOWN`."""
    from transformers import BertConfig, LlamaConfig

    sizes: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
    }
    return LlamaConfig(**sizes, num_key_value_heads=shape.key_heads) if shape.gated else BertConfig(**sizes)


def _without_weights(config: Any, *, causal: bool) -> Any:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from difflm.models.loading import model_of

    factory: Any = AutoModelForCausalLM if causal else encoder_class(config.model_type)
    with torch.device("meta"):
        return model_of(factory, config) if factory in (AutoModel, AutoModelForCausalLM) else factory(config)


def transformer_shape(model: Any) -> Transformer:
    """The sizes of a model of Hugging Face, which may be on the meta device."""
    config: Any = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    inner = [getattr(config, name, None) for name in ("intermediate_size", "n_inner", "d_ff")]
    width = int(config.hidden_size)
    names = [name for name, _ in model.named_parameters()]
    return Transformer(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=int(config.num_hidden_layers),
        width=width,
        heads=heads,
        key_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_size=int(getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or width // heads),
        intermediate=int(next((size for size in inner if size), 4 * width)),
        vocabulary=int(config.vocab_size),
        gated=any("gate_proj" in name or "wi_1" in name for name in names),
    )


def encoder_shape(config: AutoencoderConfig, *, vocabulary: int) -> Transformer | None:
    """The encoder. `vocabulary` is that of the decoder, whose tokens a compact encoder reads.

    Raises ModelError where none of its layers has the name of a target of its adapters.
    """
    encoder = config.encoder
    if encoder.kind == "pretrained":
        shape = pretrained_shape(encoder.model, encoder.revision, causal=False)
        if shape is None or encoder.lora is None:
            return shape
        return replace(shape, adapters=adapters_shape(encoder.model, encoder.revision, encoder.lora))
    size = encoder.hidden_size
    layer = 4 * size * size + 4 * size + 6 * size * size + 4 * size + 4 * size
    return Transformer(
        parameters=encoder.layers * layer + 2 * size,
        layers=encoder.layers,
        width=size,
        heads=encoder.heads,
        key_heads=encoder.heads,
        head_size=size // encoder.heads,
        intermediate=3 * size,
        vocabulary=vocabulary,
        gated=False,
    )


def embedder_parameters(record: RecordShape, *, vocabulary: int, size: int, numbers: bool) -> int:
    """Of what turns a slot's tokens into a vector (`SlotEmbedder`)."""
    hidden = 2 * size
    matrices = record.cells * _EMBEDDING * hidden + hidden + hidden * size + size
    return vocabulary * _EMBEDDING + record.slots * hidden + matrices + (BINS * hidden if numbers else 0)


def latent_numbers(config: AutoencoderConfig, record: RecordShape) -> int:
    """Z."""
    encoder = config.encoder
    return record.slots * encoder.latent_per_slot if encoder.kind == "compact" else encoder.latent_size


def prompt_positions(config: AutoencoderConfig, record: RecordShape) -> int:
    """Positions of the decoder that the prompt takes."""
    injector = config.injector
    if injector.kind == "embedding":
        return 0
    own = injector.soft_tokens if injector.kind == "soft_prompt" else injector.positions
    return injector.learned_prefix + (record.slots if config.encoder.kind == "compact" else own)


def vector_numbers(config: AutoencoderConfig, decoder: Transformer) -> int:
    """W: of one position of the prompt."""
    if config.injector.kind != "kv_memory":
        return decoder.width
    return decoder.layers * 2 * decoder.key_heads * decoder.head_size


def trained_parameters(
    config: AutoencoderConfig, encoder: Transformer, decoder: Transformer, record: RecordShape
) -> int:
    """Of encoder (of its adapters alone, where it has such), posterior head and injector."""
    injector, latents, numbers = config.injector, latent_numbers(config, record), vector_numbers(config, decoder)
    hidden, middle = injector.hidden_size, injector.hidden_size * (injector.hidden_size + 1)
    prefix = 0 if injector.kind == "embedding" else injector.learned_prefix
    own = encoder.parameters if encoder.adapters is None else encoder.adapters.parameters
    if config.encoder.kind == "compact":
        per_slot = config.encoder.latent_per_slot
        own += embedder_parameters(record, vocabulary=decoder.vocabulary, size=encoder.width, numbers=True)
        own += (encoder.width + 1) * 2 * per_slot
        if injector.kind != "embedding":
            slots = record.slots * (hidden + per_slot * hidden)
            return own + slots + middle + (hidden + 1) * numbers + prefix * numbers
    else:
        own += (encoder.width + 1) * 2 * latents
    vectors = 1 if injector.kind == "embedding" else prompt_positions(config, record) - prefix
    return own + (latents + 1) * hidden + middle + (hidden + 1) * vectors * numbers + prefix * numbers


def denoiser_parameters(prior: DiffusionPriorConfig, latents: int) -> int:
    """Of the prior's network."""
    import torch

    with torch.device("meta"):
        network = build_network(prior.network, latent_size=latents)
    return sum(parameter.numel() for parameter in network.parameters())


def prior_tokens(prior: DiffusionPriorConfig, latents: int) -> int:
    """Vectors of the prior's width per latent."""
    denoiser = prior.denoiser
    return math.ceil(latents / denoiser.part_size) if denoiser.kind == "transformer" else 1
