"""Values and pairs of values that few training rows have, and how many of those in synthetic rows are handed out.

A table without a single copied row may still be put together from single people's values: trees and nearest neighbours
hand out real cells. A cell is *rare* when fewer than `RARE_BELOW` training rows have its value, none included, and
*handed out* when one of them has it. The score is the share of the rare cells that are handed out; for pairs of columns
alike, over the rows where both values are present. Real test rows have rare values by chance as well: their share
stands beside it. Numbers are compared as printed, texts whole; a missing cell is no value.

Standard errors are those of a ratio over rows (Cochran 1977, section 2.11), as cells of one row go together. Of more
than `MAX_PAIRS` pairs so many are drawn with a seed. Shapes: N rows, V values of a column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.columns import Columns, IntArray, row_count
from difflm_evaluators.columns.row_keys import known_column, places

RARE_BELOW = 8
MAX_PAIRS = 500

ABOUT: Mapping[str, tuple[str, str]] = {
    "rare_cell_share": (
        "Rare values handed out",
        f"Of the synthetic cells whose value fewer than {RARE_BELOW} training rows have, the share that one of them "
        "has; far above that of unseen real rows means that single rows' values are handed out.",
    ),
    "rare_pair_share": (
        "Rare pairs handed out",
        f"The same of the values of two columns together that fewer than {RARE_BELOW} training rows have.",
    ),
}


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many rare cells (or pairs) each row of a table has, and how many of them training rows have."""

    rare_N: IntArray
    handed_out_N: IntArray
    seen: int = 0

    @classmethod
    def of(cls, rows: int) -> "Tally":
        """Count nothing yet."""
        return cls(rare_N=np.zeros(rows, dtype=np.int64), handed_out_N=np.zeros(rows, dtype=np.int64))

    def add(self, frequency_N: IntArray) -> "Tally":
        """Add a cell of every row: how many training rows have its value, -1 where it is missing."""
        present_N, rare_N = frequency_N >= 0, (frequency_N >= 0) & (frequency_N < RARE_BELOW)
        self.seen += int(present_N.sum())
        self.rare_N += rare_N
        self.handed_out_N += rare_N & (frequency_N > 0)
        return self

    @property
    def share(self) -> float | None:
        """Percent of the rare ones that are handed out; None without any."""
        rare = int(self.rare_N.sum())
        return 100 * int(self.handed_out_N.sum()) / rare if rare else None

    @property
    def standard_error(self) -> float | None:
        """In percent; None with fewer than two rows."""
        rows, rare = len(self.rare_N), int(self.rare_N.sum())
        if rows < 2 or rare == 0:
            return None
        left_N = self.handed_out_N - self.handed_out_N.sum() / rare * self.rare_N
        return float(100 * np.sqrt(rows / (rows - 1) * (left_N**2).sum()) / rare)

    def to_json(self) -> dict[str, JSON]:
        """Return the counts."""
        return {"seen": self.seen, "rare": int(self.rare_N.sum()), "handed_out": int(self.handed_out_N.sum())}


@dataclass(slots=True, kw_only=True)
class _Table:
    """One table that is looked at: the numbers of its values, -1 for none of training, and what was counted."""

    codes: Mapping[str, IntArray]
    cells: Tally
    pairs: Tally
    columns: dict[str, JSON] = field(default_factory=dict)


def evaluate_rare_values(
    synthetic: Columns, train: Columns, test: Columns | None, schema: RecordSchema, *, seed: int
) -> Evaluation:
    """Score the rare cells and pairs of the synthetic rows, beside those of the real test split."""
    known = {name: known_column(train[name], schema) for name in schema.names}
    missing = {name: column.size - 1 for name, column in known.items()}
    real = {name: column.code(train[name], schema) for name, column in known.items()}
    tables = {
        role: _Table(
            codes={name: column.code(table[name], schema) for name, column in known.items()},
            cells=Tally.of(row_count(table)),
            pairs=Tally.of(row_count(table)),
        )
        for role, table in (("synthetic", synthetic), ("test", test))
        if table is not None
    }
    for name in schema.names:
        counts_V = np.bincount(real[name], minlength=missing[name] + 1)
        for table in tables.values():
            codes_N = table.codes[name]
            frequency_N = np.where(codes_N < 0, 0, counts_V[codes_N])
            frequency_N[codes_N == missing[name]] = -1
            table.cells.add(frequency_N)
            table.columns[name] = Tally.of(len(codes_N)).add(frequency_N).to_json()
    for pair in _drawn(list(combinations(schema.names, 2)), seed):
        sizes = tuple(missing[name] + 1 for name in pair)
        keys_K, counts_K = np.unique(_keys(real, pair, missing, sizes), return_counts=True)
        for table in tables.values():
            keys_N = _keys(table.codes, pair, missing, sizes)
            place_N = places(keys_K, keys_N)
            frequency_N = np.where(place_N < 0, 0, counts_K[place_N])
            table.pairs.add(np.where(keys_N == _ABSENT, -1, frequency_N))
    return _evaluation(tables)


_ABSENT, _NOVEL = -2, -1  # keys of pairs with a missing cell, and with a value that training lacks


def _keys(
    codes: Mapping[str, IntArray], pair: tuple[str, str], missing: Mapping[str, int], sizes: tuple[int, ...]
) -> IntArray:
    """Give every row, (N,), a number for its values of two columns together."""
    first_N, second_N = (codes[name] for name in pair)
    keys_N = np.where((first_N < 0) | (second_N < 0), _NOVEL, first_N * sizes[1] + second_N)
    absent_N = (first_N == missing[pair[0]]) | (second_N == missing[pair[1]])
    return np.where(absent_N, _ABSENT, keys_N)


def _drawn(pairs: Sequence[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    if len(pairs) <= MAX_PAIRS:
        return list(pairs)
    chosen = np.random.default_rng((seed, 2)).choice(len(pairs), size=MAX_PAIRS, replace=False)
    return [pairs[place] for place in sorted(chosen.tolist())]


def _evaluation(tables: Mapping[str, _Table]) -> Evaluation:
    synthetic, test = tables["synthetic"], tables.get("test")
    scores = (
        _score("rare_cell_share", synthetic.cells, test.cells if test else None, "cell"),
        _score("rare_pair_share", synthetic.pairs, test.pairs if test else None, "pair of cells"),
    )
    counts: dict[str, JSON] = {"below": RARE_BELOW}
    for role, table in tables.items():
        counts[role] = {"cells": table.cells.to_json(), "pairs": table.pairs.to_json(), "columns": table.columns}
    return Evaluation(name="rare values", scores=scores, details={"rare": counts})


def _score(name: str, found: Tally, test: Tally | None, what: str) -> Score:
    title, meaning = ABOUT[name]
    baseline = test.share if test is not None else None
    return Score(
        name=name,
        title=title,
        meaning=meaning,
        value=found.share,
        undefined_because=None if found.share is not None else f"no synthetic row has a rare {what}",
        unit="%",
        direction="lower",
        bounds=(0.0, 100.0),
        standard_error=found.standard_error,
        baseline=baseline,
        baseline_label=TEST_LABEL if baseline is not None else None,
    )
