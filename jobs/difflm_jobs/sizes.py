"""Sizes of stages before they run: steps, parameters, and a lower bound of the memory of one process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difflm.models.compact import CompactDecoderConfig
    from difflm_jobs.config import ExperimentConfig

Size = tuple[str, float | None]

PROCESS_MIB = 450.0  # Python with torch, transformers and Ray, before any model
TRAINED_BYTES = 16  # float32 weight, gradient and the two moments of AdamW
EMA_BYTES = 4
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
KNOWN_PARAMETERS = {
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "bert-base-uncased": 109_482_240,
}
"""Of the paper's models, so that a plan of its presets needs no hub."""


def estimate(config: ExperimentConfig, prepared: Mapping[str, object]) -> dict[str, Size]:
    """For each stage its size in words and the memory of one process in MiB, as far as they are known.

    ``prepared`` are the facts of the prepared table, empty before it exists. The bound leaves out activations.
    """
    rows = prepared.get("train rows")
    table = f"{rows:,} training rows, {prepared['columns']} columns" if isinstance(rows, int) else "known when prepared"
    emitted = config.rows or rows
    asked = f"{emitted:,} rows" if isinstance(emitted, int) else "as many rows as are trained on"
    return {
        "prepare": (table, PROCESS_MIB),
        "fit-decoder": _decoder(config),
        "train-autoencoder": _autoencoder(config),
        "encode": (table, _with(frozen_bytes(config))),
        "train-diffusion": _prior(config),
        "train-conditional": _conditional(config),
        "assemble": ("", PROCESS_MIB),
        "synthesize": (asked, _with(frozen_bytes(config))),
        "evaluate": ("", PROCESS_MIB),
    }


def compact_parameters(decoder: CompactDecoderConfig) -> int:
    """Parameters of the compact decoder with a full vocabulary: tied embeddings, attention, gated MLP and norms."""
    size = decoder.hidden_size
    layer = 4 * size * size + 3 * size * decoder.intermediate_size + 2 * size
    return decoder.vocabulary_size * size + decoder.layers * layer + size


@lru_cache
def pretrained_parameters(model: str, revision: str | None, *, causal: bool = True) -> int | None:
    """Parameters of a Hugging Face causal LM, or of an encoder, from its configuration alone.

    Those of the paper's models are known without the hub; None where the configuration is out of reach.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    if model in KNOWN_PARAMETERS:
        return KNOWN_PARAMETERS[model]
    factory: Any = AutoModelForCausalLM if causal else AutoModel
    try:
        config = AutoConfig.from_pretrained(model, revision=revision)
        with torch.device("meta"):
            loaded = factory.from_config(config)
    except (OSError, ValueError, KeyError):
        return None
    return int(sum(parameter.numel() for parameter in loaded.parameters()))


def frozen_bytes(config: ExperimentConfig) -> float | None:
    """Bytes of the frozen decoder's weights."""
    decoder = config.decoder
    if decoder.kind == "compact":
        return 4.0 * compact_parameters(decoder)
    parameters = pretrained_parameters(decoder.model, decoder.revision)
    return None if parameters is None else float(parameters * DTYPE_BYTES[decoder.dtype])


def _decoder(config: ExperimentConfig) -> Size:
    decoder, fit = config.decoder, config.decoder_fit
    if decoder.kind == "compact":
        parameters = compact_parameters(decoder)
        words = f"at most {fit.steps:,} steps of {fit.batch_size} rows, {parameters / 1e6:.1f} M parameters"
        return words, _with(float(TRAINED_BYTES * parameters))
    return f"{decoder.model}, frozen", _with(frozen_bytes(config))


def _autoencoder(config: ExperimentConfig) -> Size:
    section = config.autoencoder
    encoder = section.encoder
    words = f"at most {section.steps:,} steps of {section.batch_size} rows, encoder {encoder.kind}"
    frozen = frozen_bytes(config)
    if encoder.kind == "compact":
        trained: int | None = 12 * encoder.layers * encoder.hidden_size**2
    else:
        words += f" ({encoder.model})"
        trained = pretrained_parameters(encoder.model, encoder.revision, causal=False)
    if frozen is None or trained is None:
        return words, None
    return words, _with(frozen + TRAINED_BYTES * trained)


def _prior(config: ExperimentConfig) -> Size:
    prior = config.prior
    if prior.kind != "diffusion":
        return f"{prior.kind}, fitted at once", PROCESS_MIB
    parameters = prior.blocks * 2 * prior.width**2
    words = f"{prior.steps:,} steps of {prior.batch_size} latents, about {parameters / 1e6:.1f} M parameters"
    return words, _with(float((TRAINED_BYTES + EMA_BYTES) * parameters))


def _conditional(config: ExperimentConfig) -> Size:
    section, (_, memory_mib) = config.conditions, _prior(config)
    return f"{section.steps:,} steps of {section.batch_size} latents", memory_mib


def _with(size_bytes: float | None) -> float | None:
    return None if size_bytes is None else PROCESS_MIB + size_bytes / 2**20
