"""The decoder's directory: what every later stage and the bundle load the frozen decoder from.

decoder.json   kind, configuration, layout, and for a pretrained one its absolute path, or its id with the commit that
               was loaded, and the hash of its weights
tokenizer/     as Hugging Face saves it
model/         the compact decoder's weights; a pretrained one stays where it came from
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from difflm.artifacts.manifest import read_facts
from difflm.errors import ModelError
from difflm.models.compact import (
    EMBEDDING_STD,
    CompactDecoderConfig,
    CompactDecoderFit,
    attention,
    build_compact_llama,
    fit_compact_tokenizer,
    save_model,
)
from difflm.models.decoder import FrozenDecoder, PretrainedDecoderConfig, load_causal_lm
from difflm.models.field_slots import (
    SLOTS_PER_VALUE,
    NumberFeatures,
    SlotLayout,
    fit_knots,
    number_tokens,
    spelled_values,
)
from difflm.models.precision import PrecisionSetting, own_device, resolve_precision
from difflm.models.pretrained import check_weights, hash_weights, pinned
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import BooleanField, CategoricalField, ConstantField, JsonField, RecordSchema, TextField
from difflm.records.tokenization import CHARACTER_KINDS, GridLayout, RecordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT_VERSION = 1
SPARE_TOKENS = 16  # room for values a little longer than training's longest


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderParts:
    """The tokenizer side of a decoder: all that is needed to turn records into token ids."""

    tokenizer: RecordTokenizer
    slots: SlotLayout
    longest: int
    facts: dict[str, Any]

    @property
    def positions(self) -> int:
        """Positions of the longest record behind a prompt of one soft token per slot and BOS."""
        return self.longest + self.slots.count + 1

    def prompt_scale(self, decoder: FrozenDecoder) -> float:
        """The scale of soft tokens: what a compact decoder was fitted to read, else that of the token embeddings."""
        return EMBEDDING_STD if self.facts["config"]["kind"] == "compact" else decoder.embedding_scale

    def number_features(self) -> NumberFeatures:
        """The encoding of numbers over the bins of the training split."""
        knots = tuple(tuple(edges) for edges in self.facts["knots"])
        digit_V, minus_id = number_tokens(self.tokenizer)
        return NumberFeatures(knots, self.slots.grid, self.slots.field_S, digit_V=digit_V, minus_id=minus_id)


def write_tokenizer(
    directory: Path,
    config: CompactDecoderConfig | PretrainedDecoderConfig,
    schema: RecordSchema,
    literals: Sequence[Sequence[str]],
) -> DecoderParts:
    """Fit (compact) or fetch (pretrained) the tokenizer and write it with the layout of the training split's values."""
    kinds = [field.kind for field in schema.fields]
    fixed = JsonRecordCodec(schema).fixed_texts()
    facts: dict[str, Any] = {"format_version": FORMAT_VERSION, "config": config.model_dump(mode="json")}
    match config:
        case CompactDecoderConfig():
            tokenizer: PreTrainedTokenizerBase = _fit(config, schema, fixed, literals)
        case PretrainedDecoderConfig():
            name, revision = pinned(config.model, config.revision)
            # The hash does not depend on the precision, and a large model in float32 might not fit.
            dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
            model, tokenizer = load_causal_lm(name, revision=revision, dtype=dtype)
            facts["config"] |= {"model": name, "revision": revision}
            facts |= {"weights_sha256": hash_weights(model)}
    records = RecordTokenizer(tokenizer, kinds=kinds, fixed_texts=fixed)
    layout = records.layout(literals, longest=config.value_tokens)
    table = records.encode(literals, layout)
    values_NF = spelled_values(torch.from_numpy(table.grid_NG), layout, *number_tokens(records))
    facts |= {
        "widths": list(layout.widths),
        "knots": fit_knots(values_NF, [kind in CHARACTER_KINDS for kind in kinds]),
        "cells_per_slot": config.cells_per_slot,
        "slots_per_value": config.slots_per_value,
        "partly_read": dict(zip(schema.names, records.partly_read(literals, layout), strict=True)),
        "longest": int(table.lengths_N.max()) + SPARE_TOKENS,
    }
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory / "tokenizer")
    (directory / "decoder.json").write_text(json.dumps(facts, indent=2))
    return read_parts(directory, schema)


def _fit(
    config: CompactDecoderConfig, schema: RecordSchema, fixed: Sequence[str], literals: Sequence[Sequence[str]]
) -> PreTrainedTokenizerBase:
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
        fixed_texts=fixed, category_literals=categories, texts=texts, vocabulary_size=config.vocabulary_size
    )


def read_parts(directory: Path, schema: RecordSchema) -> DecoderParts:
    """Tokenizer and layout of a decoder's directory. Raises ModelError naming the file."""
    from transformers import AutoTokenizer

    path = directory / "decoder.json"
    facts = read_facts(path, version=FORMAT_VERSION, what="decoder", remedy="fit the decoder again")
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory / "tokenizer")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{directory / 'tokenizer'}: no tokenizer ({reason}); fit the decoder again") from error
    kinds = [field.kind for field in schema.fields]
    records = RecordTokenizer(tokenizer, kinds=kinds, fixed_texts=JsonRecordCodec(schema).fixed_texts())
    return DecoderParts(tokenizer=records, slots=slot_layout(facts), longest=facts["longest"], facts=facts)


def slot_layout(facts: Mapping[str, Any]) -> SlotLayout:
    """The slots that decoder.json describes."""
    return SlotLayout(
        grid=GridLayout(widths=tuple(facts["widths"])),
        cells_per_slot=facts["cells_per_slot"],
        max_per_field=facts.get("slots_per_value", SLOTS_PER_VALUE),  # decoders of before there was a choice
    )


def unfitted(parts: DecoderParts) -> CompactDecoderFit:
    """The compact decoder of a directory as it is before its fit, with weights drawn from torch's global generator."""
    config, tokenizer = CompactDecoderConfig.model_validate(parts.facts["config"]), parts.tokenizer
    vocabulary_size, bos_id, pad_id = len(tokenizer.tokenizer), tokenizer.bos_id, tokenizer.pad_id
    model = build_compact_llama(
        config, vocabulary_size=vocabulary_size, bos_id=bos_id, pad_id=pad_id, longest=parts.positions
    )
    return CompactDecoderFit(
        config, parts.slots, model=model, vocabulary_size=vocabulary_size, bos_id=bos_id, pad_id=pad_id
    )


def write_compact_model(directory: Path, parts: DecoderParts, tensors: dict[str, Tensor]) -> None:
    """Write the fitted weights (`model.*` of the fit) as a Hugging Face model beside the tokenizer."""
    model = unfitted(parts).model
    state = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ModelError(
            f"{directory}: the fitted weights do not fit the compact decoder (missing {missing}, "
            f"unexpected {unexpected}); fit the decoder again"
        )
    model.tie_weights()
    save_model(model, directory / "model")


def load_decoder(
    directory: Path, schema: RecordSchema, *, dtype: torch.dtype | None = None, computed_in: PrecisionSetting = "auto"
) -> tuple[FrozenDecoder, DecoderParts]:
    """The frozen decoder and its tokenizer. A pretrained one is checked against the hash it was trained with.

    Without a `dtype` a pretrained one has that of its configuration, where `auto` is what is `computed_in`.
    """
    from transformers import AutoModelForCausalLM

    parts = read_parts(directory, schema)
    if parts.facts["config"]["kind"] == "compact":
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory / "model", dtype=dtype or torch.float32, attn_implementation=attention(parts.positions)
        )
    else:
        config = PretrainedDecoderConfig.model_validate(parts.facts["config"])
        setting = computed_in if config.dtype == "auto" else config.dtype
        precision = dtype or getattr(torch, resolve_precision(setting, own_device()))
        model, _ = load_causal_lm(config.model, revision=config.revision, dtype=precision, attention=config.attention)
        check_weights(model, parts.facts["weights_sha256"], name=config.model, revision=config.revision)
    return FrozenDecoder(model, bos_id=parts.tokenizer.bos_id, pad_id=parts.tokenizer.pad_id), parts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises ModelError naming it."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; run the stage that writes it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged ({error}); run the stage that writes it again") from error
