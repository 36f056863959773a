"""What the detector sees of a table, and what is left of that once relations between columns are shuffled away.

    dependency part = C2ST - C2ST after every column of *both* tables was shuffled by itself
    cross part      = C2ST - C2ST after the numbers of both tables, as one block, were shuffled against the categories

(the split of arXiv 2607.21636). Shuffled columns keep their own distributions, so what the detector then still finds
are single columns; shuffled blocks keep the relations among numbers and among categories, so what it no longer finds
are relations between the two. Both parts are differences of two estimates: near 0 they may be negative.

Which columns it used is the gain of its splits. Which pairs: the gain of splits on one column right below a split on
the other, less the same in the shuffled tables, where there is nothing to be found in pairs.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from difflm_evaluators.columns.columns import Columns, draw_rows, row_count, take_rows
from difflm_evaluators.columns.contingency import Pair
from difflm_evaluators.columns.features import FeatureEncoder
from difflm_evaluators.scores.boosting import Setup
from difflm_evaluators.scores.detection import DEPTH, TREES, Detection, DetectionConfig, detect, rows_each

NO_COLUMNS = "every column is free text, of which the trees see nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number with its standard error."""

    value: float
    standard_error: float

    def less(self, other: Measured | None) -> Measured | None:
        """Subtract another number, as if both were independent; None from None."""
        if other is None:
            return None
        error = math.hypot(self.standard_error, other.standard_error)
        return Measured(value=self.value - other.value, standard_error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """A pair of columns that the detector used together, and its share of what it gained by pairs."""

    first: str
    second: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorParts:
    """C2ST (ROC-AUC) over `rows` of each table: of the tables, with shuffled columns, and with shuffled blocks.

    Without two columns that vary there is nothing to shuffle, without numbers and categories no blocks: then None.
    `gain_shares` has every column the trees see, the most used first; `interactions` have the most used pairs.
    """

    rows: int
    whole: Measured
    columns: Measured | None
    blocks: Measured | None
    gain_shares: Mapping[str, float]
    interactions: tuple[Interaction, ...]

    @property
    def dependency(self) -> Measured | None:
        """What relations between columns give away."""
        return self.whole.less(self.columns)

    @property
    def cross(self) -> Measured | None:
        """What relations between numbers and categories give away."""
        return self.whole.less(self.blocks)


def shuffled_columns(table: Columns, random: np.random.Generator) -> Columns:
    """Shuffle every column by itself."""
    return shuffled_blocks(table, [[name] for name in table], random)


def shuffled_blocks(table: Columns, blocks: Sequence[Sequence[str]], random: np.random.Generator) -> Columns:
    """Shuffle the rows of every block of columns by themselves; columns in no block stay as they are."""
    shuffled = dict(table)
    for names in blocks:
        order_N = random.permutation(row_count(table)).astype(np.int64)
        shuffled |= take_rows({name: table[name] for name in names}, order_N)
    return shuffled


def detector_parts(
    table: Columns, reference: Columns, encoder: FeatureEncoder, config: DetectionConfig
) -> DetectorParts | str:
    """Compute the parts of C2ST of a table against reference rows; a text says why there are none."""
    if not encoder.feature_types:
        return NO_COLUMNS
    rows = rows_each(table, reference, encoder, config)
    if rows < 2 * config.folds:
        return f"{rows} rows of each table are too few for {config.folds} folds of two; it takes {2 * config.folds}"
    random, seed = np.random.default_rng(config.seeds[0]), config.seeds[0]
    sides = [draw_rows(side, rows, random) for side in (table, reference)]
    numbers, categories = _varying(encoder, sides)
    found = detect(sides[0], sides[1], encoder, rows, config)
    columns, blocks, gains = None, None, _pair_gains(sides, encoder, seed)
    if len(numbers) + len(categories) > 1:
        alone = [shuffled_columns(side, random) for side in sides]
        columns = _auc(detect(alone[0], alone[1], encoder, rows, config))
        nothing = _pair_gains(alone, encoder, seed)
        gains = {pair: gain - nothing.get(pair, 0.0) for pair, gain in gains.items()}
    if numbers and categories:
        apart = [shuffled_blocks(side, [numbers], random) for side in sides]
        blocks = _auc(detect(apart[0], apart[1], encoder, rows, config))
    return DetectorParts(
        rows=rows,
        whole=_auc(found),
        columns=columns,
        blocks=blocks,
        gain_shares=found.gain_shares(encoder.sources),
        interactions=_shares(gains),
    )


def _auc(found: Detection) -> Measured:
    value, error = found.mean("auc")
    return Measured(value=value, standard_error=error)


def _varying(encoder: FeatureEncoder, sides: Sequence[Columns]) -> tuple[list[str], list[str]]:
    """List the numbers, and the categories, that are not the same in all rows of both tables."""

    def values(name: str) -> int:
        seen: set[object] = set()
        for side in sides:
            column = side[name]
            seen.update(set(column.labels_N) if column.kind == "category" else np.unique(column.numbers_N).tolist())
        return len(seen)

    numbers = [name for name in encoder.numeric if values(name) > 1]
    return numbers, [name for name in encoder.categories if values(name) > 1]


def _pair_gains(sides: Sequence[Columns], encoder: FeatureEncoder, seed: int) -> dict[Pair, float]:
    """Add up, by pair of columns, the gain of splits on one right below a split on the other, fitted to all rows."""
    import xgboost as xgb  # slow to import

    setup = Setup(task="classification", classes=2, feature_types=encoder.feature_types)
    parts = [encoder.matrix(side) for side in sides]
    target_N = np.repeat([1.0, 0.0], [len(part) for part in parts])
    data = xgb.QuantileDMatrix(np.concatenate(parts), target_N, **setup.data_options())
    parameters = setup.parameters(depth=DEPTH, weight=1, gamma=0, seed=seed)
    booster = xgb.train(parameters, data, num_boost_round=TREES)
    gains: dict[Pair, float] = defaultdict(float)
    for tree in booster.get_dump(with_stats=True, dump_format="json"):
        below = [(json.loads(tree), "")]
        while below:
            node, above = below.pop()
            if "split" not in node:
                continue
            name = encoder.sources[int(node["split"].removeprefix("f"))]
            if above not in ("", name):
                gains[(min(above, name), max(above, name))] += node["gain"]
            below += [(child, name) for child in node["children"]]
    return gains


MOST_PAIRS = 20


def _shares(gains: Mapping[Pair, float]) -> tuple[Interaction, ...]:
    positive = {pair: gain for pair, gain in gains.items() if gain > 0}
    total = sum(positive.values())
    most = sorted(positive.items(), key=lambda item: -item[1])[:MOST_PAIRS]
    return tuple(Interaction(first=pair[0], second=pair[1], share=gain / total) for pair, gain in most)
