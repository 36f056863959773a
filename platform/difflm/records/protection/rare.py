"""Rare values: categories, words and forms of codes that few rows have are drawn as others of their column.

They are drawn from rows that are alike: of the same value in the column that says most about this one. So a rare town
becomes another one of its country, and what holds between columns still does for most rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from difflm.records.fields import Form
from difflm.records.kinds.codes_of_form import find_shapes, is_of_form
from difflm.records.kinds.moments import field_moment
from difflm.records.kinds.number_spans import find_numbers, has_spans, widened
from difflm.records.protection.columns import BoolArray, Cells, IntArray
from difflm.records.schema import CodeField, DatetimeField, DecimalField, Field, IdentifierField, IntegerField

_SAMPLE: Final = 20_000
PARTNERS: Final = 20
MAX_ALIKE: Final = 100
_OTHER: Final = ("other", "(other)", "other values", "(other values)")
_FEW_LETTERS: Final = 4


def rare_values(cells: Cells, field: Field, least: int) -> BoolArray:
    """Mark, (V,), the distinct values that fewer than `least` rows have and that are no numbers, dates or free text."""
    few_V: BoolArray = cells.counts_V < least
    match field:
        case IntegerField() | DecimalField():
            return few_V & _among(field.words, cells)
        case DatetimeField():
            return (few_V & _among(field.words, cells)) | _odd_dates(cells, field, least)
        case CodeField() | IdentifierField():
            return rare_codes(cells, field.shapes, least)
        case _:
            return few_V


def _among(words: Sequence[str], cells: Cells) -> BoolArray:
    if not words:
        return np.zeros(len(cells.texts), dtype=np.bool_)
    return np.array([text in words for text in cells.texts], dtype=np.bool_)


def _odd_dates(cells: Cells, field: DatetimeField, least: int) -> BoolArray:
    """Mark the dates of a format that few rows have, or with a zone that few have."""
    forms: list[tuple[str, str]] = []
    for text in cells.texts:
        format = next((one for one in field.formats if field_moment(field.model_copy(update=_only(one)), text)), "")
        zone = text[-6:] if "%z" in format and field.zones else ""
        forms.append((format, next((one for one in field.zones if zone.endswith(one)), "")))
    rows: dict[tuple[str, str], int] = {}
    for form, count in zip(forms, cells.counts_V.tolist(), strict=True):
        rows[form] = rows.get(form, 0) + count
    return np.array([bool(form[0]) and rows[form] < least for form in forms], dtype=np.bool_)


def _only(format: str) -> Mapping[str, object]:
    return {"format": format, "others": ()}


def rare_codes(cells: Cells, shapes: Sequence[Form], least: int) -> BoolArray:
    """Mark the codes of a form that few rows have, or with a character that few have where only few are seen."""
    marked_V: BoolArray = np.zeros(len(cells.texts), dtype=np.bool_)
    counts_V = cells.counts_V
    for shape in shapes:
        mine = [place for place, text in enumerate(cells.texts) if is_of_form((shape,), text)]
        if counts_V[mine].sum() < least:
            marked_V[mine] = True
            continue
        for at, letters in enumerate(shape):
            if has_spans(shape) or not isinstance(letters, str) or len(letters) > _FEW_LETTERS:
                continue
            rows = {letter: int(sum(counts_V[p] for p in mine if cells.texts[p][at] == letter)) for letter in letters}
            marked_V[[p for p in mine if rows[cells.texts[p][at]] < least]] = True
    return marked_V


def common_shapes(cells: Cells, shapes: Sequence[Form], least: int) -> tuple[Form, ...]:
    """Return the forms of the codes that are not rare; all of them where none is left. Numbers in them are rounded."""
    rare_V = rare_codes(cells, shapes, least)
    kept = [text for text, rare in zip(cells.texts, rare_V, strict=True) if not rare]
    if any(map(has_spans, shapes)):
        return tuple(map(widened, (find_numbers(kept) if kept else None) or shapes))
    return (find_shapes(kept, least=1, most=len(shapes)) if kept else None) or tuple(shapes)


def replace_rare(
    cells: Cells, rare_V: BoolArray, others: Iterable[Cells], *, least: int, merge: bool, random: np.random.Generator
) -> None:
    """Draw the cells of rare values as others of the column; with `merge` they become a category of their own where at
    least as many rows share it. There is a value that is not rare.
    """
    rows_N = cells.rows_of(rare_V)
    if merge and pa.types.is_string(cells.type) and int(rows_N.sum()) >= least:
        cells.give(rows_N, next(label for label in _labels() if label not in cells.texts))
        return
    cells.draw(rows_N, _alike(cells, rows_N, others), random)


def _labels() -> Iterable[str]:
    yield from _OTHER
    number = 1
    while True:
        number += 1
        yield f"other ({number})"


def _alike(cells: Cells, rows_N: BoolArray, others: Iterable[Cells]) -> IntArray | None:
    """Return the codes of the column that says most about this one, and of whose groups most marked rows have one."""
    usable_N = ~rows_N & (cells.code_N >= 0)
    rows = np.flatnonzero(usable_N)[:_SAMPLE]
    few = sorted(
        (other for other in others if other.name != cells.name and 1 < len(other.texts) <= MAX_ALIKE),
        key=lambda other: len(other.texts),
    )[:PARTNERS]
    shared = [
        (_information(cells.code_N[rows], other.code_N[rows]), other)
        for other in few
        if np.isin(other.code_N[rows_N], other.code_N[usable_N]).mean() > 0.5
    ]
    return max(shared, key=lambda pair: pair[0])[1].code_N if shared else None


def _information(one_N: IntArray, other_N: IntArray) -> float:
    """Return the mutual information of two columns of codes, in nats, less what chance gives."""
    rows = len(one_N)
    _, one_N = np.unique(one_N, return_inverse=True)
    _, other_N = np.unique(other_N, return_inverse=True)
    width = int(other_N.max(initial=0)) + 1
    pairs, counts = np.unique(one_N * width + other_N, return_counts=True)
    expected = np.bincount(one_N)[pairs // width] * np.bincount(other_N)[pairs % width] / rows
    chance = (int(one_N.max(initial=0)) * (width - 1)) / (2 * rows)
    return float((counts / rows * np.log(counts / expected)).sum()) - chance
