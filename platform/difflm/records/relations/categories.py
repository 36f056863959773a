"""Copies, functions by table, and combinations that never mix."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from difflm.records.relations.expressions import quoted
from difflm.records.relations.model import Cell, Combinations, Lookup
from difflm.records.relations.search import BROKEN_ROWS, BROKEN_SHARE, Search, mixed_share
from difflm.records.relations.values import IntArray, TableValues, kind_of
from difflm.records.schema import BooleanField, CategoricalField, Field, IntegerField

_HASHED_ROWS: Final = 2_000
_FIRST_ROWS: Final = 500
_ROWS_PER_ENTRY: Final = 5
_MOST_ENTRIES: Final = 1_000
_PAIRED: Final = 40
"""Columns, those of fewest values, that are tried in pairs as what another column follows from."""
_PAIRED_VALUES: Final = 100
_SEEN_OFTEN: Final = 3
"""Training rows that every combination needs for the list of them to count as complete."""
_NEVER_SHARE: Final = 0.2
"""Rows that would have another combination if the columns had nothing to do with each other."""


def find_copies(search: Search) -> None:
    """Find columns that are equal in every row, missing values too."""
    groups: dict[object, list[str]] = {}
    for name in search.columns():
        text = kind_of(search.schema.field(name)) == "text"
        key = tuple(search.sample.first(name, _HASHED_ROWS)) if text else (
            search.sample.numbers(name)[:_HASHED_ROWS].tobytes()
        )  # fmt: skip
        groups.setdefault(key, []).append(name)
    for first, *others in groups.values():
        for other in others:
            together = bool(search.train.missing(first).any())
            codes_N, _ = search.train.codes(other)
            if mixed_share(codes_N) * len(codes_N) < BROKEN_ROWS or not _equal(search.train, first, other):
                continue
            if search.accept_rule(f"{quoted(other)} == {quoted(first)}", missing_together=together):
                search.derived.add(other)


def _equal(table: TableValues, one: str, other: str) -> bool:
    return bool(np.array_equal(table.missing(one), table.missing(other)))


def find_lookups(search: Search) -> None:
    """Find columns that are a function of another one with few values, or of two."""
    names = search.columns()
    if len(names) < 2:
        return
    codes_NC = np.stack([search.sample.codes(name)[0] for name in names], axis=1)
    sizes = {name: _size(search, name) for name in names}
    sources = [name for name in names if 2 <= sizes[name] <= _most(search)]
    for target in names:
        decided = [
            source
            for source in _decided(codes_NC, names, sources, target)
            if sizes[source] > sizes[target] or names.index(source) < names.index(target) or target not in sources
        ]  # of two that follow from each other the first decides
        for source in sorted(decided, key=lambda name: (sizes[name], names.index(name))):
            if _accept_lookup(search, (source,), target, BROKEN_ROWS, 0.0):
                search.derived.add(target)
                break
    _find_pairs(search, codes_NC, names)


def _decided(codes_NC: IntArray, names: Sequence[str], sources: Sequence[str], target: str) -> list[str]:
    """Return the sources that the target seems to follow from."""
    found = []
    target_N = codes_NC[:, names.index(target)]
    for source in sources:
        source_N = codes_NC[:, names.index(source)]
        first = slice(_FIRST_ROWS)
        if source != target and _follows(source_N[first], target_N[first]) and _follows(source_N, target_N):
            found.append(source)
    return found


def _follows(source_N: IntArray, target_N: IntArray) -> bool:
    table = np.zeros(int(source_N.max(initial=0)) + 1, dtype=np.int64)
    table[source_N] = target_N
    return bool((table[source_N] == target_N).all())


def _find_pairs(search: Search, codes_NC: IntArray, names: Sequence[str]) -> None:
    left = [name for name in names if name not in search.derived]
    sizes = {name: _size(search, name) for name in left}
    few = sorted((name for name in left if 2 <= sizes[name] <= _PAIRED_VALUES), key=lambda name: sizes[name])[:_PAIRED]
    places = [names.index(name) for name in left]
    known = set(search.refuted)  # of three columns that follow from each other two by two, one is said
    for one, other in combinations([name for name in names if name in few], 2):
        one_N, other_N = codes_NC[:, names.index(one)], codes_NC[:, names.index(other)]
        pair_N = one_N * (int(other_N.max(initial=0)) + 1) + other_N
        if len(np.unique(pair_N)) > _most(search):
            continue
        last_K = np.zeros(int(pair_N.max(initial=0)) + 1, dtype=np.int64)
        last_K[pair_N] = np.arange(len(pair_N))
        same_NT = codes_NC[last_K[pair_N[:_FIRST_ROWS]]][:, places] == codes_NC[:_FIRST_ROWS, places]
        for place in np.flatnonzero(same_NT.all(axis=0)):
            target = left[place]
            same = frozenset((one, other, target))
            if len(same) < 3 or target in search.derived or same in known:
                continue
            if _follows(pair_N, codes_NC[:, names.index(target)]) and _accept_lookup(
                search, (one, other), target, BROKEN_ROWS, BROKEN_SHARE
            ):
                search.derived.add(target)
                known.add(same)


def _accept_lookup(search: Search, sources: tuple[str, ...], target: str, rows: int, share: float) -> bool:
    """Verify a function on all rows: it counts where shuffling any of its sources breaks enough of them."""
    lookup, clashing_N = learn_lookup(search.train, sources, target)
    if clashing_N.any() or len(lookup.rows) > _most(search) or not _matters(search, sources, target, rows, share):
        return False
    return search.accept(lookup, broken_by(lookup, search.validation))


def _matters(search: Search, sources: tuple[str, ...], target: str, rows: int, share: float) -> bool:
    sample, random = search.sample, np.random.default_rng(0)
    target_N, _ = sample.codes(target)
    for shuffled in sources:
        parts = [sample.codes(name) for name in sources]
        keys = [codes_N if name != shuffled else random.permutation(codes_N)
                for name, (codes_N, _) in zip(sources, parts, strict=True)]  # fmt: skip
        shape = [len(values) for _, values in parts]
        true_N = np.ravel_multi_index([codes_N for codes_N, _ in parts], shape)
        table = np.full(int(np.prod(shape)), -1, dtype=np.int64)
        table[true_N] = target_N
        said_N = table[np.ravel_multi_index(keys, shape)]
        broken = float(((said_N >= 0) & (said_N != target_N)).mean())
        tested = 1.0 - len(np.unique(true_N)) / max(1, len(target_N))
        if broken < share or broken * tested * len(search.train) < rows:
            return False
    return True


def find_combinations(search: Search) -> None:
    """Find pairs of categories that come in certain combinations only, though neither follows from the other."""
    names = [
        name for name in search.columns() if isinstance(search.schema.field(name), CategoricalField | BooleanField)
    ]
    few = sorted((name for name in names if _size(search, name) >= 2), key=lambda name: _size(search, name))[:_PAIRED]
    for one, other in combinations([name for name in names if name in few], 2):
        if frozenset((one, other)) in search.refuted:
            continue
        if _pairs(search.sample, one, other) > _most(search):  # all of the rows have no fewer
            continue
        if not _never_mix(search.sample, one, other, often=1) or not _never_mix(search.train, one, other, _SEEN_OFTEN):
            continue
        relation = learn_combinations(search.train, (one, other))
        if len(relation.rows) <= _most(search):
            search.accept(relation, broken_by(relation, search.validation))


def _pairs(table: TableValues, one: str, other: str) -> int:
    (one_N, _), (other_N, others) = table.codes(one), table.codes(other)
    return len(np.unique(one_N * len(others) + other_N))


def _never_mix(table: TableValues, one: str, other: str, often: int) -> bool:
    (one_N, _), (other_N, others) = table.codes(one), table.codes(other)
    # Only the pairs that there are: two columns of 10,000 values have 10**8.
    pair_P, count_P = np.unique(one_N * len(others) + other_N, return_counts=True)
    total = len(one_N)
    if not total or count_P.min() < often:
        return False
    one_A, other_B = np.bincount(one_N).astype(np.float64), np.bincount(other_N)
    expected = float((one_A[pair_P // len(others)] * other_B[pair_P % len(others)]).sum()) / total
    return total - expected >= max(_NEVER_SHARE * total, BROKEN_ROWS * (often > 1))


def learn_lookup(table: TableValues, sources: tuple[str, ...], target: str) -> tuple[Lookup, npt.NDArray[np.bool_]]:
    """Learn a function from rows, with the most frequent value where they differ; and the rows that differ from it."""
    key_N, keys = row_combinations(table, sources)
    target_N, values = table.codes(target)
    pair_P, count_P = np.unique(key_N * max(1, len(values)) + target_N, return_counts=True)
    order_P = np.argsort(count_P, kind="stable")  # the most frequent value of a key is written last
    best_K = np.zeros(len(keys), dtype=np.int64)
    best_K[pair_P[order_P] // max(1, len(values))] = pair_P[order_P] % max(1, len(values))
    rows = tuple((*key, _cell(values[int(best)])) for key, best in zip(keys, best_K, strict=True))
    return Lookup(column=target, sources=sources, rows=rows), best_K[key_N] != target_N


def learn_combinations(table: TableValues, columns: tuple[str, ...]) -> Combinations:
    """Learn the combinations of some columns."""
    return Combinations(columns=columns, rows=tuple(row_combinations(table, columns)[1]))


def broken_by(relation: Lookup | Combinations, table: TableValues) -> npt.NDArray[np.bool_]:
    """Return (N,) booleans, True for rows that break a relation; of a function, a value that it has is not broken by
    rows of values that it has not seen.
    """
    columns = (*relation.sources, relation.column) if isinstance(relation, Lookup) else relation.columns
    rows = frozenset(relation.rows)
    known = frozenset(row[:-1] for row in rows) if isinstance(relation, Lookup) else None
    key_N, keys = row_combinations(table, columns)
    broken_K = [key not in rows and (known is None or key[:-1] in known) for key in keys]
    broken_N: npt.NDArray[np.bool_] = np.array(broken_K, dtype=np.bool_)[key_N] if len(keys) else np.zeros(0, np.bool_)
    return broken_N


def row_combinations(table: TableValues, columns: Sequence[str]) -> tuple[IntArray, list[tuple[Cell, ...]]]:
    """Return the place of every row's combination of values among the distinct ones (N,), and these."""
    parts = [table.codes(name) for name in columns]
    mixed_N = parts[0][0]
    for codes_N, values in parts[1:]:
        mixed_N = np.unique(mixed_N, return_inverse=True)[1].reshape(-1) * max(1, len(values)) + codes_N
    _, first_K, place_N = np.unique(mixed_N, return_index=True, return_inverse=True)
    rows: list[tuple[Cell, ...]] = [
        tuple(_cell(values[int(codes_N[row])]) for codes_N, values in parts) for row in first_K
    ]
    return place_N.reshape(-1), rows


def _cell(value: Any) -> Cell:
    cell: Cell = value
    return cell


def _most(search: Search) -> int:
    return min(_MOST_ENTRIES, len(search.train) // _ROWS_PER_ENTRY)


def _size(search: Search, name: str) -> int:
    """Return how many values a column has that another may follow from; 0 where they are no closed list."""
    each: Field = search.schema.field(name)
    match each:
        case CategoricalField(values=values):
            return len(values) + each.nullable
        case BooleanField():
            return 2 + each.nullable
        case IntegerField(distinct=distinct):
            return distinct + each.nullable
        case _:
            return 0
