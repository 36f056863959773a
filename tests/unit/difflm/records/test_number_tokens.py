"""Numbers in pairs of digits: no byte is lost, the vocabulary has what it names, and order can be undone."""

from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from difflm.models.compact import fit_compact_tokenizer
from difflm.records.number_tokens import (
    NUMBER_MARK,
    comparable,
    is_number,
    leading_token,
    number_bytes,
    number_pieces,
    number_tokens,
    pair_token,
)
from difflm.records.tokenization import RecordTokenizer

FIXED = ('{"a": ', ', "b": ', ', "c": ', ', "d": ', "}")
WHOLE, DECIMALS = 19, (0, 1, 2, 3, 4, 5)


@cache
def _tokenizer(decimals: tuple[int, ...] = DECIMALS) -> RecordTokenizer:
    names = [name for places in decimals for name in number_tokens(whole_digits=WHOLE, decimals=places)]
    fitted = fit_compact_tokenizer(
        fixed_texts=FIXED, category_literals=['"x"', '"y"'], texts=["some text"], vocabulary_size=300, numbers=names
    )
    return RecordTokenizer(fitted, kinds=["integer", "decimal", "categorical", "text"], fixed_texts=FIXED)


def _spelled(tokenizer: RecordTokenizer, ids: tuple[int, ...]) -> str:
    return b"".join(tokenizer.pieces.bytes_V[token] for token in ids).decode()


def test_a_number_is_cut_into_pairs_whose_first_tells_how_many_follow() -> None:
    assert number_pieces("12345.6") == [leading_token("1", 2), *map(pair_token, ("23", "45", ".6"))]
    assert number_pieces("0") == [leading_token("0", 0)]
    assert number_pieces("50.25") == [leading_token("50", 0), pair_token(".25")]
    assert number_pieces("1000.12345") == [leading_token("10", 1), *map(pair_token, ("00", ".12", "34", "5"))]


@given(st.integers(-(10**WHOLE) + 1, 10**WHOLE - 1))
@example(0)
@example(-(10**18))
def test_whole_numbers_keep_their_bytes(value: int) -> None:
    tokenizer, literal = _tokenizer(), str(value)
    ids = tokenizer.literal_ids(0, literal)
    assert _spelled(tokenizer, ids) == literal
    assert len(ids) == (len(str(abs(value))) + 1) // 2 + (value < 0)
    assert set(ids) - set(tokenizer.pieces.characters("-")) <= set(tokenizer.pieces.numbers.values())


@given(st.integers(-(10**15), 10**15), st.sampled_from(DECIMALS), st.sampled_from(["", "e300", "e-7"]))
@example(-1, 2, "")
@example(5, 5, "e-7")
def test_decimals_keep_their_bytes(scaled: int, decimals: int, suffix: str) -> None:
    digits = str(abs(scaled)).zfill(decimals + 1)
    point = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    literal = ("-" if scaled < 0 else "") + point + suffix
    tokenizer = _tokenizer()
    ids = tokenizer.literal_ids(1, literal)
    assert _spelled(tokenizer, ids) == literal
    assert tokenizer.pieces.numbers[number_pieces(point)[0]] in ids


@pytest.mark.parametrize("decimals", DECIMALS)
@pytest.mark.parametrize("digits", [1, 2, 3, 4, 7])
def test_the_vocabulary_has_what_numbers_of_a_column_are_written_in_and_no_more(digits: int, decimals: int) -> None:
    names = number_tokens(whole_digits=digits, decimals=decimals)
    fitted = fit_compact_tokenizer(fixed_texts=['{"a": ', "}"], category_literals=[], texts=[], numbers=names)
    tokenizer = RecordTokenizer(fitted, kinds=["decimal"], fixed_texts=['{"a": ', "}"])
    assert set(tokenizer.pieces.numbers) == set(names)
    assert len(names) == len(set(names))
    assert all(is_number(name) for name in names)
    assert all(
        tokenizer.pieces.bytes_V[index] == number_bytes(name) for name, index in tokenizer.pieces.numbers.items()
    )
    wholes = [str(value) for length in range(1, digits + 1) for value in (10 ** (length - 1), 10**length - 1)]
    fractions = ["".join(str((first + at) % 10) for at in range(decimals)) for first in range(10)]
    used = {
        name
        for whole in ("0", *wholes)
        for fraction in fractions
        for name in number_pieces(f"{whole}.{fraction}" if decimals else whole)
    }
    assert used <= set(names)


def test_a_number_beyond_the_vocabulary_is_written_in_characters() -> None:
    names = number_tokens(whole_digits=2, decimals=0)
    fitted = fit_compact_tokenizer(fixed_texts=['{"a": ', "}"], category_literals=[], texts=[], numbers=names)
    tokenizer = RecordTokenizer(fitted, kinds=["integer"], fixed_texts=['{"a": ', "}"])
    assert tokenizer.literal_ids(0, "123") == tokenizer.pieces.characters("123")
    assert tokenizer.literal_ids(0, "1.5") == tokenizer.pieces.characters("1.5")
    assert len(tokenizer.literal_ids(0, "99")) == 1
    assert _spelled(tokenizer, tokenizer.literal_ids(0, "null")) == "null"


@pytest.mark.parametrize("text", [NUMBER_MARK, f"{NUMBER_MARK}12|0", f"a{NUMBER_MARK}07 b", "12.50", "x9"])
def test_texts_with_the_mark_keep_their_bytes(text: str) -> None:
    tokenizer = _tokenizer()
    for literal, field in ((f'"{text}"', 3), (f'"{text}"', 2)):
        assert _spelled(tokenizer, tokenizer.literal_ids(field, literal)) == literal


def test_single_digits_are_ordinary_tokens() -> None:
    tokenizer = _tokenizer()
    assert not set(tokenizer.pieces.characters("0123456789")) & set(tokenizer.pieces.numbers.values())


@given(st.permutations(range(4)), st.integers(-99_999, 99_999), st.text(max_size=12))
def test_any_order_of_the_fields_is_put_back(order: list[int], value: int, text: str) -> None:
    tokenizer = _tokenizer()
    literals = [str(value), f"{value}.50", '"x"', '"' + text.replace("\\", "").replace('"', "") + '"']
    segments = [[*tokenizer.fixed_ids[place], *tokenizer.literal_ids(place, literals[place])] for place in range(4)]
    end = list(tokenizer.fixed_ids[-1])
    written = [token for place in order for token in segments[place]] + end
    assert tokenizer.in_order(written) == [token for segment in segments for token in segment] + end


def test_number_tokens_are_comparable_within_their_place() -> None:
    found = [comparable(f"{NUMBER_MARK}{name}") for name in ("7|0", "12|0", "12|1", "05", "5", ".05", ".5")]
    assert found == [("|0", 7), ("|0", 12), ("|1", 12), ("2", 5), ("1", 5), (".2", 5), (".1", 5)]
    assert comparable("12") is None
    assert comparable(f"{NUMBER_MARK}red") is None
