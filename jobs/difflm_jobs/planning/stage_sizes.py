"""Sizes of stages before they run: steps and parameters in words, and the memory of one of their processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from difflm.models.compact import attention
from difflm.models.decoder import EAGER_TOKENS
from difflm.synthesis.bundle import ENCODE_BATCH
from difflm.synthesis.decoding.llama import MAX_PARAMETERS
from difflm.synthesis.decoding.slot_model import PREFILL_TOKENS
from difflm_jobs.planning.memory import (
    BYTES,
    FLOAT32,
    Passes,
    ProcessMemory,
    activation_bytes,
    cache_bytes,
    draw_bytes,
    loss_bytes,
    reading_bytes,
)
from difflm_jobs.planning.sizes import AutoencoderSize, Sizes, assumed_precision, fitted_parameters

if TYPE_CHECKING:
    from difflm.training.loop import LoopConfig

ASSUMED_RUN_TOKENS = 16
"""Tokens that a record reads at once where its grammar leaves no choice."""
BLOCK_NUMBERS = {"mlp": 6, "transformer": 16}
"""Numbers that the backward pass reads of a denoiser's block, by its width."""
INTEGER_BYTES, OBJECT_BYTES = 8, 36


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSize:
    """What a stage is like, in words, and what one of its processes needs, as far as that is known."""

    words: str
    memory: ProcessMemory | None = None


def stage_sizes(sizes: Sizes, *, columns: object = None) -> dict[str, StageSize]:
    """Return for each stage its size in words and the memory of one of its processes."""
    config, rows = sizes.config, sizes.rows
    table = f"{rows:,} training rows, {columns} columns" if rows is not None else "known when prepared"
    emitted = config.rows or rows
    asked = f"{emitted:,} rows" if emitted is not None else "as many rows as are trained on"
    return {
        **{name: StageSize(words="differential privacy") for name in ("rows", "start-decoder")},
        "prepare": StageSize(words=table),
        "fit-decoder": _decoder(sizes),
        "train-autoencoder": _autoencoder(sizes),
        "encode": StageSize(words=table, memory=_encoding(sizes)),
        "train-diffusion": _prior(sizes),
        "train-conditional": _conditional(sizes),
        "assemble": StageSize(words=""),
        "synthesize": StageSize(words=asked, memory=_sampling(sizes)),
        "evaluate": StageSize(words=""),
    }


def _decoder(sizes: Sizes) -> StageSize:
    decoder, fit, model = sizes.config.decoder, sizes.config.decoder_fit, sizes.decoder
    if decoder.kind == "pretrained":
        words = f"{decoder.model}, frozen"
        if model is None:
            return StageSize(words=words)
        return StageSize(words=words, memory=ProcessMemory(loading=float(model.parameters * sizes.frozen_bytes)))
    assert model is not None, "a compact decoder's shape is its configuration"
    rows, tokens = sizes.batch(fit.batch_size, fit.tokens_per_batch, grouped=fit.group_by_length)
    draft = sizes.autoencoder if sizes.config.autoencoder.encoder.kind == "pooled" else None
    number_bytes = BYTES[sizes.training_precision(fit.loop.precision)]
    if draft is None:
        prompt, trained = sizes.layout.count, fitted_parameters(decoder, sizes.layout, vocabulary=model.vocabulary)
    else:
        prompt, trained = draft.positions, model.parameters + draft.trained + sizes.independent_fields
    length = sizes.tokens + prompt + 1
    passes = Passes(
        tokens=tokens + rows * (prompt + 1),
        length=length,
        number_bytes=number_bytes,
        trained=True,
        fused=attention(length) != "eager",
    )
    activations = activation_bytes(model, passes) + loss_bytes(model, tokens=tokens, number_bytes=number_bytes)
    if draft is not None:
        activations += activation_bytes(draft.encoder, _encoder_passes(sizes, draft, rows, number_bytes))
    states = sizes.model_states(trained, 0, fit.loop)
    memory = replace(states, activations=activations, kept=states.kept + _token_data(sizes))
    more = f" ({round(fit.lengthened * fit.steps):,} while it gets better)" if draft and fit.lengthened > 1 else ""
    words = f"at most {fit.steps:,} steps{more} of {rows} rows, {model.parameters / 1e6:.1f} M parameters"
    return StageSize(words=words, memory=memory)


def _autoencoder(sizes: Sizes) -> StageSize:
    section, model, size = sizes.config.autoencoder, sizes.decoder, sizes.autoencoder
    rows, tokens = sizes.batch(section.batch_size, section.tokens_per_batch, grouped=section.group_by_length)
    of = f" ({section.encoder.model})" if section.encoder.kind == "pretrained" else ""
    of += ", its adapters alone" if size is not None and size.frozen else ""
    words = f"at most {section.steps:,} steps of {rows} rows, encoder {section.encoder.kind}{of}"
    if model is None or size is None:
        return StageSize(words=words)
    number_bytes, prompt = BYTES[sizes.training_precision(section.loop.precision)], size.positions
    length = sizes.tokens + prompt + 1
    fused = _attention(sizes, length) != "eager"
    if _attends_by_length(sizes):
        fused, length = False, min(length, EAGER_TOKENS + prompt + 1)
    decoding = Passes(
        tokens=tokens + rows * (prompt + 1),
        length=length,
        number_bytes=number_bytes,
        trained=_keeps_inputs(sizes),
        fused=fused,
        checkpointing=section.gradient_checkpointing,
    )
    encoding = _encoder_passes(sizes, size, rows, number_bytes)
    vectors = rows * max(1, prompt) * size.vector_numbers
    activations = (
        activation_bytes(model, decoding)
        + loss_bytes(model, tokens=tokens, number_bytes=number_bytes)
        + activation_bytes(size.encoder, encoding)
        + vectors * 4 * FLOAT32  # as they are made, normed, scaled, and their gradient
    )
    if size.vocabulary:
        activations = max(activations + _choices(size, rows), _drafting(sizes, size))
        words += f", after {section.draft.steps:,} steps of {section.draft.batch_size} rows without the decoder"
    states = sizes.model_states(size.trained, model.parameters, section.loop, frozen_encoder=size.frozen)
    states = replace(states, frozen=states.frozen + FLOAT32 * size.vocabulary * model.width)
    texts = 0 if section.encoder.kind != "pretrained" or sizes.rows is None else sizes.rows * sizes.encoder_tokens
    kept = states.kept + _token_data(sizes) + OBJECT_BYTES * texts
    return StageSize(
        words=f"{words}, {size.trained / 1e6:.1f} M parameters",
        memory=replace(states, activations=activations, kept=kept),
    )


def _choices(size: AutoencoderSize, rows: int) -> float:
    """Count what an injector through the vocabulary keeps of its choices: as scores, as shares, and their gradient."""
    return float(3 * FLOAT32 * rows * size.positions * size.vocabulary)


def _drafting(sizes: Sizes, size: AutoencoderSize) -> float:
    rows = sizes.config.autoencoder.draft.batch_size
    return activation_bytes(size.encoder, _encoder_passes(sizes, size, rows, FLOAT32)) + _choices(size, rows)


def _encoder_passes(sizes: Sizes, size: AutoencoderSize, rows: int, number_bytes: int) -> Passes:
    encoder = sizes.config.autoencoder.encoder
    return Passes(
        tokens=rows * sizes.encoder_tokens,
        length=sizes.encoder_tokens,
        number_bytes=number_bytes,
        trained=size.encoder.adapters is None,
        fused=encoder.kind != "pretrained" or encoder.attention != "eager",
        dropout=encoder.kind == "pretrained",
    )


def _keeps_inputs(sizes: Sizes) -> bool:
    """Say whether matrix products keep inputs of frozen weights: under ZeRO-3, DeepSpeed's own does."""
    engine = sizes.config.runtime.engine
    return engine.kind == "deepspeed" and engine.zero_stage == 3


def _attention(sizes: Sizes, length: int) -> str:
    """Return the decoder's attention."""
    decoder = sizes.config.decoder
    return decoder.attention if decoder.kind == "pretrained" else attention(length)


def _attends_by_length(sizes: Sizes) -> bool:
    """Say whether a pretrained decoder attends eagerly to short texts in training, as on CPUs."""
    decoder, workers = sizes.config.decoder, sizes.config.runtime.workers
    return decoder.kind == "pretrained" and decoder.attention == "auto" and workers.gpus_per_worker == 0


def _token_data(sizes: Sizes) -> float:
    """Count token ids and value grids of the training split, as every worker holds them."""
    return 0.0 if sizes.rows is None else 2.0 * INTEGER_BYTES * sizes.rows * sizes.tokens


def _encoding(sizes: Sizes) -> ProcessMemory | None:
    model, size = sizes.decoder, sizes.autoencoder
    if model is None or size is None:
        return None
    frozen = float(model.parameters * sizes.frozen_bytes + FLOAT32 * size.frozen)
    reading = reading_bytes(size.encoder, tokens=ENCODE_BATCH * sizes.encoder_tokens, number_bytes=FLOAT32)
    weights = float(FLOAT32 * size.trained)
    return ProcessMemory(frozen=frozen, trained=weights, activations=reading, loading=frozen + weights)


def _prior(sizes: Sizes) -> StageSize:
    prior = sizes.config.prior
    if prior.kind != "diffusion":
        return StageSize(words=f"{prior.kind}, fitted at once")
    words = f"{prior.steps:,} steps of {prior.batch_size} latents, {sizes.prior / 1e6:.1f} M parameters"
    return StageSize(words=words, memory=_denoising(sizes, prior.batch_size, prior.loop))


def _conditional(sizes: Sizes) -> StageSize:
    section = sizes.config.conditions
    words = f"{section.steps:,} steps of {section.batch_size} latents"
    return StageSize(words=words, memory=_denoising(sizes, section.batch_size, section.loop))


def _denoising(sizes: Sizes, batch_size: int, loop: LoopConfig) -> ProcessMemory | None:
    prior = sizes.config.prior
    if prior.kind != "diffusion":
        return None
    vectors = batch_size * sizes.prior_tokens * prior.width
    activations = float((prior.blocks + 1) * BLOCK_NUMBERS[prior.denoiser.kind] * FLOAT32 * vectors)
    states = sizes.model_states(sizes.prior, 0, loop)
    data = 2 * FLOAT32 * sizes.latents * (sizes.rows or 0)
    average = FLOAT32 * sizes.prior
    return replace(states, activations=activations, kept=states.kept + average + data)


def _sampling(sizes: Sizes) -> ProcessMemory | None:
    config, model, size = sizes.config, sizes.decoder, sizes.autoencoder
    if model is None or size is None:
        return None
    sampling, on_gpus = config.sampling, config.runtime.synthesis.pool.gpus_per_actor > 0
    number_bytes = BYTES[assumed_precision(sampling.precision, on_gpus=on_gpus)]
    frozen = float(number_bytes * model.parameters)
    if model.parameters <= MAX_PARAMETERS:
        frozen *= 2
    frozen += FLOAT32 * (size.frozen + size.vocabulary * model.width)
    networks = 2 if config.conditions.enabled else 1
    trained = float(FLOAT32 * (size.trained + networks * sizes.prior))
    tokens = sizes.tokens + (0 if config.data.kind == "table" else sampling.text_tokens)
    under_way = max(PREFILL_TOKENS, sampling.batch_size * ASSUMED_RUN_TOKENS)
    return ProcessMemory(
        frozen=frozen,
        trained=trained,
        activations=reading_bytes(model, tokens=under_way, number_bytes=number_bytes)
        + draw_bytes(model, records=sampling.batch_size)
        + _choices(size, sampling.batch_size),
        cache=cache_bytes(
            model,
            records=sampling.batch_size,
            positions=size.positions + 1 + tokens,
            prompt=size.positions,
            number_bytes=number_bytes,
        ),
        loading=frozen + trained,
    )
