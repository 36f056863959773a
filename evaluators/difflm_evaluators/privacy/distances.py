"""Distances of synthetic rows to the training rows, beside those of unseen real rows.

- DCR: distance of each row to the closest training record (`mixed_rows` defines the distance; paper, Eq. 15).
- DCR share: of the rows, the share that is closer to the training records than to an equally large holdout (the test
  split), ties counting one half; the larger of the two sides is subsampled with a fixed seed. 0.5 is ideal, well above
  it means memorised rows.
- NNDR: distance to the nearest training record over distance to the second nearest, averaged; 1 where both are 0.

All rows given are looked up, exactly (`neighbours`); who has too many gives a sample. Streaming keeps the distances as
counts (`value_counts`), votes as counts, and ratios as a running mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.columns import Columns, IntArray
from difflm_evaluators.columns.mixed_rows import Float32Array, MixedRows, MixedSpace
from difflm_evaluators.columns.moments import RunningMean
from difflm_evaluators.columns.streaming import NO_ROWS, fingerprint, require_same
from difflm_evaluators.columns.value_counts import ValueCounts
from difflm_evaluators.privacy.neighbours import NearestRows

TIE = 1e-5  # float32 sums of equal distances differ by less
HISTOGRAM_BINS = 40
NEAR_SHARE = 0.01  # of the real test rows lie so near to a training row that it counts as near
ONLY_TEXT = "every column is free text, which has no distance here"
NO_HOLDOUT = "there is no holdout: the test split is missing or empty"
ONE_ROW = "the training split has a single row, so there is no second nearest one"

ABOUT: Mapping[str, tuple[str, str]] = {
    "dcr_median": (
        "Distance to the closest record",
        "Median distance from a synthetic row to the nearest training row; about that of unseen real rows is good.",
    ),
    "dcr_share": (
        "DCR share",
        "Share of synthetic rows nearer to training rows than to unseen real rows; 0.5 means nothing was memorised.",
    ),
    "nndr": (
        "Nearest-neighbour distance ratio",
        "Nearest over second nearest training distance; far below that of unseen rows means near-copies.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRows:
    """The real rows of one space as indexes: all of train, and equally many of train and of the holdout."""

    space: MixedSpace
    train: NearestRows
    equal: tuple[NearestRows, NearestRows] | None


@dataclass(slots=True, kw_only=True)
class Found:
    """What was found about the rows of one table."""

    nearest: ValueCounts = field(default_factory=ValueCounts.empty)
    ratios: RunningMean = field(default_factory=RunningMean)
    votes: IntArray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    """Rows closer to the holdout, equally close, closer to train."""

    def update(self, rows: MixedRows, real: RealRows) -> None:
        """Look up rows."""
        if len(rows) == 0:
            return
        found_NK = real.train.search(rows, 2)
        self.nearest.update(found_NK[:, 0])
        if found_NK.shape[1] == 2:
            self.ratios.update(distance_ratios(found_NK))
        if real.equal is not None:
            to_train_N, to_holdout_N = (index.search(rows, 1)[:, 0] for index in real.equal)
            difference_N = to_holdout_N - to_train_N
            vote_N = np.where(np.abs(difference_N) <= TIE, 1, np.where(difference_N > 0, 2, 0))
            self.votes += np.bincount(vote_N, minlength=3)

    def merge(self, other: "Found") -> None:
        """Take over what `other` has found."""
        self.nearest.merge(other.nearest)
        self.ratios.merge(other.ratios)
        self.votes += other.votes


def distance_ratios(found_N2: Float32Array) -> npt.NDArray[np.float64]:
    """Nearest over second nearest distance, 1 where both are 0 (two equal training rows are equally near)."""
    first_N, second_N = found_N2[:, 0].astype(np.float64), found_N2[:, 1].astype(np.float64)
    return np.divide(first_N, second_N, out=np.ones_like(first_N), where=second_N > 0)


class StreamingDistances:
    """DCR, DCR share and NNDR of batches; the index takes memory proportional to the training rows."""

    def __init__(self, real: "RealDistances") -> None:
        self._real = real
        self._found = Found()
        self._rows = 0

    @classmethod
    def fit(
        cls, train: Columns, test: Columns | None, *, seed: int, threads: int, max_test_rows: int
    ) -> "StreamingDistances":
        """Index the real rows and look up the test split, or a sample of `max_test_rows` of it drawn with `seed`."""
        real = RealDistances(train, test, seed=seed, threads=threads, max_test_rows=max_test_rows)
        return cls(real)

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._rows

    def fresh(self) -> "StreamingDistances":
        """Make the same evaluator without the rows seen."""
        return StreamingDistances(self._real)

    def update(self, batch: Columns) -> None:
        """Look up a batch."""
        self._rows += len(next(iter(batch.values())))
        if self._real.has_distance:
            self._real.look_up(batch, self._found)

    def merge(self, other: "StreamingDistances") -> None:
        """Take over what `other` has found."""
        require_same("distances", self._real.fitted_to, other._real.fitted_to)
        self._found.merge(other._found)
        self._rows += other._rows

    def result(self) -> Evaluation:
        """Score the distances of the rows seen, beside the real test split's own."""
        reason = NO_ROWS if self._rows == 0 else ONLY_TEXT
        if self._rows == 0 or not self._real.has_distance:
            return Evaluation(name="distances", scores=tuple(_undefined(name, reason) for name in ABOUT))
        test = self._real.test
        scores = (
            _median_score(self._found, test),
            self._share_score(),
            _ratio_score(self._found, test),
        )
        details: dict[str, JSON] = {
            "queried_synthetic": self._rows,
            "queried_test": test.nearest.total if test is not None else 0,
            "dcr": _dcr_details(self._found.nearest, test.nearest if test is not None else None),
        }
        return Evaluation(name="distances", scores=scores, details=details)

    def _share_score(self) -> Score:
        """Share of rows closer to train than to an equally large holdout, with the sample's standard error."""
        if self._real.test is None:
            return _undefined("dcr_share", NO_HOLDOUT)
        farther, tied, closer = self._found.votes.tolist()
        rows = farther + tied + closer
        mean = (closer + tied / 2) / rows
        squares = farther * mean**2 + tied * (0.5 - mean) ** 2 + closer * (1 - mean) ** 2
        title, meaning = ABOUT["dcr_share"]
        return Score(
            name="dcr_share",
            title=title,
            meaning=meaning,
            value=mean,
            direction="target",
            bounds=(0.0, 1.0),
            ideal=0.5,
            standard_error=float(np.sqrt(squares / (rows - 1) / rows)) if rows > 1 else None,
        )


class RealDistances:
    """The real tables that distances are measured to, and what was found about the real test split."""

    def __init__(self, train: Columns, test: Columns | None, *, seed: int, threads: int, max_test_rows: int) -> None:
        self._train = train
        self._test = test
        self._threads = threads
        rows, test_rows = (len(next(iter(table.values()))) if table is not None else 0 for table in (train, test))
        self.has_distance = any(column.kind != "text" for column in train.values())
        random = np.random.default_rng(seed)
        self._sample = _positions(test_rows, max_test_rows, random)
        size = min(rows, len(self._sample))
        self._equal = (_positions(rows, size, random), self._sample[_positions(len(self._sample), size, random)])
        self.fitted_to = fingerprint(str((seed, rows, test_rows, size)))
        self.test: Found | None = None
        self._spaces: dict[bool, RealRows] = {}
        if not self.has_distance:
            return
        plain = self._space(missing=False)
        self.fitted_to = fingerprint(self.fitted_to, plain.train.reference.numbers, plain.train.reference.codes_NC)
        if test is not None:
            self.test = Found()
            self.test.update(plain.space.rows(test).take(self._sample), plain)

    def look_up(self, batch: Columns, found: Found) -> None:
        """Search the rows of a batch; those that lack a number no real row lacks, in a space with a place for it."""
        unforeseen_N = self._space(missing=False).space.unforeseen_N(batch)
        for missing, rows in ((False, np.flatnonzero(~unforeseen_N)), (True, np.flatnonzero(unforeseen_N))):
            if len(rows):
                real = self._space(missing=missing)
                found.update(real.space.rows(batch).take(rows), real)

    def _space(self, *, missing: bool) -> RealRows:
        """Return the indexes, made when they are first needed."""
        if missing not in self._spaces:
            tables = [self._train] if self._test is None else [self._train, self._test]
            space = MixedSpace.fit(self._train, tables, missing=missing)
            train, *rest = (space.rows(table) for table in tables)
            equal = None
            if rest:
                parts = (train.take(self._equal[0]), rest[0].take(self._equal[1]))
                equal = (NearestRows(parts[0], threads=self._threads), NearestRows(parts[1], threads=self._threads))
            index = NearestRows(train, threads=self._threads)
            self._spaces[missing] = RealRows(space=space, train=index, equal=equal)
        return self._spaces[missing]


def _positions(rows: int, most: int, random: np.random.Generator) -> IntArray:
    """Take all positions below `rows`, or draw `most` of them without replacement; ascending."""
    return np.arange(rows) if rows <= most else np.sort(random.choice(rows, size=most, replace=False))


def _undefined(name: str, reason: str) -> Score:
    title, meaning = ABOUT[name]
    return Score(name=name, title=title, meaning=meaning, value=None, undefined_because=reason, direction="target")


def _median_score(found: Found, test: Found | None) -> Score:
    title, meaning = ABOUT["dcr_median"]
    baseline = test.nearest.quantile(0.5) if test is not None else None
    return Score(
        name="dcr_median",
        title=title,
        meaning=meaning,
        value=found.nearest.quantile(0.5),
        direction="target",
        bounds=(0.0, None),
        ideal=baseline,
        baseline=baseline,
        baseline_label=TEST_LABEL if baseline is not None else None,
    )


def _ratio_score(found: Found, test: Found | None) -> Score:
    if found.ratios.count == 0:
        return _undefined("nndr", ONE_ROW)
    title, meaning = ABOUT["nndr"]
    baseline = test.ratios.mean if test is not None else None
    return Score(
        name="nndr",
        title=title,
        meaning=meaning,
        value=found.ratios.mean,
        direction="target",
        bounds=(0.0, 1.0),
        ideal=baseline,
        standard_error=found.ratios.standard_error,
        baseline=baseline,
        baseline_label=TEST_LABEL if baseline is not None else None,
    )


def _dcr_details(nearest: ValueCounts, test: ValueCounts | None) -> dict[str, JSON]:
    """Quantiles and histograms on common bins, cut at the 99th percentile of both tables."""
    both = ValueCounts.empty()
    both.merge(nearest)
    if test is not None:
        both.merge(test)
    top = both.quantile(0.99)
    edges = np.linspace(0.0, top if top > 0 else 1.0, HISTOGRAM_BINS + 1)
    details: dict[str, JSON] = {"edges": edges.tolist(), "synthetic": list[JSON](nearest.shares(edges))}
    details["quantiles_synthetic"] = _quantiles(nearest)
    details["relative_error"] = nearest.relative_error
    if test is not None:
        details["test"] = list[JSON](test.shares(edges))
        details["quantiles_test"] = _quantiles(test)
        limit = test.quantile(NEAR_SHARE)
        shares: dict[str, JSON] = {"synthetic": nearest.share_within(limit), "test": test.share_within(limit)}
        details["near"] = {"limit": limit, **shares}
    return details


def _quantiles(nearest: ValueCounts) -> dict[str, JSON]:
    return {f"{100 * q:g}%": nearest.quantile(q) for q in (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)}
