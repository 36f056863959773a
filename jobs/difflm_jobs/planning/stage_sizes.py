"""Sizes of stages before they run: steps and parameters in words, and the memory of one of their processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from difflm.models.compact import attention
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
from difflm_jobs.planning.model_shapes import (
    embedder_parameters,
    latent_numbers,
    prior_tokens,
    prompt_positions,
    vector_numbers,
)
from difflm_jobs.planning.sizes import Sizes, assumed_precision

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


def estimate(sizes: Sizes, *, columns: object = None) -> dict[str, StageSize]:
    """For each stage its size in words and the memory of one of its processes."""
    config, rows = sizes.config, sizes.rows
    table = f"{rows:,} training rows, {columns} columns" if rows is not None else "known when prepared"
    emitted = config.rows or rows
    asked = f"{emitted:,} rows" if emitted is not None else "as many rows as are trained on"
    return {
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
    record = sizes.record
    rows, tokens = sizes.batch(fit.batch_size, fit.tokens_per_batch, grouped=fit.group_by_length)
    embedder = embedder_parameters(record, vocabulary=model.vocabulary, size=model.width, numbers=False)
    trained = model.parameters + embedder + record.slots * model.width
    number_bytes = BYTES[sizes.training_precision(fit.loop.precision)]
    length = record.tokens + record.slots + 1
    passes = Passes(
        tokens=tokens + rows * (record.slots + 1),
        length=length,
        number_bytes=number_bytes,
        trained=True,
        fused=attention(length) != "eager",
    )
    activations = activation_bytes(model, passes) + loss_bytes(model, tokens=tokens, number_bytes=number_bytes)
    states = sizes.model_states(trained, 0, fit.loop)
    memory = replace(states, activations=activations, kept=states.kept + _token_data(sizes))
    words = f"at most {fit.steps:,} steps of {rows} rows, {model.parameters / 1e6:.1f} M parameters"
    return StageSize(words=words, memory=memory)


def _autoencoder(sizes: Sizes) -> StageSize:
    section, model, encoder, trained = sizes.config.autoencoder, sizes.decoder, sizes.encoder, sizes.trained
    rows, tokens = sizes.batch(section.batch_size, section.tokens_per_batch, grouped=section.group_by_length)
    of = f" ({section.encoder.model})" if section.encoder.kind == "pretrained" else ""
    of += ", its adapters alone" if sizes.frozen_encoder else ""
    words = f"at most {section.steps:,} steps of {rows} rows, encoder {section.encoder.kind}{of}"
    if model is None or encoder is None or trained is None:
        return StageSize(words=words)
    number_bytes = BYTES[sizes.training_precision(section.loop.precision)]
    prompt = prompt_positions(section, sizes.record)
    length = sizes.record.tokens + prompt + 1
    decoding = Passes(
        tokens=tokens + rows * (prompt + 1),
        length=length,
        number_bytes=number_bytes,
        trained=_keeps_inputs(sizes),
        fused=_attention(sizes, length) != "eager",
        checkpointing=section.gradient_checkpointing,
    )
    encoding = Passes(
        tokens=rows * sizes.encoder_tokens,
        length=sizes.encoder_tokens,
        number_bytes=number_bytes,
        trained=encoder.adapters is None,
        fused=section.encoder.kind == "compact" or section.encoder.attention != "eager",
        dropout=section.encoder.kind == "pretrained",
    )
    vectors = rows * max(1, prompt) * vector_numbers(section, model)
    activations = (
        activation_bytes(model, decoding)
        + loss_bytes(model, tokens=tokens, number_bytes=number_bytes)
        + activation_bytes(encoder, encoding)
        + vectors * 4 * FLOAT32  # as they are made, normed, scaled, and their gradient
    )
    states = sizes.model_states(trained, model.parameters, section.loop, frozen_encoder=sizes.frozen_encoder)
    texts = 0 if section.encoder.kind == "compact" or sizes.rows is None else sizes.rows * sizes.encoder_tokens
    kept = states.kept + _token_data(sizes) + OBJECT_BYTES * texts
    return StageSize(
        words=f"{words}, {trained / 1e6:.1f} M parameters", memory=replace(states, activations=activations, kept=kept)
    )


def _keeps_inputs(sizes: Sizes) -> bool:
    """Under ZeRO-3, DeepSpeed's own matrix product keeps its input for the backward pass, of frozen weights too."""
    engine = sizes.config.runtime.engine
    return engine.kind == "deepspeed" and engine.zero_stage == 3


def _attention(sizes: Sizes, length: int) -> str:
    """Of the decoder."""
    decoder = sizes.config.decoder
    return decoder.attention if decoder.kind == "pretrained" else attention(length)


def _token_data(sizes: Sizes) -> float:
    """Token ids and value grids of the training split, as every worker holds them."""
    return 0.0 if sizes.rows is None else 2.0 * INTEGER_BYTES * sizes.rows * sizes.record.tokens


def _encoding(sizes: Sizes) -> ProcessMemory | None:
    if sizes.decoder is None or sizes.encoder is None or sizes.trained is None:
        return None
    frozen = float(sizes.decoder.parameters * sizes.frozen_bytes + FLOAT32 * sizes.frozen_encoder)
    reading = reading_bytes(sizes.encoder, tokens=ENCODE_BATCH * sizes.encoder_tokens, number_bytes=FLOAT32)
    weights = float(FLOAT32 * sizes.trained)
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
    latents = latent_numbers(sizes.config.autoencoder, sizes.record)
    vectors = batch_size * prior_tokens(prior, latents) * prior.width
    activations = float((prior.blocks + 1) * BLOCK_NUMBERS[prior.denoiser.kind] * FLOAT32 * vectors)
    states = sizes.model_states(sizes.prior, 0, loop)
    data = 2 * FLOAT32 * latents * (sizes.rows or 0)
    average = FLOAT32 * sizes.prior
    return replace(states, activations=activations, kept=states.kept + average + data)


def _sampling(sizes: Sizes) -> ProcessMemory | None:
    config, model, record = sizes.config, sizes.decoder, sizes.record
    if model is None or sizes.trained is None:
        return None
    sampling, on_gpus = config.sampling, config.runtime.synthesis.pool.gpus_per_actor > 0
    number_bytes = BYTES[assumed_precision(sampling.precision, on_gpus=on_gpus)]
    frozen = float(number_bytes * model.parameters)
    if model.parameters <= MAX_PARAMETERS:
        frozen *= 2
    frozen += FLOAT32 * sizes.frozen_encoder
    networks = 2 if config.conditions.enabled else 1
    trained = float(FLOAT32 * (sizes.trained + networks * sizes.prior))
    prompt = prompt_positions(config.autoencoder, record)
    tokens = record.tokens + (0 if config.data.kind == "table" else sampling.text_tokens)
    under_way = max(PREFILL_TOKENS, sampling.batch_size * ASSUMED_RUN_TOKENS)
    return ProcessMemory(
        frozen=frozen,
        trained=trained,
        activations=reading_bytes(model, tokens=under_way, number_bytes=number_bytes)
        + draw_bytes(model, records=sampling.batch_size),
        cache=cache_bytes(
            model,
            records=sampling.batch_size,
            positions=prompt + 1 + tokens,
            prompt=prompt,
            number_bytes=number_bytes,
        ),
        loading=frozen + trained,
    )
