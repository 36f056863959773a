"""The number automaton accepts exactly the numbers of a range, as a column prints them."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difflm.models.compact import CompactDecoderConfig, fit_record_tokenizer
from difflm.records.kinds.codes import IntervalSet, ordered_codes
from difflm.records.kinds.inference import infer_schema
from difflm.records.number_tokens import is_number, number_pieces, number_tokens
from difflm.records.schema import DecimalField, IntegerField
from difflm.synthesis.grammar.automaton import AutomatonBuilder
from difflm.synthesis.grammar.numbers import add_number

TOKENS = {character: index for index, character in enumerate("0123456789-.e")}
SPELLING = {index: character for character, index in TOKENS.items()}


def _pairs(whole_digits: int, decimals: int) -> dict[str, int]:
    """What the tokenizer of such a column has, and no more."""
    names = number_tokens(whole_digits=whole_digits, decimals=decimals)
    return {name: len(TOKENS) + index for index, name in enumerate(dict.fromkeys(names))}


def _accepted(
    ranges: IntervalSet, decimals: int, suffix: str, pairs: dict[str, int] | None = None
) -> tuple[AutomatonBuilder, set[int]]:
    builder = AutomatonBuilder()
    start = builder.state()
    return builder, add_number(
        builder, start, ranges=ranges, decimals=decimals, suffix=suffix, token=TOKENS, pairs=pairs
    )


def _check_pairs(ranges: IntervalSet, decimals: int, suffix: str = "") -> None:
    """The texts are those of the range, each in the one way in which the tokenizer writes it, and none goes on."""
    printed = {_printed(scaled, decimals, suffix) for scaled in ranges}
    longest = max((len(text.removeprefix("-").partition("e")[0].partition(".")[0]) for text in printed), default=1)
    pairs = _pairs(longest, decimals)
    builder, ends = _accepted(ranges, decimals, suffix, pairs)
    wanted = set()
    for text in printed:
        magnitude, exponent, power = text.removeprefix("-").partition("e")
        sign = (TOKENS["-"],) if text.startswith("-") else ()
        wanted.add((*sign, *(pairs[name] for name in number_pieces(magnitude)), *(TOKENS[c] for c in exponent + power)))
    walks = list(_walks(builder, ends))
    assert len(walks) == len(set(walks))
    assert set(walks) == wanted
    assert not any(builder.transitions[end] for end in ends)


def _walks(builder: AutomatonBuilder, ends: set[int]) -> Iterator[tuple[int, ...]]:
    todo = [(0, ())]
    while todo:
        state, walk = todo.pop()
        if state in ends:
            yield walk
        todo += [(target, (*walk, token)) for token, target in builder.transitions[state].items()]


def _texts(builder: AutomatonBuilder, ends: set[int]) -> Iterator[str]:
    """Every text that leads from the start to an end."""
    todo = [(0, "")]
    while todo:
        state, text = todo.pop()
        if state in ends:
            yield text
        todo += [(target, text + SPELLING[token]) for token, target in builder.transitions[state].items()]


def _printed(scaled: int, decimals: int, suffix: str) -> str:
    digits = str(abs(scaled)).zfill(decimals + 1)
    point = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    return ("-" if scaled < 0 else "") + point + suffix


def _check(low: int, high: int, decimals: int, suffix: str = "") -> None:
    texts = list(_texts(*_accepted(IntervalSet.of([(low, high)]), decimals, suffix)))
    wanted = {_printed(scaled, decimals, suffix) for scaled in range(low, high + 1)}
    assert len(texts) == len(set(texts))  # every number in one way only
    assert set(texts) == wanted


@pytest.mark.parametrize("decimals", [0, 1, 2, 3])
def test_small_ranges_exhaustively(decimals: int) -> None:
    for low in range(-13, 14):
        for high in range(low, 14):
            _check(low, high, decimals)


@settings(max_examples=60, deadline=None)
@given(st.integers(-3000, 3000), st.integers(0, 2500), st.integers(0, 5), st.sampled_from(["", "e300", "e-7"]))
@example(-1, 0, 2, "")
@example(999, 2, 0, "")
@example(-100, 201, 0, "e20")
def test_any_range(low: int, width: int, decimals: int, suffix: str) -> None:
    _check(low, low + width, decimals, suffix)


@pytest.mark.parametrize(("low", "high"), [(-(2**63), 2**63 - 1), (2**53, 2**53 + 24), (-(10**15), 10**14)])
def test_wide_ranges_are_exact_at_their_ends(low: int, high: int) -> None:
    builder, ends = _accepted(IntervalSet.of([(low, high)]), 0, "")

    def accepts(text: str) -> bool:
        state: int | None = 0
        for character in text:
            state = builder.transitions[state].get(TOKENS[character]) if state is not None else None
        return state in ends

    assert all(accepts(str(value)) for value in (low, low + 1, (low + high) // 2, high - 1, high))
    assert not any(accepts(str(value)) for value in (low - 1, high + 1, 10 * high, 10 * low - 1))
    assert not any(accepts(text) for text in ("", "-", "-0", "00", "01"))
    assert len(builder.transitions) < 500


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-400, 400), st.integers(0, 60)), max_size=5), st.integers(0, 3))
def test_any_union_of_ranges(ranges: list[tuple[int, int]], decimals: int) -> None:
    wanted = IntervalSet.of((low, low + width) for low, width in ranges)
    builder = AutomatonBuilder()
    start = builder.state()
    ends = add_number(builder, start, ranges=wanted, decimals=decimals, suffix="", token=TOKENS)
    texts = list(_texts(builder, ends))
    assert len(texts) == len(set(texts))
    assert set(texts) == {_printed(scaled, decimals, "") for scaled in wanted}


@pytest.mark.parametrize("decimals", [0, 1, 2, 3, 4])
def test_small_ranges_in_pairs_exhaustively(decimals: int) -> None:
    for low in (*range(-12, 13), -101, 88, 95):
        for high in (*range(low, 14), 99, 100, 101, 130):
            if low <= high:
                _check_pairs(IntervalSet.of([(low, high)]), decimals)


@settings(max_examples=60, deadline=None)
@given(st.integers(-30_000, 30_000), st.integers(0, 2500), st.integers(0, 5), st.sampled_from(["", "e300", "e-7"]))
@example(-1, 0, 2, "")
@example(9_999, 2, 0, "")
@example(99_998, 900, 1, "")
@example(-100, 201, 0, "e20")
def test_any_range_in_pairs(low: int, width: int, decimals: int, suffix: str) -> None:
    _check_pairs(IntervalSet.of([(low, low + width)]), decimals, suffix)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-1500, 1500), st.integers(0, 60)), max_size=5), st.integers(0, 4))
def test_any_union_of_ranges_in_pairs(ranges: list[tuple[int, int]], decimals: int) -> None:
    _check_pairs(IntervalSet.of((low, low + width) for low, width in ranges), decimals)


@pytest.mark.parametrize(("low", "high"), [(-(2**63), 2**63 - 1), (2**53, 2**53 + 24), (-(10**15), 10**14)])
def test_wide_ranges_in_pairs_are_exact_at_their_ends(low: int, high: int) -> None:
    pairs = _pairs(19, 0)
    builder, ends = _accepted(IntervalSet.of([(low, high)]), 0, "", pairs)

    def accepts(value: int) -> bool:
        state: int | None = builder.transitions[0].get(TOKENS["-"]) if value < 0 else 0
        for name in number_pieces(str(abs(value))):
            state = builder.transitions[state].get(pairs.get(name, -1)) if state is not None else None
        return state in ends

    assert all(accepts(value) for value in (low, low + 1, (low + high) // 2, high - 1, high))
    assert not any(accepts(value) for value in (low - 1, high + 1, 10 * high, 10 * low - 1))
    assert len(builder.transitions) < 500


@pytest.mark.parametrize("value", [999, -9999, 99999.0, 1e30])
def test_a_number_far_from_all_others_has_its_tokens(value: float) -> None:
    usual = [number + (0 if isinstance(value, int) else 0.5) for number in range(20, 80)]
    schema = infer_schema(pa.table({"x": [*[value] * 3, *usual]}))
    field = schema.fields[0]
    assert isinstance(field, IntegerField | DecimalField)
    assert field.points == (value,)
    config = CompactDecoderConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16)
    vocabulary = fit_record_tokenizer(config, schema, [], [[]]).get_vocab()
    pairs = {name: len(TOKENS) + index for name, index in vocabulary.items() if is_number(name)}
    decimals = field.decimals if isinstance(field, DecimalField) else 0
    [far] = [low for low, high in ordered_codes(field).spans if low == high]
    builder, ends = _accepted(IntervalSet.points([far]), decimals, "", pairs)
    assert len(list(_walks(builder, ends))) == 1
