"""Tiny models of the families people use, randomly initialised and saved to disk: no download."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from difflm.models.compact import save_model

DecoderFamily = Literal["llama", "mistral", "qwen2", "qwen3", "gpt2"]
EncoderFamily = Literal["bert", "t5"]
DECODER_FAMILIES: tuple[DecoderFamily, ...] = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
ENCODER_FAMILIES: tuple[EncoderFamily, ...] = ("bert", "t5")
VOCABULARY_SIZE = 420
CORPUS = (
    '{"age": 39, "workclass": "State-gov", "hours": 40.5, "member": true, "note": null}',
    "the quick brown fox jumps over the lazy dog and the quiet river runs past the stone tower at night",
    "State-gov, Private, Self-emp, false, true, null, 2020-01-31, 1234567890, and the rest of the words",
) * 4
_END = "<|endoftext|>"
_SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def save_decoder(directory: Path, family: DecoderFamily, *, seed: int = 0, positions: int = 1024) -> Path:
    """Write a causal LM of a family with a tokenizer of its kind, as `save_pretrained` does; returns the directory."""
    tokenizer = sentencepiece_tokenizer() if family == "llama" or family == "mistral" else byte_level_tokenizer(family)
    torch.manual_seed(seed)
    save_model(_causal_lm(family, len(tokenizer), positions), directory)
    tokenizer.save_pretrained(directory)
    return directory


def _causal_lm(family: DecoderFamily, vocabulary: int, positions: int) -> PreTrainedModel:
    shared: dict[str, Any] = {"vocab_size": vocabulary, "max_position_embeddings": positions}
    match family:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**_SIZES, **shared, num_key_value_heads=2))
        case "mistral":
            # A window shorter than a record: what lies behind it has to be forgotten with and without the cache.
            return MistralForCausalLM(MistralConfig(**_SIZES, **shared, num_key_value_heads=2, sliding_window=24))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**_SIZES, **shared, num_key_value_heads=2, tie_word_embeddings=True))
        case "qwen3":
            # Its heads are wider than their share of the hidden size, and queries and keys are normed.
            return Qwen3ForCausalLM(Qwen3Config(**_SIZES, **shared, num_key_value_heads=2, head_dim=16))
        case "gpt2":
            # GPT-2's own end token, 50256, is far outside of a tiny vocabulary.
            config = GPT2Config(
                vocab_size=vocabulary,
                n_positions=positions,
                n_embd=32,
                n_layer=2,
                n_head=4,
                bos_token_id=0,
                eos_token_id=0,
            )
            return GPT2LMHeadModel(config)


def save_encoder(directory: Path, family: EncoderFamily, *, seed: int = 0) -> Path:
    """Write a text encoder of a family with its tokenizer; returns the directory."""
    tokenizer = wordpiece_tokenizer() if family == "bert" else unigram_tokenizer()
    vocabulary = len(tokenizer)
    torch.manual_seed(seed)
    match family:
        case "bert":
            model: PreTrainedModel = BertModel(BertConfig(**_SIZES, vocab_size=vocabulary, max_position_embeddings=512))
        case "t5":
            model = T5EncoderModel(
                T5Config(vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
            )
    save_model(model, directory)
    tokenizer.save_pretrained(directory)
    return directory


def byte_level_tokenizer(
    family: Literal["gpt2", "qwen2", "qwen3"], corpus: Sequence[str] = CORPUS
) -> PreTrainedTokenizerFast:
    """Train byte-level BPE: GPT-2's has one special token for everything, Qwen's normalises (NFC) and has no BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer=trainer)
    if family == "gpt2":
        return _fast(tokenizer, bos_token=_END, eos_token=_END, unk_token=_END)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    return _fast(tokenizer, eos_token=_END, pad_token=_END)


def sentencepiece_tokenizer(corpus: Sequence[str] = CORPUS) -> PreTrainedTokenizerFast:
    """Train BPE like SentencePiece's (Llama 2, Mistral): `▁` for spaces, one in front, unknown characters as bytes."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY_SIZE - 259, show_progress=False)
    trained.train_from_iterator(corpus, trainer=trainer)
    learned = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    merges = [tuple(merge) for merge in learned["merges"]]
    model = models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _fast(tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wordpiece_tokenizer(corpus: Sequence[str] = CORPUS) -> PreTrainedTokenizerFast:
    """Train BERT's kind: lower-cased WordPiece between [CLS] and [SEP]; it loses spelling, which an encoder's may."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY_SIZE, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer=trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _fast(
        tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    )


def unigram_tokenizer(corpus: Sequence[str] = CORPUS) -> PreTrainedTokenizerFast:
    """Train T5's kind: a unigram model over `▁` pieces, </s> after the text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer=trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return _fast(tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def _fast(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    build: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return build(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
