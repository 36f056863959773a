"""The compact decoder: a small Llama and its tokenizer, both fitted to the training split.

The compact decoder's tokenizer: byte-level BPE fitted to the training split.

Fixed texts, category literals and the JSON words are single tokens, numbers are pairs of digits, every other digit is
its own token, and what is left (free text) is byte-level BPE of about `vocabulary_size` entries. Nothing is downloaded,
and every byte string can be written.

The compact decoder: a small Llama fitted to the training split to copy a record from a prefix, then frozen.

Shape legend: B records, S slots, T text tokens, D embedding width.

A small LM cannot be steered by a soft prompt unless it has learned to read one. So it is fitted with prefixes made from
the record itself: every slot (a field's value tokens) becomes one vector, a random subset of them is kept, noise is
added, and the loss is on the record only. Complete and clean prefixes come first (copying appears suddenly or not at
all); later, some or all slots are withheld, which teaches the joint distribution of the fields. Unlike text prefixes,
one vector per slot is what the injector will write later, so the frozen decoder already speaks the injector's language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from difflm.artifacts.atomic import atomic_directory
from difflm.config import Config
from difflm.models.field_slots import (
    SLOTS_PER_VALUE,
    VALUE_TOKENS,
    SlotEmbedder,
    SlotLayout,
    SlotsPerValue,
    ValueTokens,
)
from difflm.models.injection.injector import EmbeddingScale
from difflm.models.prompt import Prompt, causal_nll
from difflm.records.kinds.literals import value_literal
from difflm.records.number_tokens import number_pieces, number_tokens
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DecimalField,
    IntegerField,
    JsonField,
    RecordSchema,
    TextField,
)
from difflm.records.token_pieces import with_common_pieces

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

PAD, BOS, EOS = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
JSON_WORDS = ("null", "true", "false")
LEAST_PAIRS = 3  # what fewer places have is not learned: the tokenizer goes into the bundle, which holds no row


def fit_compact_tokenizer(
    *,
    fixed_texts: Sequence[str],
    category_literals: Iterable[str],
    texts: Iterable[str],
    vocabulary_size: int = 1000,
    max_categories: int = 4000,
    numbers: Iterable[str] = (),
    rows_per_piece: int = 0,
) -> PreTrainedTokenizerFast:
    """Fit the tokenizer.

    Merges are kept whose pieces stand in at least `rows_per_piece` of the `texts`, the literals of free-text fields
    (and rare categories) that they are learned from. `category_literals` are literals with repetition or in order of
    frequency: the `max_categories` most frequent become tokens, the rest is spelled by BPE. `numbers` are the number
    tokens of numeric fields (`number_tokens`).
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        min_frequency=max(LEAST_PAIRS, rows_per_piece),
        vocab_size=max(vocabulary_size, 256 + len(SPECIAL_TOKENS)),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = list(texts)
    tokenizer.train_from_iterator(texts, trainer=trainer)
    tokenizer = with_common_pieces(tokenizer, texts, rows_per_piece)
    frequent = [literal for literal, _ in Counter(category_literals).most_common(max_categories)]
    whole = dict.fromkeys([*fixed_texts, *JSON_WORDS, *frequent, *numbers])
    added = [AddedToken(text, normalized=False, special=False) for text in whole if len(text.encode()) > 1]
    tokenizer.add_tokens(added)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False
    )


class CompactDecoderConfig(Config):
    """A small Llama with a tokenizer of its own, both fitted to the training split."""

    kind: Literal["compact"] = "compact"
    hidden_size: int = Field(default=128, ge=16)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    key_heads: int = Field(default=1, ge=1, description="key and value heads; query heads share them in equal groups")
    intermediate_size: int = Field(default=384, ge=16)
    vocabulary_size: int = Field(default=1000, ge=300)
    number_pairs: bool = Field(
        default=True,
        description="numbers are written in pairs of digits, and names of fields are read with the value before; false "
        "for sampling.engine.constraint=llguidance and vLLM, which know characters only",
    )
    cells_per_slot: int = Field(default=8, ge=1)
    value_tokens: ValueTokens = VALUE_TOKENS
    slots_per_value: SlotsPerValue = SLOTS_PER_VALUE

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of numbers within a head
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of twice the heads ({self.heads})")
        if self.heads % self.key_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of key_heads ({self.key_heads})")
        return self


def fit_record_tokenizer(
    config: CompactDecoderConfig,
    schema: RecordSchema,
    fixed: Sequence[str],
    literals: Sequence[Sequence[str]],
    *,
    rows_per_piece: int = 0,
) -> PreTrainedTokenizerFast:
    """Fit the tokenizer to the literals of a training split, one sequence per field, and its schema's fixed texts."""
    closed = (CategoricalField, BooleanField, ConstantField)
    categories = [
        text
        for field, column in zip(schema.fields, literals, strict=True)
        if isinstance(field, closed)
        for text in column
    ]
    texts = [
        text
        for field, column in zip(schema.fields, literals, strict=True)
        if isinstance(field, TextField | JsonField)
        for text in column
    ]
    return fit_compact_tokenizer(
        fixed_texts=fixed,
        category_literals=categories,
        texts=texts,
        vocabulary_size=config.vocabulary_size,
        numbers=_numbers(schema) if config.number_pairs else [],
        rows_per_piece=rows_per_piece,
    )


def _numbers(schema: RecordSchema) -> list[str]:
    """Name the tokens that the numbers of a schema are written in: none beside JSON, which llguidance constrains."""
    if any(isinstance(field, JsonField) for field in schema.fields):
        return []
    names: list[str] = []
    for field in schema.fields:
        if isinstance(field, IntegerField | DecimalField):
            magnitudes = [value_literal(field, value).removeprefix("-") for value in (field.minimum, field.maximum)]
            digits = max(len(text.partition("e")[0].partition(".")[0]) for text in magnitudes)
            decimals = field.decimals if isinstance(field, DecimalField) else 0
            names += number_tokens(whole_digits=digits, decimals=decimals)
            for point in field.points:  # which may be longer than all others
                names += number_pieces(value_literal(field, point).removeprefix("-").partition("e")[0])
    return names


class CompactDecoderFit(nn.Module):
    """The trainable decoder with its prefix embedder: what the fitting stage optimizes."""

    def __init__(
        self,
        config: CompactDecoderConfig,
        layout: SlotLayout,
        *,
        model: LlamaForCausalLM,
        vocabulary_size: int,
        bos_id: int,
        pad_id: int,
    ) -> None:
        super().__init__()
        self.bos_id, self.model = bos_id, model
        size = config.hidden_size
        self.embedder = SlotEmbedder(
            layout, vocabulary_size=vocabulary_size, pad_id=pad_id, embedding_size=48, hidden_size=2 * size, size=size
        )
        self.absent = nn.Parameter(torch.zeros(layout.count, size))
        self.scale = EmbeddingScale(size, scale=EMBEDDING_STD)

    def forward(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor,
        grid_BG: Tensor,
        keep_BS: Tensor,
        noise_B: Tensor,
    ) -> dict[str, Tensor]:
        """Loss and nats per record; `keep_BS` says which slots the prefix shows, `noise_B` how much noise it bears (in
        embedding scales).
        """
        prompt_BSD = torch.where(keep_BS[..., None], self.embedder(grid_BG), self.absent)
        prompt_BSD = self.scale(prompt_BSD)
        prompt_BSD = prompt_BSD + torch.randn_like(prompt_BSD) * (noise_B[:, None, None] * self.scale.scale)
        nats_BT = causal_nll(self.model, Prompt(embeds_BKD=prompt_BSD), ids_BT, lengths_B, bos_id=self.bos_id)
        return {"loss": nats_BT.sum() / lengths_B.sum(), "nats": nats_BT.sum(dim=1).mean()}


EMBEDDING_STD = 0.05
EAGER_POSITIONS = 256


def build_compact_llama(
    config: CompactDecoderConfig, *, vocabulary_size: int, bos_id: int, pad_id: int, longest: int
) -> LlamaForCausalLM:
    """Return a Llama of the compact size with room for `longest` positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_heads,
            max_position_embeddings=longest,
            initializer_range=EMBEDDING_STD,
            tie_word_embeddings=True,
            bos_token_id=bos_id,
            eos_token_id=None,
            pad_token_id=pad_id,
        )
    )
    model.set_attn_implementation(attention(longest))
    return model


def llama_parameters(config: CompactDecoderConfig, vocabulary_size: int) -> int:
    """Count the parameters of `build_compact_llama` without it: to import the class takes more than a second."""
    size, head_size = config.hidden_size, config.hidden_size // config.heads
    queries_and_outputs, keys_and_values = 2 * size * size, 2 * size * config.key_heads * head_size
    layer = queries_and_outputs + keys_and_values + 3 * size * config.intermediate_size + 2 * size
    return vocabulary_size * size + config.layers * layer + size


def attention(positions: int) -> str:
    """Return the attention for records of so many positions.

    On CPUs and a few dozen tokens the fused kernel's backward pass takes a third of a training step, so short records
    attend eagerly; eager attention needs memory with the square of the positions.
    """
    return "eager" if positions <= EAGER_POSITIONS else "sdpa"


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write configuration and weights; tied matrices once, under their first name.

    The same files as of `save_pretrained`, which imports DeepSpeed to look for its wrappers wherever accelerate is
    installed: a second, 150 MiB and a line on standard output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    once: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        once.setdefault(value.data_ptr(), (name, value.contiguous()))
    save_file(dict(once.values()), folder / "model.safetensors", metadata={"format": "pt"})


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
