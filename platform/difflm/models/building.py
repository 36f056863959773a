"""Building encoder, injector and the autoencoder around a decoder, from their configurations.

Shape legend: U tokens that training uses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from difflm.errors import ModelError
from difflm.models.autoencoder import Autoencoder, AutoencoderShape, Injector, PosteriorHead
from difflm.models.bag_encoder import BagEncoder, BagEncoderConfig
from difflm.models.decoder import FrozenDecoder
from difflm.models.decoder_store import DecoderParts, load_decoder
from difflm.models.encoder import (
    CompactEncoder,
    CompactEncoderConfig,
    EncoderConfig,
    PooledEncoderConfig,
    PretrainedEncoder,
    PretrainedEncoderConfig,
)
from difflm.models.field_slots import SlotLayout
from difflm.models.injection.injector import (
    AddedEmbedding,
    EmbeddingConfig,
    InjectorConfig,
    KeysAndValues,
    KvMemoryConfig,
    PooledInjector,
    PromptForm,
    PromptReader,
    SlotInjector,
    SoftPromptConfig,
    SoftTokens,
)
from difflm.models.injection.prefix import PrefixConfig, PrefixInjector
from difflm.models.injection.vocabulary import VocabularyConfig, VocabularyInjector
from difflm.models.injection.words import FieldWords
from difflm.models.precision import PrecisionSetting
from difflm.records.schema import RecordSchema


def build_autoencoder(
    shape: AutoencoderShape,
    decoder_directory: Path,
    schema: RecordSchema,
    *,
    dtype: torch.dtype | None = None,
    computed_in: PrecisionSetting = "auto",
    check: Callable[[FrozenDecoder, DecoderParts], None] | None = None,
) -> tuple[Autoencoder, DecoderParts]:
    """Return the untrained autoencoder around a directory's decoder, of the precision as of `load_decoder`, after
    `check` of what the shape asks for.
    """
    decoder, parts = load_decoder(decoder_directory, schema, dtype=dtype, computed_in=computed_in)
    if check is not None:
        check(decoder, parts)
    tokens_U = None if shape.tokens is None else torch.tensor(shape.tokens)
    encoder, head = build_encoder(
        shape.encoder, parts, decoder=decoder, tokens_U=tokens_U, weights_sha256=shape.encoder_sha256
    )
    injector = build_injector(
        shape.injector, shape.encoder, parts.slots, decoder, scale=parts.prompt_scale(decoder), tokens_U=tokens_U
    )
    module = Autoencoder(encoder=encoder, head=head, injector=injector, decoder=decoder)
    module.check_room(parts.longest, remedy="lower injector.soft_tokens (injector.positions or words of a memory)")
    return module, parts


def build_encoder(
    config: EncoderConfig,
    parts: DecoderParts,
    *,
    decoder: PromptReader | None = None,
    tokens_U: Tensor | None = None,
    weights_sha256: str | None = None,
) -> tuple[nn.Module, PosteriorHead]:
    """Return the encoder and the head that turns its output into a posterior; one of bags reads the decoder's own
    embeddings of `tokens_U`.

    Raises:
        ModelError: an encoder of bags has no tokens.
    """
    match config:
        case BagEncoderConfig():
            if decoder is None or tokens_U is None:
                raise ModelError("encoder.kind=bag lacks the tokens of training; train the autoencoder again")
            bags = BagEncoder(config, parts.slots.grid, tokens_U, decoder.embeddings(tokens_U))
            return bags, PosteriorHead(config.hidden_size, config.latent_size)
        case CompactEncoderConfig() | PooledEncoderConfig():
            encoder: nn.Module = CompactEncoder(
                config,
                parts.slots,
                vocabulary_size=len(parts.tokenizer.tokenizer),
                pad_id=parts.tokenizer.pad_id,
                numbers=parts.number_features(),
            )
            latents = config.latent_per_slot if isinstance(config, CompactEncoderConfig) else config.latent_size
            return encoder, PosteriorHead(config.hidden_size, latents)
        case PretrainedEncoderConfig():
            pretrained = PretrainedEncoder(config, weights_sha256=weights_sha256)
            return pretrained, PosteriorHead(pretrained.size, config.latent_size)


def build_injector(
    config: InjectorConfig,
    encoder: EncoderConfig,
    layout: SlotLayout,
    decoder: PromptReader,
    *,
    scale: float,
    tokens_U: Tensor | None = None,
) -> Injector:
    """Return the injector for the encoder's latent: aligned with slots, or pooled. `scale` is that of soft tokens,
    `tokens_U` are those that one through the vocabulary writes.

    Raises:
        ModelError: an injector that writes tokens has none; or one through the vocabulary has a latent that is not
            aligned with slots, or one with words a latent that is.
    """
    size = latent_size(encoder, layout)
    match config:
        case VocabularyConfig():
            if not isinstance(encoder, CompactEncoderConfig):
                raise ModelError(f"injector.kind=vocabulary needs encoder.kind=compact, not {encoder.kind}")
            if tokens_U is None:
                raise ModelError("injector.kind=vocabulary lacks the tokens of training; train the autoencoder again")
            latents = encoder.latent_per_slot
            return VocabularyInjector(config, layout, tokens_U, decoder.embeddings(tokens_U), latent_per_slot=latents)
        case PrefixConfig():
            words = None if config.words == 0 else _field_words(config.words, encoder, layout, decoder, tokens_U)
            memory = decoder.memory_shape
            return PrefixInjector(
                config,
                latent_size=size,
                layers=memory.layers,
                heads=memory.heads,
                head_size=memory.head_size,
                width=decoder.width,
                words=words,
            )
        case SoftPromptConfig(soft_tokens=vectors, learned_prefix=prefix):
            form: PromptForm = SoftTokens(size=decoder.width, scale=scale)
        case KvMemoryConfig(positions=vectors, learned_prefix=prefix):
            form = KeysAndValues(size=decoder.width, shape=decoder.memory_shape, scale=decoder.memory_scales())
        case EmbeddingConfig():
            form = AddedEmbedding(size=decoder.width, shape=decoder.memory_shape, scale=scale)
            return PooledInjector(form, latent_size=size, vectors=1, hidden_size=config.hidden_size, learned_prefix=0)
    if isinstance(encoder, CompactEncoderConfig):
        return SlotInjector(
            form,
            slots=layout.count,
            latent_per_slot=encoder.latent_per_slot,
            hidden_size=config.hidden_size,
            learned_prefix=prefix,
        )
    return PooledInjector(
        form,
        latent_size=size,
        vectors=vectors,
        hidden_size=config.hidden_size,
        learned_prefix=prefix,
        empty=isinstance(config, SoftPromptConfig) and config.empty,
    )


def _field_words(
    count: int, encoder: EncoderConfig, layout: SlotLayout, decoder: PromptReader, tokens_U: Tensor | None
) -> FieldWords:
    if isinstance(encoder, CompactEncoderConfig):
        raise ModelError("injector.words says one latent of a record: choose encoder.kind=bag or pretrained")
    if tokens_U is None:
        raise ModelError("injector.words lacks the tokens of training; train the autoencoder again")
    embeddings_UD, size = decoder.embeddings(tokens_U), latent_size(encoder, layout)
    return FieldWords(tokens_U, embeddings_UD, count=count, latent_size=size, layout=layout.grid)


def latent_size(encoder: EncoderConfig, layout: SlotLayout) -> int:
    """Z."""
    return layout.count * encoder.latent_per_slot if isinstance(encoder, CompactEncoderConfig) else encoder.latent_size
