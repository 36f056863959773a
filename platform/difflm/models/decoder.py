"""The frozen decoder p(x|z): any causal LM, steered by a prompt, never changed (DiffLM, section 3.1).

Shape legend: B records, K soft tokens, T text tokens, D embedding width, V vocabulary.

What it reads is [prompt, BOS, text]. Padding stands only on the right and the prompt has one length, so position i
is the same distance from the prompt in training and in generation; no attention mask is needed because no real token
can see the padding behind it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from difflm.config import Config
from difflm.errors import ModelError
from difflm.models.compact import CompactDecoderConfig
from difflm.models.field_slots import SLOTS_PER_VALUE, VALUE_TOKENS, SlotsPerValue, ValueTokens
from difflm.models.injection.injector import MemoryShape
from difflm.models.loading import load_tokenizer, load_weights
from difflm.models.precision import PrecisionSetting
from difflm.models.pretrained import AttentionChoice, AttentionName, loaded_attention, refused_attention
from difflm.models.prompt import Prompt, causal_nll, freeze
from difflm.models.sources import MODEL_NAME, is_gguf, located

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PretrainedDecoderConfig(Config):
    """Any Hugging Face causal LM."""

    kind: Literal["pretrained"] = "pretrained"
    model: str = Field(min_length=1, description=MODEL_NAME)
    revision: str | None = None
    dtype: PrecisionSetting = Field(default="auto", description="of its weights; auto: what is computed in")
    attention: AttentionChoice = "auto"
    cells_per_slot: int = Field(
        default=8, ge=1, description="value tokens that share one soft token when the latent is aligned with fields"
    )
    value_tokens: ValueTokens = VALUE_TOKENS
    slots_per_value: SlotsPerValue = SLOTS_PER_VALUE
    keys: bool = Field(
        default=True,
        exclude_if=lambda keys: keys,  # artifacts that were made before there was a choice keep their names
        description='write the name of every field with every record, {"age": 39, ...}; false: the values alone, '
        "[39, ...], which are half as many tokens and less",
    )

    @field_validator("model")
    @classmethod
    def _home(cls, model: str) -> str:
        return os.path.expanduser(model)

    @model_validator(mode="after")
    def _flash_attention_reads_bfloat16(self) -> Self:
        if self.attention == "flash_attention_2" and self.dtype == "float32":
            raise ValueError(f"attention flash_attention_2 needs dtype bfloat16 or auto, not {self.dtype}")
        return self


EAGER_TOKENS = 128
"""Texts up to here are attended to eagerly where that is faster; beyond, the scores take too much memory."""
SCALE_TOKENS = 32  # enough for a root mean square that only says where training begins

DecoderConfig = Annotated[CompactDecoderConfig | PretrainedDecoderConfig, Field(discriminator="kind")]


class FrozenDecoder(nn.Module):
    """A causal LM whose weights take no gradient and are in no optimizer."""

    joined_V: Tensor | None

    def __init__(self, model: PreTrainedModel, *, bos_id: int, pad_id: int, joined_V: Tensor | None = None) -> None:
        """Freeze the model; the tokens that `joined_V` marks are read with the ones in front (`join_tokens`)."""
        super().__init__()
        self.model = freeze(model)
        self.bos_id, self.pad_id = bos_id, pad_id
        self.register_buffer("joined_V", joined_V, persistent=False)
        self._recomputed: Sequence[nn.Module] = ()
        self._for_long: str | None = None

    def attend_by_length(self) -> None:
        """Attend eagerly to short texts from now on, as is faster on CPUs, and to long ones as the model was loaded."""
        self._for_long = self.model.config._attn_implementation

    def recompute_layers(self) -> None:
        """Keep only the input of each layer for the backward pass, which runs the layer once more (gradient
        checkpointing, Chen et al. 2016, arXiv 1604.06174). No memory of keys and values can be read then.

        Raises:
            ModelError: the decoder's layers do not know how.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        layers = [module for module in self.model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not layers:
            raise ModelError(
                f"the layers of {type(self.model).__name__} cannot be recomputed; "
                "set autoencoder.gradient_checkpointing=false"
            )
        # The name that transformers has since 5.23, where the other one warns.
        enable = (
            getattr(self.model, "activation_checkpointing_enable", None) or self.model.gradient_checkpointing_enable
        )
        enable()
        self._recomputed = layers
        self.train()

    @property
    def embeddings_VD(self) -> Tensor:
        """The token embeddings."""
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def embeddings(self, tokens_U: Tensor) -> Tensor:
        """Return the embeddings of some tokens, shape (U, D), without gradient."""
        return self.embeddings_VD.detach()[tokens_U]

    @property
    def width(self) -> int:
        """Width D of the token embeddings."""
        return int(self.embeddings_VD.shape[1])

    @property
    def embedding_scale(self) -> float:
        """Root mean square of the token embeddings: the scale that soft tokens are normed to."""
        return float(self.embeddings_VD.detach().float().square().mean().sqrt())

    @property
    def max_positions(self) -> int | None:
        """How many positions the model has embeddings for; None where positions are rotary and have no such end."""
        config: Any = self.model.config
        if getattr(config, "rope_parameters", None) is not None:
            return None
        most: int | None = getattr(config, "max_position_embeddings", None)
        return most

    @property
    def memory_shape(self) -> MemoryShape:
        """The keys and values of its layers. Raises ModelError for a decoder whose layers do not all keep such."""
        config: Any = self.model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds - {"full_attention", "sliding_attention"}:
            raise ModelError(
                f"the decoder {config.model_type} has layers of the kinds {', '.join(sorted(kinds))}, of which some "
                "keep no keys and values; choose injector.kind=soft_prompt or another decoder"
            )
        heads = int(config.num_attention_heads)
        return MemoryShape(
            layers=int(config.num_hidden_layers),
            heads=int(getattr(config, "num_key_value_heads", None) or heads),
            head_size=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        )

    @torch.no_grad()
    def memory_scales(self) -> Tensor:
        """Measure the root mean square of keys and values that its layers make of its first tokens, shape (L, 2, 1)."""
        count = min(SCALE_TOKENS, len(self.embeddings_VD))
        tokens_1T = torch.arange(count, device=self.embeddings_VD.device)[None]
        layers: list[Any] = self.model(input_ids=tokens_1T, use_cache=True).past_key_values.layers
        kept = [(layer.keys, layer.values) for layer in layers]
        rows = [[part.float().square().mean().sqrt() for part in pair] for pair in kept]
        return torch.tensor(rows)[..., None]

    @torch.no_grad()
    def memory_of(self, tokens_T: Tensor) -> Tensor:
        """Compute the keys and values that its layers make of a text behind BOS, shape (L, X, H, T + 1, E)."""
        ids_T = torch.cat([tokens_T.new_tensor([self.bos_id]), tokens_T])
        layers: list[Any] = self.model(input_ids=ids_T[None], use_cache=True).past_key_values.layers
        return torch.stack([torch.stack([layer.keys[0], layer.values[0]]) for layer in layers])

    def nll(self, prompt: Prompt, ids_BT: Tensor, lengths_B: Tensor, *, temperature_B: Tensor | None = None) -> Tensor:
        """Return the negative log likelihood of every token given the prompt.

        It is in nats, of shape (B, T), and 0 behind a record's end.
        """
        if self._for_long is not None:
            wanted = "eager" if ids_BT.shape[1] <= EAGER_TOKENS else self._for_long
            if self.model.config._attn_implementation != wanted:
                self.model.set_attn_implementation(wanted)
        return causal_nll(
            self.model,
            prompt,
            ids_BT,
            lengths_B,
            bos_id=self.bos_id,
            joined_V=self.joined_V,
            temperature_B=temperature_B,
        )

    def train(self, mode: bool = True) -> FrozenDecoder:
        """Stay in evaluation mode: a frozen model has no dropout."""
        super().train(False)
        for layer in self._recomputed:
            layer.training = True  # of itself alone: it is what Hugging Face's layers ask before they recompute
        return self


def load_causal_lm(
    model: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    attention: AttentionName = "auto",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer from a hub id, a local directory, a GGUF file or an installed package.

    Raises:
        ModelError: they cannot be loaded; names the path and what is missing, or the attention that the model lacks.
    """
    from transformers import AutoModelForCausalLM

    found = located(model)
    path = Path(found)
    if not is_gguf(found) and (path.is_absolute() or str(model).startswith(".")):
        _check_directory(path)
    try:
        tokenizer = load_tokenizer(model, revision=revision)
        loaded = load_weights(
            AutoModelForCausalLM,
            model,
            revision=revision,
            dtype=dtype,
            attn_implementation=loaded_attention(attention),
        )
    except (OSError, ValueError, KeyError) as error:
        if attention != "auto" and isinstance(error, ValueError):
            raise refused_attention(attention, str(model), "decoder.attention", error) from error
        reason = str(error).strip().splitlines()[0]
        at = "" if revision is None else f" at revision {revision}"
        raise ModelError(
            f"cannot load the decoder {str(model)!r}{at}: {reason}; "
            "give a hub id that is reachable or a directory made by save_pretrained"
        ) from error
    weight: Any = loaded.get_input_embeddings().weight
    size, known = int(weight.shape[0]), len(tokenizer)
    if known > size:
        raise ModelError(
            f"the tokenizer of {str(model)!r} knows {known} tokens but the model embeds only {size}; "
            "give a model with its own tokenizer"
        )
    return loaded, tokenizer


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise ModelError(
            f"the decoder path {str(path)!r} does not exist; give a hub id or a directory made by save_pretrained"
        )
    if not (path / "config.json").exists():
        raise ModelError(f"the decoder path {str(path)!r} has no config.json; give a directory made by save_pretrained")
    if not any(
        (path / name).exists() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    ):
        raise ModelError(f"the decoder path {str(path)!r} has no tokenizer; save the tokenizer of the model into it")
