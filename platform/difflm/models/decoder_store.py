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
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError, safe_open
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
    fit_record_tokenizer,
    save_model,
)
from difflm.models.decoder import DecoderConfig, FrozenDecoder, PretrainedDecoderConfig, load_causal_lm
from difflm.models.field_slots import (
    SLOTS_PER_VALUE,
    DigitTokens,
    NumberFeatures,
    SlotLayout,
    fit_knots,
    spelled_values,
)
from difflm.models.gguf_files import licence_of
from difflm.models.loading import load_configuration, load_tokenizer, load_weights
from difflm.models.precision import PrecisionSetting, own_device, resolve_precision
from difflm.models.pretrained import check_weights, hash_weights, pinned
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema
from difflm.records.tokenization import CHARACTER_KINDS, NUMBER_KINDS, GridLayout, RecordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT_VERSION = 1
_MAX_CELLS, _MAX_RECORD = 1 << 20, 1 << 22
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

    @property
    def any_order(self) -> bool:
        """Whether the decoder was fitted to write the fields of a record in any order."""
        return bool(self.facts.get("any_order", False))

    @property
    def keyed(self) -> bool:
        """Whether records are written with the names of their fields."""
        return bool(self.facts["config"].get("keys", True))

    @property
    def joined_V(self) -> Tensor | None:
        """Mark the tokens of the vocabulary that are read with the ones in front: the names of fields, or None."""
        if not self.facts.get("joined_names", False):
            return None
        marks_V = torch.zeros(len(self.tokenizer.tokenizer), dtype=torch.bool)
        marks_V[list(self.tokenizer.opening_ids or ())] = True
        return marks_V

    def prompt_scale(self, decoder: FrozenDecoder) -> float:
        """Return the scale of soft tokens: what a compact decoder was fitted to read, else the token embeddings'."""
        return EMBEDDING_STD if self.facts["config"]["kind"] == "compact" else decoder.embedding_scale

    def number_features(self) -> NumberFeatures:
        """Return the encoding of numbers over the bins of the training split."""
        knots = tuple(tuple(edges) for edges in self.facts["knots"])
        return NumberFeatures(knots, self.slots.grid, self.slots.field_S, digits=DigitTokens.of(self.tokenizer))


def write_tokenizer(
    directory: Path,
    config: CompactDecoderConfig | PretrainedDecoderConfig,
    schema: RecordSchema,
    literals: Sequence[Sequence[str]],
    *,
    any_order: bool = False,
    rows_per_piece: int = 0,
) -> DecoderParts:
    """Fit (compact) or fetch (pretrained) the tokenizer and write it with the layout of the training split's values.

    Pieces of texts stand in at least `rows_per_piece` rows. `any_order` says that the decoder will be fitted to write
    fields in any order, where there are several and every value says by itself where it ends.
    """
    kinds = [field.kind for field in schema.fields]
    keyed = isinstance(config, CompactDecoderConfig) or config.keys
    fixed = JsonRecordCodec(schema, keyed=keyed).fixed_texts()
    facts: dict[str, Any] = {"format_version": FORMAT_VERSION, "config": config.model_dump(mode="json")}
    match config:
        case CompactDecoderConfig():
            tokenizer: PreTrainedTokenizerBase = fit_record_tokenizer(
                config, schema, fixed, literals, rows_per_piece=rows_per_piece
            )
        case PretrainedDecoderConfig():
            name, revision = pinned(config.model, config.revision)
            # The hash does not depend on the precision, and a large model in float32 might not fit.
            dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
            model, tokenizer = load_causal_lm(name, revision=revision, dtype=dtype)
            facts["config"] |= {"model": name, "revision": revision}
            facts |= {"weights_sha256": hash_weights(model), "licence": licence_of(name)}
    records = RecordTokenizer(tokenizer, kinds=kinds, fixed_texts=fixed)
    layout = records.layout(literals, longest=config.value_tokens)
    table = records.encode(literals, layout)
    values_NF = spelled_values(torch.from_numpy(table.grid_NG), layout, DigitTokens.of(records))
    facts |= {
        "widths": list(layout.widths),
        "knots": fit_knots(values_NF, [kind in CHARACTER_KINDS for kind in kinds]),
        "cells_per_slot": config.cells_per_slot,
        "slots_per_value": config.slots_per_value,
        "partly_read": dict(zip(schema.names, records.partly_read(literals, layout), strict=True)),
        "longest": int(table.lengths_N.max()) + SPARE_TOKENS,
    }
    if any_order and _ends_by_itself(schema, records):
        facts["any_order"] = True
        if isinstance(config, CompactDecoderConfig) and config.number_pairs and records.opening_ids is not None:
            facts["joined_names"] = True
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory / "tokenizer")
    (directory / "decoder.json").write_text(json.dumps(facts, indent=2))
    return read_parts(directory, schema)


def _ends_by_itself(schema: RecordSchema, tokenizer: RecordTokenizer) -> bool:
    """Whether there are several fields whose values can be told apart in any order of them.

    Numbers in single digits end where the next text begins, and in JSON may stand what begins another field.
    """
    kinds = {field.kind for field in schema.fields}
    return len(schema.fields) > 1 and "json" not in kinds and bool(tokenizer.pieces.numbers or not kinds & NUMBER_KINDS)


def read_parts(directory: Path, schema: RecordSchema) -> DecoderParts:
    """Read tokenizer and layout of a decoder's directory; raise ModelError naming the file."""
    path = directory / "decoder.json"
    facts = read_facts(path, version=FORMAT_VERSION, what="decoder", remedy="fit the decoder again")
    _check_facts(path, facts, len(schema.fields))
    try:
        tokenizer = load_tokenizer(directory / "tokenizer")
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{directory / 'tokenizer'}: no tokenizer ({reason}); fit the decoder again") from error
    kinds = [field.kind for field in schema.fields]
    codec = JsonRecordCodec(schema, keyed=facts["config"].get("keys", True))
    records = RecordTokenizer(tokenizer, kinds=kinds, fixed_texts=codec.fixed_texts())
    if facts.get("joined_names", False) and records.opening_ids is None:
        raise ModelError(f"{path}: joined_names, but the tokenizer has no token for each field; fit the decoder again")
    return DecoderParts(tokenizer=records, slots=slot_layout(facts), longest=facts["longest"], facts=facts)


class _Facts(BaseModel):
    """What decoder.json holds."""

    model_config = ConfigDict(extra="allow", strict=True)

    config: DecoderConfig
    widths: list[Annotated[int, Field(ge=0, le=_MAX_CELLS)]]
    knots: list[list[FiniteFloat]]
    cells_per_slot: int = Field(ge=1, le=_MAX_CELLS)
    slots_per_value: int = Field(default=SLOTS_PER_VALUE, ge=1, le=_MAX_CELLS)
    longest: int = Field(ge=1, le=_MAX_CELLS)
    any_order: bool = False
    joined_names: bool = False
    weights_sha256: str | None = None


def _check_facts(path: Path, facts: Mapping[str, Any], fields: int) -> None:
    """Refuse numbers and names that no version writes: nothing else looks at them before models are built by them."""
    try:
        found = _Facts.model_validate_json(json.dumps(facts))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {place}: {first['msg']}; fit the decoder again") from error
    if len(found.widths) != fields or len(found.knots) != fields:
        raise ModelError(f"{path}: widths and knots are not of the schema's {fields} columns; fit the decoder again")
    if sum(found.widths) > _MAX_RECORD:
        raise ModelError(f"{path}: widths add up to more than {_MAX_RECORD:,} tokens a record; fit the decoder again")
    if found.config.kind == "pretrained" and found.weights_sha256 is None:
        raise ModelError(f"{path}: weights_sha256 is missing; fit the decoder again")


def slot_layout(facts: Mapping[str, Any]) -> SlotLayout:
    """Read the slots that decoder.json describes."""
    return SlotLayout(
        grid=GridLayout(widths=tuple(facts["widths"])),
        cells_per_slot=facts["cells_per_slot"],
        max_per_field=facts.get("slots_per_value", SLOTS_PER_VALUE),  # decoders of before there was a choice
    )


def unfitted(parts: DecoderParts) -> CompactDecoderFit:
    """Build a directory's compact decoder as it is before its fit, with weights of torch's global generator."""
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
    """Load the frozen decoder and its tokenizer. A pretrained one is checked against the hash it was trained with.

    Without a `dtype` a pretrained one has that of its configuration, where `auto` is what is `computed_in`.
    """
    parts = read_parts(directory, schema)
    if parts.facts["config"]["kind"] == "compact":
        model = _compact_model(directory / "model", parts, dtype or torch.float32)
    else:
        config = PretrainedDecoderConfig.model_validate(parts.facts["config"])
        setting = computed_in if config.dtype == "auto" else config.dtype
        precision = dtype or getattr(torch, resolve_precision(setting, own_device()))
        model, _ = load_causal_lm(config.model, revision=config.revision, dtype=precision, attention=config.attention)
        check_weights(model, parts.facts["weights_sha256"], name=config.model, revision=config.revision)
    bos_id, pad_id = parts.tokenizer.bos_id, parts.tokenizer.pad_id
    return FrozenDecoder(model, bos_id=bos_id, pad_id=pad_id, joined_V=parts.joined_V), parts


def _compact_model(folder: Path, parts: DecoderParts, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import LlamaForCausalLM

    try:
        _check_sizes(folder, parts)
        return load_weights(
            LlamaForCausalLM, folder, dtype=dtype, attn_implementation=attention(parts.positions), local_files_only=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: no compact decoder can be loaded ({reason}); fit the decoder again") from error


def _check_sizes(folder: Path, parts: DecoderParts) -> None:
    """Refuse a compact decoder whose files disagree about its size, before one of any size that they say is built."""
    config = CompactDecoderConfig.model_validate(parts.facts["config"])
    vocabulary, found = len(parts.tokenizer.tokenizer), load_configuration(folder)
    for name, wanted in (
        ("vocab_size", vocabulary),
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("num_hidden_layers", config.layers),
        ("num_attention_heads", config.heads),
        ("num_key_value_heads", config.key_heads),
    ):
        if (given := getattr(found, name, None)) != wanted:
            raise ModelError(
                f"{folder / 'config.json'}: {name} is {given}, and decoder.json and tokenizer say {wanted}"
            )
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names & {_EMBEDDINGS, _UP}}
    layers = {name.split(".")[2] for name in names if name.startswith("model.layers.")}
    wanted_shapes = {_EMBEDDINGS: (vocabulary, config.hidden_size), _UP: (config.intermediate_size, config.hidden_size)}
    if shapes != wanted_shapes or len(layers) != config.layers:
        raise ModelError(f"{folder / 'model.safetensors'}: not the tensors that decoder.json describes; fit it again")


_EMBEDDINGS, _UP = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; raise ModelError naming it."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; run the stage that writes it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged ({error}); run the stage that writes it again") from error
