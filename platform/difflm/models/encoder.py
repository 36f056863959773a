"""The trainable encoder: a small built-in transformer over slots, sums of a pretrained decoder's own token embeddings
(`bag_encoder`), or any Hugging Face encoder over the record's text.

Shape legend: B records, G grid cells, S slots, T tokens, H hidden size.

What an encoder reads of a table: the value grid (compact), or its own tokens of the records' text (pretrained).

Shape legend: B batch, T encoder tokens, G grid cells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import pyarrow as pa
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from difflm.config import Config
from difflm.errors import ModelError
from difflm.models.bag_encoder import BagEncoderConfig
from difflm.models.field_slots import NumberFeatures, SlotEmbedder, SlotLayout
from difflm.models.loading import load_configuration, load_tokenizer, load_weights
from difflm.models.pretrained import (
    UNREAD,
    AttentionChoice,
    AttentionName,
    LoraConfig,
    add_adapters,
    check_weights,
    loaded_attention,
    refused_attention,
)
from difflm.models.sources import MODEL_NAME, is_gguf, located
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EncoderInputs = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(rows_B, grid_BG) to the keyword arguments of the encoder's forward."""


def encoder_inputs(
    config: EncoderConfig,
    table: pa.Table,
    schema: RecordSchema,
    device: torch.device | str,
) -> EncoderInputs:
    """Make the inputs for the rows of `table`.

    Raises:
        ModelError: a record is longer than the encoder reads; names the first one.
    """
    match config:
        case CompactEncoderConfig() | PooledEncoderConfig() | BagEncoderConfig():
            return lambda rows_B, grid_BG: {"grid_BG": grid_BG}
        case PretrainedEncoderConfig():
            texts = JsonRecordCodec(schema).encode_table(table)
            return _PretrainedInputs(config, texts, device)


class _PretrainedInputs:
    """Token ids by the encoder's own tokenizer, padded per batch."""

    def __init__(self, config: PretrainedEncoderConfig, texts: Sequence[str], device: torch.device | str) -> None:
        try:
            tokenizer = load_tokenizer(config.model, revision=config.revision)
            model = load_configuration(config.model, revision=config.revision)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(
                f"cannot load the tokenizer of the encoder {config.model!r}: {reason}; "
                "save the model's tokenizer with it"
            ) from error
        if len(tokenizer) > model.vocab_size:
            raise ModelError(
                f"the tokenizer of the encoder {config.model!r} knows {len(tokenizer)} tokens but the model embeds "
                f"only {model.vocab_size}; give a model with its own tokenizer"
            )
        longest = min(config.longest, getattr(model, "max_position_embeddings", None) or config.longest)
        self.ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
        self.pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
        self.device = device
        for row, ids in enumerate(self.ids):
            if len(ids) > longest:
                raise ModelError(
                    f"record {row} has {len(ids)} tokens for the encoder {config.model!r}, which reads {longest}; "
                    f"raise encoder.longest (now {config.longest}) as far as the model allows, or leave out "
                    "long columns"
                )

    def __call__(self, rows_B: Tensor, grid_BG: Tensor) -> dict[str, Tensor]:
        chosen = [self.ids[row] for row in rows_B.tolist()]
        longest = max(map(len, chosen))
        ids_BT = torch.tensor([ids + [self.pad_id] * (longest - len(ids)) for ids in chosen], device=self.device)
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in chosen], device=self.device)
        return {"encoder_ids_BT": ids_BT, "encoder_mask_BT": mask_BT}


class CompactEncoderConfig(Config):
    """A bidirectional transformer over slots; its latent is aligned with the fields."""

    kind: Literal["compact"] = "compact"
    hidden_size: int = Field(default=128, ge=8)
    layers: int = Field(default=2, ge=0)
    heads: int = Field(default=4, ge=1)
    latent_per_slot: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of the heads ({self.heads})")
        return self


class PooledEncoderConfig(Config):
    """The same transformer, its slots averaged into one latent of a few numbers that says what is coarse of a record.

    For compact decoders, which are then fitted to write records by themselves, steered by so much.
    """

    kind: Literal["pooled"] = "pooled"
    hidden_size: int = Field(default=128, ge=8)
    layers: int = Field(default=2, ge=0)
    heads: int = Field(default=4, ge=1)
    latent_size: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of the heads ({self.heads})")
        return self


class PretrainedEncoderConfig(Config):
    """Any Hugging Face encoder (BERT, T5 encoder, ...), mean-pooled over the text into one latent."""

    kind: Literal["pretrained"] = "pretrained"
    model: str = Field(min_length=1, description=MODEL_NAME)
    revision: str | None = None
    latent_size: int = Field(default=256, ge=1)
    longest: int = Field(default=512, ge=8, description="tokens read of a record; a longer record is an error, not cut")
    lora: LoraConfig | None = Field(
        default=None,
        exclude_if=lambda lora: lora is None,  # artifacts that were made before there was a choice keep their names
        description="train adapters instead of the model's own weights",
    )
    attention: AttentionChoice = "auto"

    @field_validator("model")
    @classmethod
    def _home(cls, model: str) -> str:
        return os.path.expanduser(model)


EncoderConfig = Annotated[
    CompactEncoderConfig | PooledEncoderConfig | BagEncoderConfig | PretrainedEncoderConfig,
    Field(discriminator="kind"),
]


class CompactEncoder(nn.Module):
    """Slots in, one hidden vector per slot out, or one of all."""

    def __init__(
        self,
        config: CompactEncoderConfig | PooledEncoderConfig,
        layout: SlotLayout,
        *,
        vocabulary_size: int,
        pad_id: int,
        numbers: NumberFeatures,
    ) -> None:
        super().__init__()
        size, self.pooled = config.hidden_size, config.kind == "pooled"
        self.embedder = SlotEmbedder(
            layout,
            vocabulary_size=vocabulary_size,
            pad_id=pad_id,
            embedding_size=48,
            hidden_size=2 * size,
            size=size,
            numbers=numbers,
        )
        layer = nn.TransformerEncoderLayer(
            size, config.heads, 3 * size, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.layers, norm=nn.LayerNorm(size), enable_nested_tensor=False)

    def forward(self, grid_BG: Tensor) -> Tensor:
        """Return hidden vectors of shape (B, S, H), or (B, 1, H) where they are averaged."""
        out: Tensor = self.blocks(self.embedder(grid_BG))
        return out.mean(dim=1, keepdim=True) if self.pooled else out


class PretrainedEncoder(nn.Module):
    """A Hugging Face encoder, mean over the real tokens.

    With adapters its own weights are frozen and in no artifact; `weights_sha256` says which they have to be then.
    """

    def __init__(self, config: PretrainedEncoderConfig, *, weights_sha256: str | None = None) -> None:
        super().__init__()
        self.model = load_encoder(config.model, revision=config.revision, attention=config.attention)
        self.size = int(self.model.config.hidden_size)
        if weights_sha256 is not None:
            check_weights(self.model, weights_sha256, name=config.model, revision=config.revision)
        if config.lora is not None:
            add_adapters(self.model, config.lora)

    def forward(self, encoder_ids_BT: Tensor, encoder_mask_BT: Tensor) -> Tensor:
        """Return one hidden vector per record, shape (B, 1, H)."""
        hidden_BTH = self.model(input_ids=encoder_ids_BT, attention_mask=encoder_mask_BT).last_hidden_state
        weight_BT1 = encoder_mask_BT[..., None].to(hidden_BTH.dtype)
        pooled_BH: Tensor = (hidden_BTH * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1).clamp(min=1)
        return pooled_BH[:, None]


def encoder_class(model_type: str) -> Any:
    """Return the class whose models of a type are the encoder alone."""
    from transformers import AutoModel, T5EncoderModel

    return T5EncoderModel if model_type in {"t5", "mt5"} else AutoModel


def load_encoder(
    model: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    attention: AttentionName = "auto",
) -> PreTrainedModel:
    """Load the encoder half of any Hugging Face model.

    Raises:
        ModelError: it cannot be loaded; names the path, or the attention that the model does not have.
    """
    found = located(model)
    if not is_gguf(found) and str(found).startswith((".", "/")) and not (Path(found) / "config.json").exists():
        raise ModelError(
            f"the encoder path {model!r} has no config.json; give a hub id or a directory made by save_pretrained"
        )
    try:
        config = load_configuration(model, revision=revision)
        return load_weights(
            encoder_class(config.model_type),
            model,
            revision=revision,
            unread=lambda name: name.split(".")[0] == UNREAD,
            partly=True,
            dtype=dtype,
            attn_implementation=loaded_attention(attention),
        )
    except (OSError, ValueError, KeyError) as error:
        if attention != "auto" and isinstance(error, ValueError):
            raise refused_attention(attention, model, "autoencoder.encoder.attention", error) from error
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"cannot load the encoder {model!r}: {reason}; "
            "give a hub id that is reachable or a directory made by save_pretrained"
        ) from error
