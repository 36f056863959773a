"""Tokenization: no byte of a record is lost, with the compact tokenizer and with tokenizers as people have them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from difflm.errors import ModelError
from difflm.models.compact import fit_compact_tokenizer
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.tokenization import PieceTokenizer, RecordTokenizer, TokenTable, _unicode_to_byte
from difflm.testing.models import DECODER_FAMILIES, byte_level_tokenizer, sentencepiece_tokenizer
from difflm.testing.tables import odd_tables

ODD = sorted(odd_tables())
ODD_TEXTS = (
    " leading", "trailing ", "a  b", "\n", "e\u0301", "日本語 🙂", "▁a", "<s>", "</s> <unk>", "<|endoftext|>",
    "<|im_start|>x", "<0x41>", "\\u0001", "Ġ", "\u2028", "\x7f", "ABC def", "null", "<pad>", "<bos>", "x <eos> y",
)  # fmt: skip


def _records(name: str) -> tuple[JsonRecordCodec, list[list[str]], list[str]]:
    table = odd_tables()[name]
    codec = JsonRecordCodec(infer_schema(table))
    normal = codec.normalize_table(table).table
    return codec, codec.value_literals(normal), codec.encode_table(normal)


def _spelled(tokenizer: RecordTokenizer, table: TokenTable) -> list[str]:
    pieces = tokenizer.pieces.bytes_V
    rows = zip(table.ids_NT.tolist(), table.lengths_N.tolist(), strict=True)
    return [b"".join(pieces[token] for token in ids[:length]).decode() for ids, length in rows]


def test_a_large_vocabulary_is_read_in_seconds() -> None:
    """The table of byte-level stand-ins was made anew for every token: a minute for 49,152 of them."""
    assert _unicode_to_byte() is _unicode_to_byte()


def _check_lossless(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    codec, literals, lines = _records(name)
    kinds = [field.kind for field in codec.schema.fields]
    records = RecordTokenizer(tokenizer, kinds=kinds, fixed_texts=codec.fixed_texts())
    layout = records.layout(literals)
    table = records.encode(literals, layout)
    assert _spelled(records, table) == lines
    assert len(table) == len(lines)
    assert table.grid_NG.shape == (len(lines), layout.size)
    for field, column in enumerate(literals):
        cells = table.grid_NG[:, layout.field_G == field]
        for row, literal in zip(cells.tolist(), column, strict=True):
            wanted = records.literal_ids(field, literal)[: layout.widths[field]]
            assert tuple(row[: len(wanted)]) == wanted
            assert set(row[len(wanted) :]) <= {records.pad_id}


@pytest.mark.parametrize("name", ODD)
def test_the_compact_tokenizer_loses_nothing(name: str) -> None:
    codec, literals, _ = _records(name)
    closed = {"categorical", "boolean", "constant"}
    columns = list(zip(codec.schema.fields, literals, strict=True))
    tokenizer = fit_compact_tokenizer(
        fixed_texts=codec.fixed_texts(),
        category_literals=[text for field, column in columns if field.kind in closed for text in column],
        texts=[text for field, column in columns if field.kind == "text" for text in column],
        vocabulary_size=300,
    )
    _check_lossless(tokenizer, name)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@pytest.mark.parametrize("name", ["free_text", "odd_names", "wild_floats", "dates", "missing_everywhere", "booleans"])
def test_saved_tokenizers_lose_nothing(name: str, family: str, saved_decoder: Callable[[str], Path]) -> None:
    _check_lossless(AutoTokenizer.from_pretrained(saved_decoder(family)), name)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_odd_pieces_keep_their_bytes(family: str, saved_decoder: Callable[[str], Path]) -> None:
    pieces = PieceTokenizer(AutoTokenizer.from_pretrained(saved_decoder(family)))
    for text in ODD_TEXTS:
        assert b"".join(pieces.bytes_V[token] for token in pieces.piece(text)) == text.encode(), text


PIECES = {
    "byte level": PieceTokenizer(byte_level_tokenizer("qwen2")),
    "sentencepiece": PieceTokenizer(sentencepiece_tokenizer()),
    "compact": PieceTokenizer(
        fit_compact_tokenizer(fixed_texts=['{"a": '], category_literals=['"x"'] * 3, texts=[], vocabulary_size=300)
    ),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PIECES)), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_any_text_keeps_its_bytes(name: str, text: str) -> None:
    pieces = PIECES[name]
    assert b"".join(pieces.bytes_V[token] for token in pieces.piece(text)) == text.encode()
    assert b"".join(pieces.bytes_V[token] for token in pieces.characters(text)) == text.encode()


def test_special_tokens_spell_nothing() -> None:
    tokenizer = byte_level_tokenizer("qwen2")
    pieces = PieceTokenizer(tokenizer)
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        index = tokenizer.convert_tokens_to_ids(token)
        assert pieces.bytes_V[index] == b""
        assert index not in pieces.piece(token)


def test_digits_are_ordinary_tokens_not_byte_escapes() -> None:
    tokenizer = sentencepiece_tokenizer()
    pieces = PieceTokenizer(tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(pieces.characters("12.5"))) == ["1", "2", ".", "5"]


def test_numbers_and_dates_are_spelled_character_by_character() -> None:
    records = RecordTokenizer(
        byte_level_tokenizer("gpt2"), kinds=["integer", "text"], fixed_texts=['{"a": ', ', "b": ', "}"]
    )
    assert len(records.literal_ids(0, "1234567")) == 7
    assert len(records.literal_ids(0, "null")) < 4
    text = records.literal_ids(1, '"the quick"')
    assert text[0] == text[-1] == records.pieces.characters('"')[0]


def test_padding_is_on_the_right() -> None:
    records = RecordTokenizer(byte_level_tokenizer("gpt2"), kinds=["integer"], fixed_texts=["[", "]"])
    literals = [["1", "12345", "12"]]
    table = records.encode(literals, records.layout(literals))
    assert table.lengths_N.tolist() == [3, 7, 4]
    behind = np.arange(table.ids_NT.shape[1]) >= table.lengths_N[:, None]
    assert np.all(table.ids_NT[behind] == records.pad_id)


def test_values_longer_than_the_layout_keep_their_text_but_not_their_cells() -> None:
    records = RecordTokenizer(byte_level_tokenizer("gpt2"), kinds=["integer"], fixed_texts=["[", "]"])
    layout = records.layout([["1", "22"]])
    table = records.encode([["7654321"]], layout)
    assert _spelled(records, table) == ["[7654321]"]
    assert table.grid_NG.shape == (1, 2)


def test_values_that_have_no_cell_for_every_token_are_counted() -> None:
    records = RecordTokenizer(byte_level_tokenizer("gpt2"), kinds=["integer"] * 2, fixed_texts=["[", ",", "]"])
    literals = [["1", "4321", "4321"], ["22", "1", "333"]]
    assert records.partly_read(literals, records.layout(literals)) == (0, 0)
    assert records.layout(literals, longest=2).widths == (2, 2)
    assert records.partly_read(literals, records.layout(literals, longest=2)) == (2, 1)


def test_a_vocabulary_without_digits_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<s>": 1}, unk_token="a"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    with pytest.raises(ModelError, match=r"no single-byte token.*choose a decoder whose vocabulary has digits"):
        PieceTokenizer(fast).characters("12")


def test_a_tokenizer_without_any_end_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[": 0, "]": 1}, unk_token="[")))
    with pytest.raises(ModelError, match="has none of bos_token_id, cls_token_id, eos_token_id"):
        RecordTokenizer(tokenizer, kinds=["integer"], fixed_texts=["[", "]"])


def test_the_compact_tokenizer_learns_no_word_of_a_single_row() -> None:
    names = [f"Q{chr(97 + index)}zvunique{chr(122 - index)}" for index in range(20)]
    tokenizer = fit_compact_tokenizer(
        fixed_texts=[], category_literals=[], texts=[f'"{name} Miller"' for name in names], vocabulary_size=1000
    )
    vocabulary = set(tokenizer.get_vocab())
    assert not vocabulary & set(names)
    assert any("Miller" in token for token in vocabulary)  # what rows share is learned
