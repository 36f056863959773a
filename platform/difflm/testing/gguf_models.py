"""Tiny GGUF files of random weights, as llama.cpp's converter writes them: a Llama with a byte-level tokenizer, and a
Gemma 3 with one of pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from difflm.testing.models import byte_level_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NAMES = {
    "embed_tokens": "token_embd",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GEMMA_NAMES = {
    **_NAMES,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *"abcdefghijklmnopqrstuvwxyz", "th", "the")


def tiny_llama(vocabulary: int, *, seed: int = 0) -> LlamaForCausalLM:
    """Return a Llama of two layers with tied embeddings, whose matrices have whole blocks of 32 numbers."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    )


def save_gguf(
    path: Path,
    *,
    seed: int = 0,
    quantized: bool = False,
    architecture: str = "llama",
    licence: str | None = "apache-2.0",
    tokenizer: PreTrainedTokenizerFast | None = None,
    with_tokenizer: bool = True,
    left_out: Sequence[str] = (),
    facts: Mapping[str, int] | None = None,
) -> LlamaForCausalLM:
    """Write a tiny Llama and return it as it was; `left_out` are tensors by llama.cpp's names, `*` for all.

    `quantized` writes matrices as Q8_0, so what is read differs a little; `facts` are further integers of the head.
    """
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    used = tokenizer or byte_level_tokenizer("gpt2")
    model = tiny_llama(len(used), seed=seed)
    writer = GGUFWriter(path, architecture)
    _write_head(writer, model.config, licence)
    if with_tokenizer:
        _write_tokenizer(writer, used)
    for key, number in (facts or {}).items():
        writer.add_uint32(key, number)
    for name, values in _tensors(model).items():
        if name in left_out or "*" in left_out:
            continue
        if quantized and values.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def save_gemma_gguf(path: Path, *, seed: int = 0) -> Gemma3ForCausalLM:
    """Write a tiny Gemma 3 of six layers, one of which attends to everything, and return it as it was."""
    from gguf import GGUFWriter

    torch.manual_seed(seed)
    config: Any = Gemma3TextConfig(
        vocab_size=len(GEMMA_TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        sliding_window=8,
    )
    model = Gemma3ForCausalLM(config)
    for name, value in model.named_parameters():
        if "norm" in name:  # 0 at first, as which nothing shows whether 1 was added and taken
            value.data.normal_(std=0.1)
    writer = GGUFWriter(path, "gemma3")
    _write_head(writer, config, None)
    writer.add_key_length(config.head_dim)
    writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(GEMMA_TOKENS))
    writer.add_token_scores([-float(at) for at in range(len(GEMMA_TOKENS))])
    writer.add_token_types([3 if token.startswith("<") else 1 for token in GEMMA_TOKENS])
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    for name, value in model.model.state_dict().items():
        parts = name.removesuffix(".weight").split(".")
        layer = f"blk.{parts[1]}." if parts[0] == "layers" else ""
        known = _GEMMA_NAMES.get(".".join(parts[2:]) if layer else parts[0], "output_norm")
        writer.add_tensor(f"{layer}{known}.weight", value.numpy() + float("norm" in name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _write_head(writer: Any, config: Any, licence: str | None) -> None:
    writer.add_name("tiny")
    if licence is not None:
        writer.add_license(licence)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    import json

    learned = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in learned["merges"]])
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
    ):
        if token is not None:
            add(token)


def _tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray[Any, Any]]:
    config: Any = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in model.model.state_dict().items():
        parts = name.removesuffix(".weight").split(".")
        layer = parts[1] if parts[0] == "layers" else None
        inner = ".".join(parts[2:]) if layer is not None else parts[0]
        numbers = value.numpy()
        if parts[-1] in heads:  # llama.cpp turns pairs of neighbours, transformers halves
            count = heads[parts[-1]]
            shape = (count, 2, numbers.shape[0] // count // 2, numbers.shape[1])
            numbers = np.ascontiguousarray(numbers.reshape(shape).swapaxes(1, 2).reshape(numbers.shape))
        known = _NAMES.get(inner, "output_norm")
        tensors[f"blk.{layer}.{known}.weight" if layer is not None else f"{known}.weight"] = numbers
    return tensors
