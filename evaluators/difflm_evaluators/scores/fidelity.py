"""alpha-precision and beta-recall: are synthetic rows typical of real ones, and do they cover them.

Alaa et al. 2022 (arXiv 2102.08921), in the variant for tables that the synthcity library computes without a learned
embedding and TabSyn reports: rows are points of `embedding`, distances Euclidean, and both tables have N rows. For 30
levels a_k from 0 to 1:

- P(a): share of synthetic rows no further from the mean of the real rows than the a-quantile of the real rows are.
- R(a): share of real rows x_i with a synthetic row nearby, d(x_i, s_i) <= d(x_i, nearest other real row), where s_i,
  the synthetic row nearest to x_i, is no further from the mean of the synthetic rows than the a-quantile of s_1 .. s_N
  are. (The paper takes that quantile over all synthetic rows; the libraries over the s_i, and so does this file.)

score = 100 * (1 - sum_k |a_k - P(a_k)| / sum_k a_k), likewise with R. For synthetic rows like real ones P(a) = a, so
that alpha-precision is 100; but a real row's nearest neighbour among as many rows of the same distribution is as likely
real as synthetic, so that R(a) = a / 2 and beta-recall is about 50. Above that lie copies and densities that are too
high; read it beside the real test split's.

The tables are cut into disjoint parts with a seed. Scores are means over parts, with the standard error of that mean;
below 1,000 rows a part there is one part of all rows, and no standard error. Noise alone keeps P off the diagonal: two
tables of N rows from one distribution reach an alpha-precision of about 100 - 89 / sqrt(N) (Brownian bridges), so
compare those of like N; `rows_each` and `rows_each_baseline` give it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.columns import MAX_CELLS, Columns, FloatArray, IntArray, row_count, take_rows
from difflm_evaluators.columns.features import Embedding

LEVELS_K = np.linspace(0.0, 1.0, 30)
SMALLEST_PART = 1_000


class FidelityConfig(BaseModel):
    """`parts` disjoint samples of at most `max_rows` rows of each table, drawn with `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: NonNegativeInt = 0
    parts: PositiveInt = 3
    max_rows: Annotated[int, Field(ge=2)] = 10_000
    threads: PositiveInt = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """P and R of one part at the levels `LEVELS_K`, shares in [0, 1]; `rows` of each table were compared."""

    rows: int
    precision_K: FloatArray
    recall_K: FloatArray

    def to_json(self) -> dict[str, JSON]:
        """Return both curves as lists."""
        return {"precision": self.precision_K.tolist(), "recall": self.recall_K.tolist()}


def support_curves(real_ND: FloatArray, synthetic_ND: FloatArray) -> Curves:
    """Compute P and R of equally many real and synthetic points, at least two."""
    centre_D, synthetic_centre_D = real_ND.mean(axis=0), synthetic_ND.mean(axis=0)
    radii_K = np.quantile(_lengths(real_ND - centre_D), LEVELS_K)
    precision_K = _shares_within(_lengths(synthetic_ND - centre_D), radii_K)
    to_real_N, _ = _nearest(real_ND, None)
    to_synthetic_N, nearest_N = _nearest(real_ND, synthetic_ND)
    outwards_N = _lengths(synthetic_ND[nearest_N] - synthetic_centre_D)
    radii_K = np.quantile(outwards_N, LEVELS_K)
    covered_N = to_synthetic_N <= to_real_N
    recall_K = _shares_within(outwards_N[covered_N], radii_K) * covered_N.mean()
    return Curves(rows=len(real_ND), precision_K=precision_K, recall_K=recall_K)


def closeness(curve_K: FloatArray) -> float:
    """Return 100 for a curve on the diagonal, 0 for the furthest that a rising one can be."""
    return 100 * max(0.0, 1 - float(np.abs(LEVELS_K - curve_K).sum() / LEVELS_K.sum()))


def _lengths(points_ND: FloatArray) -> FloatArray:
    lengths_N: FloatArray = np.sqrt(np.einsum("nd,nd->n", points_ND, points_ND))
    return lengths_N


def _shares_within(values_N: FloatArray, limits_K: FloatArray) -> FloatArray:
    if len(values_N) == 0:
        return np.zeros(len(limits_K))
    return np.searchsorted(np.sort(values_N), limits_K, side="right") / len(values_N)


def _nearest(queries_ND: FloatArray, points_ND: FloatArray | None) -> tuple[FloatArray, IntArray]:
    """Find distance and position of each query's nearest point; without points, of its nearest other query.

    Distances are taken anew from the neighbours found: brute force gets them from |x|^2 - 2 x.y + |y|^2, in which
    equal points are not at distance 0.
    """
    from sklearn.neighbors import NearestNeighbors  # slow to import

    search = NearestNeighbors(n_neighbors=1).fit(queries_ND if points_ND is None else points_ND)
    found_N = search.kneighbors(None if points_ND is None else queries_ND, return_distance=False)[:, 0]
    neighbours_ND = (queries_ND if points_ND is None else points_ND)[found_N]
    return _lengths(queries_ND - neighbours_ND), found_N


def evaluate_fidelity(synthetic: Columns, train: Columns, test: Columns | None, config: FidelityConfig) -> Evaluation:
    """Score alpha-precision and beta-recall against the training split, beside those of the test split."""
    embedding = Embedding.fit(train, [synthetic] if test is None else [synthetic, test])
    if embedding.width == 0:
        return _evaluation((), (), "every column is free text, which has no place in space here")
    if min(row_count(synthetic), row_count(train)) < 2:
        return _evaluation((), (), "one of the tables has a single row, which has no neighbour")
    found = _by_part(synthetic, train, embedding, config)
    baseline = _by_part(test, train, embedding, config) if test is not None and row_count(test) > 1 else ()
    return _evaluation(found, baseline, None)


def _by_part(table: Columns, train: Columns, embedding: Embedding, config: FidelityConfig) -> tuple[Curves, ...]:
    """Compute the curves of every part; parts have fewer rows where dimensions are too many for all points."""
    from threadpoolctl import threadpool_limits

    fewest = min(row_count(table), row_count(train))
    parts = config.parts if fewest >= config.parts * SMALLEST_PART else 1
    rows = min(config.max_rows, fewest // parts, max(2, MAX_CELLS // embedding.width))
    random = np.random.default_rng(config.seed)
    orders = [random.permutation(row_count(side))[: parts * rows] for side in (table, train)]
    result = []
    with threadpool_limits(limits=config.threads):
        for start in range(0, parts * rows, rows):
            taken = [
                take_rows(side, order_N[start : start + rows])
                for side, order_N in zip((table, train), orders, strict=True)
            ]
            # float64: what float32 makes of a distance would decide between equally near neighbours
            points_ND, train_ND = (embedding.points(side).astype(np.float64) for side in taken)
            result.append(support_curves(train_ND, points_ND))
    return tuple(result)


SCORES = {
    "alpha_precision": (
        "α-precision",
        "Whether synthetic rows are as typical as real ones: 100 if as many lie near the middle and as many far out.",
    ),
    "beta_recall": (
        "β-recall",
        "How well synthetic rows cover the real ones; unseen real rows reach about 50, copies of training rows 100.",
    ),
}


def _evaluation(found: Sequence[Curves], baseline: Sequence[Curves], reason: str | None) -> Evaluation:
    scores = []
    for name, (title, meaning) in SCORES.items():
        value, error = _mean(found, name)
        real, _ = _mean(baseline, name)
        scores.append(
            Score(
                name=name,
                title=title,
                meaning=meaning,
                value=value,
                unit="%",
                direction="higher" if name == "alpha_precision" else "target",
                bounds=(0.0, 100.0),
                ideal=100.0 if name == "alpha_precision" else real,
                standard_error=error,
                baseline=real,
                baseline_label=TEST_LABEL if real is not None else None,
                undefined_because=reason,
            )
        )
    details: dict[str, JSON] = {
        "rows_each": found[0].rows if found else 0,
        "rows_each_baseline": baseline[0].rows if baseline else 0,
        "levels": LEVELS_K.tolist(),
        "synthetic_parts": [part.to_json() for part in found],
        "real_parts": [part.to_json() for part in baseline],
    }
    return Evaluation(name="fidelity", scores=tuple(scores), details=details if found else {})


def _mean(parts: Sequence[Curves], name: str) -> tuple[float | None, float | None]:
    """Return the mean over parts and its standard error, None for want of a second part."""
    if not parts:
        return None, None
    values_P = [closeness(part.precision_K if name == "alpha_precision" else part.recall_K) for part in parts]
    error = float(np.std(values_P, ddof=1) / np.sqrt(len(values_P))) if len(values_P) > 1 else None
    return float(np.mean(values_P)), error
