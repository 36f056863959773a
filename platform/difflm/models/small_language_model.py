"""A small causal language model for comparisons: the compact Llama with a tokenizer of its own, before its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from difflm.artifacts.atomic import atomic_directory
from difflm.models.compact import CompactDecoderConfig, build_compact_llama
from difflm.models.compact_tokenizer import EOS, fit_compact_tokenizer
from difflm.models.model_files import save_model


def write_small_language_model(
    folder: Path, config: CompactDecoderConfig, texts: Sequence[str], *, longest: int, seed: int
) -> None:
    """Write a model with random weights and room for `longest` tokens, and a byte-level BPE fitted to the texts."""
    tokenizer = fit_compact_tokenizer(
        fixed_texts=(), category_literals=(), texts=texts, vocabulary_size=config.vocabulary_size
    )
    tokenizer.eos_token = EOS
    torch.manual_seed(seed)
    model = build_compact_llama(
        config,
        vocabulary_size=len(tokenizer),
        bos_id=int(tokenizer.bos_token_id),
        pad_id=int(tokenizer.pad_token_id),
        longest=longest + 1,
    )
    with atomic_directory(folder) as temporary:
        save_model(model, temporary)
        tokenizer.save_pretrained(temporary)
