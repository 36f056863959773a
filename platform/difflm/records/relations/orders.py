"""Orders: which numbers and dates are never above which others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from difflm.records.relations.expressions import quoted
from difflm.records.relations.search import BROKEN_ROWS, BROKEN_SHARE, Search, numeric_columns
from difflm.records.relations.values import kind_of

Pair: TypeAlias = tuple[str, str]
_FIRST_ROWS: Final = 256
_SHUFFLED_ROWS: Final = 1_000
_ROUNDS: Final = 20


def find_orders(search: Search) -> None:
    """Find pairs of columns whose first is never above the second; those that follow from two others are left out."""
    names = numeric_columns(search)
    candidates = _candidates(search, names)
    verified, refuted = set[Pair](), set[Pair]()
    for _ in range(_ROUNDS):  # a pair may be needed again once one that it followed from is refuted
        wanted = _reduced(candidates - refuted) - verified
        if not wanted:
            break
        for pair in sorted(wanted, key=lambda pair: (names.index(pair[0]), names.index(pair[1]))):
            (verified if _accepted(search, *pair) else refuted).add(pair)


def _candidates(search: Search, names: list[str]) -> set[Pair]:
    columns_TN = [search.sample.numbers(name) for name in names]
    if len(names) < 2:
        return set()
    first_NT = np.stack([column[:_FIRST_ROWS] for column in columns_TN], axis=1)
    with np.errstate(invalid="ignore"):
        above_TT = (first_NT[:, :, None] > first_NT[:, None, :]).any(axis=0)
    kinds = [kind_of(search.schema.field(name)) for name in names]
    found = set[Pair]()
    for one, other in zip(*np.nonzero(~above_TT), strict=True):
        if one == other or kinds[one] != kinds[other]:
            continue
        left_N, right_N = columns_TN[one], columns_TN[other]
        if bool((left_N > right_N).any()):
            continue
        both_N = ~np.isnan(left_N) & ~np.isnan(right_N)
        scale = len(search.train) / max(1, len(search.sample))
        share = _shuffled_share(left_N[both_N], right_N[both_N])
        if share >= BROKEN_SHARE and share * both_N.sum() * scale >= BROKEN_ROWS:
            found.add((names[one], names[other]))
    return found


def _shuffled_share(left_N: npt.NDArray[np.float64], right_N: npt.NDArray[np.float64]) -> float:
    """Return the share of rows that would break `left <= right` if the columns had nothing to do with each other."""
    if not len(left_N):
        return 0.0
    some = slice(None, None, 1 + len(left_N) // _SHUFFLED_ROWS)
    left_N, right_N = left_N[some], right_N[some]
    below_N = np.searchsorted(np.sort(right_N), left_N, side="left")
    return float(below_N.mean() / len(right_N))


def _reduced(pairs: set[Pair]) -> set[Pair]:
    """Leave out the pairs that follow from two others."""
    above: dict[str, set[str]] = {}
    for one, other in pairs:
        above.setdefault(one, set()).add(other)
    return {pair for pair in pairs if not _follows(pair, above)}


def _follows(pair: Pair, above: Mapping[str, set[str]]) -> bool:
    one, other = pair
    return any(
        other in above.get(between, ()) and one not in above.get(between, ())
        for between in above[one]
        if between != other and between not in above.get(other, ())
    )


def _accepted(search: Search, one: str, other: str) -> bool:
    never_equal = not any(
        bool((table.numbers(one) == table.numbers(other)).any()) for table in (search.train, search.validation)
    )
    return search.accept_rule(f"{quoted(one)} {'<' if never_equal else '<='} {quoted(other)}")
