"""Number inference: the field of a column of numbers, whole or decimal, plain or in a dress.

Cells are numbers only if each, read and printed again, is what the source has: `+491701234567` and `007` are codes.
What is rounded for the sake of short records is the one exception; it is counted, and settings keep more of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.kinds.columns import INTEGER_PATTERN, is_decimal, parse_decimals, round_decimals
from difflm.records.kinds.distinct_values import Column, median_index
from difflm.records.kinds.dress import MAX_WORDS, PLAIN, Dressed, find_dress, plain_text, speller, spells
from difflm.records.kinds.literals import DecimalForm, decimal_form, decimal_literal, decimal_places
from difflm.records.notices import Reporter
from difflm.records.schema import ConstantField, DecimalField, Dress, Field, IntegerField, SchemaConfig

_NOT_FINITE: Final = r"(?i)^[+-]?inf(inity)?$"
_WHOLE_LIMIT: Final = 2.0**53
_CENTS: Final = 2
_EXACT: Final = 15
"""Amounts with so many places keep them, up to so many digits: who reads them again looks for cents."""
_FEWEST: Final = 10
_RARE: Final = 0.05
_CODED = re.compile(r"[+-]?0\d.*|\+\d{7,}.*")
_FILL: Final = 1e9
"""A number so many times as far from the others as these are from each other stands for no value, as 1e30 does in
measurements: in its units no digit of the others would be left.
"""
_LARGEST_FILL: Final = 1e40
_NINES = re.compile(r"-?9{2,}(?:\.0)?")


def number_field(column: Column, limits: SchemaConfig, report: Reporter) -> Field | None:
    """Infer the field of a column of plain numbers; None where the source spells them in a way that has to be kept."""
    whole = pc.match_substring_regex(column.distinct, INTEGER_PATTERN)
    if not pa.types.is_floating(column.source) and pc.all(whole).as_py():
        try:
            return _integer(column, pc.cast(column.distinct, pa.int64()))
        except pa.ArrowInvalid:
            message = "whole numbers beyond 64 bits are kept as text"
            column.tell("out_of_int64", len(column.distinct), message, report)
            return None
    infinite = pc.match_substring_regex(column.distinct, _NOT_FINITE)
    overflows = pc.and_(is_decimal(column.distinct), pc.is_null(parse_decimals(pa.chunked_array([column.distinct]))))
    if isinstance(overflows, pa.ChunkedArray):
        overflows = overflows.combine_chunks()
    gone = pc.or_(infinite, overflows)
    if pc.all(gone).as_py():
        return None
    finite = column.without(gone) if pc.any(gone).as_py() else column
    if not pc.all(is_decimal(finite.distinct)).as_py():
        return None
    dress: Dress | None = None
    if not finite.is_typed:
        texts: list[str] = finite.distinct.to_pylist()
        if not all(map(speller(PLAIN), texts)):
            found = find_dress(texts)
            if found is None or not found.dress.plain or not _in_one_way(column, texts, found, report):
                return None
            dress = found.dress
    if finite.missing > column.missing:
        lost = finite.missing - column.missing
        column.tell("not_finite", lost, f"{lost} infinite values count as missing", report)
    return _decimal(finite, limits, report, dress)


def _in_one_way(column: Column, texts: Sequence[str], found: Dressed, report: Reporter) -> bool:
    """Return whether all cells are spelled in this way, or all but a few where E notation is among them: those are
    spelled like the others, and reported.
    """
    if not found.others:
        return True
    rows = column.count_of(found.others)
    exponents = [text for text in texts if "e" in text.lower()]
    if not exponents or len(exponents) == len(texts) or 2 * rows > column.rows - column.missing:
        return False
    message = (
        f"{rows} numbers, such as {texts[found.others[0]]!r}, are spelled like the others; "
        f"{column.setting('categorical')} or text keeps them as they are"
    )
    column.tell("spelled", rows, message, report)
    return True


def dressed_field(column: Column, limits: SchemaConfig, report: Reporter, *, given: bool = False) -> Field | None:
    """Infer the field of a column of numbers in a dress, a few words beside them; None where it is none.

    With `given`, someone says that they are numbers: then those of other spellings are spelled like the rest.

    Raises:
        DataError: `given`, and too many values are no numbers.
    """
    texts: list[str] = column.distinct.to_pylist()
    found = find_dress(texts, rounding=given or limits.respell)
    if found is None or not _is_number(column, texts, found, given=given or limits.respell):
        if given:
            wrong = texts[found.others[0]] if found is not None and found.others else texts[0]
            remedy = f"a number has one dress, with at most {MAX_WORDS} words beside; correct it, or set text or code"
            raise column.misfit(wrong, "number", remedy)
        return None
    worn = [place for place in range(len(texts)) if place not in set(found.others)]
    words = column.words(found.others)
    if len(texts) == 1 and not column.missing:
        return ConstantField(name=column.name, value=texts[0])
    field = _field_in_dress(column, texts, worn, found, limits, report)
    if field is None:
        return None
    if words:
        rows, shown = column.count_of(found.others), ", ".join(map(repr, words[:4]))
        message = f"{rows} cells are words beside the numbers, kept as they are: {shown}"
        column.tell("words", rows, message, report)
    return field.model_copy(update={"words": words})


def _field_in_dress(
    column: Column,
    texts: Sequence[str],
    worn: Sequence[int],
    found: Dressed,
    limits: SchemaConfig,
    report: Reporter,
) -> IntegerField | DecimalField | None:
    dress = found.dress
    plain = [plain_text(dress, texts[place]) or "" for place in worn]
    odd = [place for place in worn if not spells(dress, texts[place], whole=found.whole)]
    if odd:
        rows, example = column.count_of(odd), texts[odd[0]]
        message = f"{rows} numbers, such as {example!r}, are spelled like the others, as schema.kinds or respell asks"
        column.tell("spelled", rows, message, report)
    numbers = column.only(worn, plain)
    if found.whole:
        try:
            field: Field = _integer(numbers, pc.cast(numbers.distinct, pa.int64()), keep=True)
        except pa.ArrowInvalid:
            return None
    else:
        field = _decimal(numbers, limits, report, dress, keep=True)
    assert isinstance(field, IntegerField | DecimalField)
    if isinstance(field, DecimalField):
        return field
    return field.model_copy(update={"dress": None if dress == PLAIN else dress})


def _is_number(column: Column, texts: Sequence[str], found: Dressed, *, given: bool) -> bool:
    """Return whether the cells that wear no dress are words beside numbers, and not the sign of something else."""
    others = [texts[place] for place in found.others]
    worn = len(texts) - len(others)
    if len(others) > MAX_WORDS or column.count_of(found.others) > (column.rows - column.missing) / 2 or not worn:
        return False
    if not all(text.isprintable() for text in others):
        return False
    if given:
        return True
    if worn < _FEWEST or any(_CODED.fullmatch(text) for text in others):
        return False
    respelled = [place for place in found.others if plain_text(found.dress, texts[place]) is not None]
    return column.count_of(respelled) <= _RARE * column.rows


def _integer(column: Column, numbers: pa.Array, *, keep: bool = False) -> Field:
    values = numbers.to_numpy()
    points = _points(values, column.counts.to_numpy())
    usual = values[~points]
    low, high = int(usual.min()), int(usual.max())
    if low == high and not column.missing and not keep:
        return ConstantField(name=column.name, value=low)
    return IntegerField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        minimum=low,
        maximum=high,
        median=int(values[median_index(values, column.counts)]),
        distinct=len(np.unique(values)),
        points=tuple(sorted(values[points].tolist())),
    )


def _decimal(
    column: Column, limits: SchemaConfig, report: Reporter, dress: Dress | None, *, keep: bool = False
) -> Field:
    numbers = parse_decimals(pa.chunked_array([column.distinct])).combine_chunks().to_numpy()
    if len(np.unique(numbers)) == 1 and not column.missing and not keep:
        return ConstantField(name=column.name, value=_constant_of(column, float(numbers[0]) + 0.0, dress))
    counts = column.counts.to_numpy()
    points = _points(numbers, counts)
    usual = numbers[~points]
    form = _form(column, ~points, numbers, limits, dress)
    if form is not None and form.exponent and points.any():  # in so small units what stands apart is too long
        form = _form(column, np.ones_like(points), numbers, limits, dress)
    if form is None:
        form = DecimalForm(0, 0)
        column.tell("whole_decimals", column.rows, "fractions are always zero, no part of what is learned", report)

    def printed(number: float) -> float:
        return float(decimal_literal(number, form.decimals, form.exponent))

    kept = round_decimals(pa.chunked_array([numbers]), form.decimals, form.exponent).to_numpy() == numbers
    rounded = int(counts[~kept].sum())
    if rounded:
        unit = f"{form.decimals} decimals" + (f" in units of 1e{form.exponent}" if form.exponent else "")
        remedy = "schema.exact_digits, significant_digits and rounded_share keep more"
        column.tell("rounded", rounded, f"{rounded} numbers are rounded to {unit}; {remedy}", report)
        if dress is not None and dress.places is not None and not form.exponent and dress.scientific is None:
            dress = dress.model_copy(update={"places": min(dress.places, form.decimals) or dress.places})
    return DecimalField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        minimum=printed(float(usual.min())),
        maximum=printed(float(usual.max())),
        median=printed(float(numbers[median_index(numbers, column.counts)])),
        distinct=len(np.unique(numbers)),
        decimals=form.decimals,
        exponent=form.exponent,
        points=tuple(sorted({printed(number) for number in numbers[points].tolist()})),
        dress=None if dress == PLAIN else dress,
    )


def _form(
    column: Column, chosen: np.ndarray, numbers: np.ndarray, limits: SchemaConfig, dress: Dress | None
) -> DecimalForm | None:
    """Infer how the chosen ones of a column's numbers are printed; None where their fractions are always zero."""
    some = numbers[chosen]
    if np.all(some == np.floor(some)) and np.abs(some).max() < _WHOLE_LIMIT:
        return None
    return decimal_form(
        decimal_places(column.distinct)[chosen],
        some,
        column.counts.to_numpy()[chosen],
        exact_digits=_EXACT if dress is not None and (dress.places or _EXACT) <= _CENTS else limits.exact_digits,
        significant_digits=limits.significant_digits,
        max_decimals=limits.max_decimals,
        rounded_share=limits.rounded_share,
    )


def _constant_of(column: Column, number: float, dress: Dress | None) -> float | str:
    """Return the value of a constant column: its number, or its text where no number would be printed so."""
    return number if dress is None else str(column.distinct[0].as_py())


def _points(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mark the sentinels: -999 or 99999 in several rows, farther from the other numbers than these are from each
    other, below or above them all.
    """
    marked = np.zeros(len(numbers), dtype=bool)
    for sign in (-1, 1):
        rest = numbers[~marked]
        place = int(np.argmax(np.where(marked, -np.inf, sign * numbers.astype(np.float64))))
        others = rest[rest != numbers[place]]
        if len(others) < _FEWEST or counts[place] < 2:
            continue
        nearest, farthest = (others.max(), others.min()) if sign > 0 else (others.min(), others.max())
        gap, span = (abs(float(one) - float(nearest)) for one in (numbers[place], farthest))
        nines = _NINES.fullmatch(str(numbers[place])) is not None
        if gap > (span if nines else _FILL * span) and (nines or gap < _LARGEST_FILL):
            marked[place] = True
    return marked
