"""Membership inference: can somebody with the synthetic rows tell who was in the training split.

The attack knows neither the generator nor other generators (no shadow models) and looks at distances alone (Chen et al.
2020, "GAN-Leaks", arXiv 1909.03935). A record x is called a member when its score is high:

- plain: -d(x, nearest synthetic row)
- calibrated: d(x, nearest reference row) - d(x, nearest synthetic row), which takes out that some records lie near
  everything. The reference is the real validation split, which the generator was not taught either.

Distances are those of `neighbours`. Members are training rows, non-members rows of the test split, both drawn with a
seed. Three numbers: the ROC-AUC of either score, with the 95 % confidence interval of DeLong (`roc`), and the share of
members found while one non-member in a hundred is falsely called one (Carlini et al. 2022, arXiv 2112.03570, on why an
average over all records is not enough). Beside them stands the same attack on a random half of the test split in the
place of the synthetic table, with the other half as non-members: rows that know nothing of the members, but of which
there are fewer.

Areas and points of a ROC curve with their uncertainty, for attacks that rank records.

The standard error of an area is DeLong's (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845): with the
share v_i of the negatives that positive i outranks (ties one half) and the share w_j of the positives that outrank
negative j, it is sqrt(var(v) / positives + var(w) / negatives). Shapes: P positives, N negatives.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.columns.columns import Columns, FloatArray, draw_rows, row_count, take_rows
from difflm_evaluators.columns.mixed_rows import MixedRows, mixed_rows
from difflm_evaluators.privacy.neighbours import nearest

NORMAL_95 = 1.959963984540054
"""Half the width of a 95 % confidence interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RocFigure:
    """A number with its standard error."""

    value: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of a share, cut to [0, 1]."""
        half = NORMAL_95 * self.standard_error
        return max(0.0, self.value - half), min(1.0, self.value + half)


def area(positive_P: FloatArray, negative_N: FloatArray) -> RocFigure:
    """Compute the area under the ROC curve, ties counting half, with DeLong's standard error; 2 or more a side."""
    from scipy.stats import rankdata  # slow to import

    positives, negatives = len(positive_P), len(negative_N)
    ranks = rankdata(np.concatenate([positive_P, negative_N]))
    above_P = (ranks[:positives] - rankdata(positive_P)) / negatives
    below_N = 1 - (ranks[positives:] - rankdata(negative_N)) / positives
    variance = above_P.var(ddof=1) / positives + below_N.var(ddof=1) / negatives
    return RocFigure(value=float(above_P.mean()), standard_error=float(np.sqrt(variance)))


def curve_points(positive_P: FloatArray, negative_N: FloatArray, points: int = 51) -> list[list[float]]:
    """Compute [false positive rate, true positive rate] at evenly spaced false positive rates from 0 to 1."""
    from sklearn.metrics import roc_curve  # slow to import

    is_positive = np.repeat([1, 0], [len(positive_P), len(negative_N)])
    false_rates, true_rates, _ = roc_curve(is_positive, np.concatenate([positive_P, negative_N]))
    at = np.linspace(0.0, 1.0, points)
    return [[float(x), float(y)] for x, y in zip(at, np.interp(at, false_rates, true_rates), strict=True)]


def true_positive_rate(positive_P: FloatArray, negative_N: FloatArray, false_positive_rate: float) -> RocFigure:
    """Share of positives ranked above the `false_positive_rate` highest negatives.

    Between two points of the curve one threshold is drawn at random, so that a ranking of ties alone gives
    `false_positive_rate`. The standard error takes both the positives' noise and that of the threshold, which moves
    along the curve with its slope between half and twice the rate.
    """
    from sklearn.metrics import roc_curve  # slow to import

    is_positive = np.repeat([1, 0], [len(positive_P), len(negative_N)])
    false_rates, true_rates, _ = roc_curve(is_positive, np.concatenate([positive_P, negative_N]))
    # of several points at one false positive rate the last is the highest
    last = np.append(np.diff(false_rates) > 0, True)
    around = false_positive_rate * np.array([0.5, 1.0, 2.0])
    before, value, after = np.interp(around, false_rates[last], true_rates[last]).tolist()
    slope = (after - before) / (around[2] - around[0])
    threshold = false_positive_rate * (1 - false_positive_rate) / len(negative_N)
    variance = value * (1 - value) / len(positive_P) + slope**2 * threshold
    return RocFigure(value=value, standard_error=float(np.sqrt(variance)))


FALSE_POSITIVE_RATE = 0.01
FEWEST_FOR_RATE = 100
FEWEST = 10
DECIMALS = 5
LEAK = 0.05
"""An area that is surely this much above both 0.5 and the test split's own is warned of."""


class MembershipConfig(BaseModel):
    """At most `max_queries` members and non-members are attacked with at most `max_rows` rows, drawn with `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: NonNegativeInt = 0
    max_queries: Annotated[int, Field(ge=FEWEST)] = 10_000
    max_rows: PositiveInt = 50_000
    threads: PositiveInt = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What an attack found; `rate` is None for want of non-members, `calibrated` for want of a reference."""

    plain: RocFigure
    calibrated: RocFigure | None
    rate: RocFigure | None
    points: list[list[float]]
    """[false positive rate, true positive rate] of the plain attack."""


def evaluate_membership(
    synthetic: Columns, train: Columns, test: Columns | None, validation: Columns | None, config: MembershipConfig
) -> Evaluation:
    """Score the attack on the synthetic table, beside that on half the test split; undefined without non-members."""
    if test is None:
        return _evaluation("there are no non-members: the test split is missing or empty")
    if min(row_count(train), row_count(test)) < FEWEST:
        return _evaluation(f"the training or the test split has fewer than {FEWEST} rows")
    random = np.random.default_rng(config.seed)
    released, unreleased = (
        take_rows(test, half_N) for half_N in np.array_split(random.permutation(row_count(test)), 2)
    )
    tables = {"members": train, "outsiders": test, "synthetic": synthetic, "released": released, "rest": unreleased}
    if validation is not None:
        tables["reference"] = validation
    queries = ("members", "outsiders", "rest")
    most = {name: config.max_queries if name in queries else config.max_rows for name in tables}
    drawn = [draw_rows(table, most[name], random) for name, table in tables.items()]
    rows = dict(zip(tables, mixed_rows(train, drawn)[1:], strict=True))
    if rows["members"].width == 0:
        return _evaluation("every column is free text, which has no distance here")
    reference, threads = rows.get("reference"), config.threads
    found = attack(rows["synthetic"], rows["members"], rows["outsiders"], reference, threads=threads)
    baseline = attack(rows["released"], rows["members"], rows["rest"], reference, threads=threads)
    counts: dict[str, JSON] = {f"rows_{name}": len(part) for name, part in rows.items()}
    sides = {"synthetic": found, "test": baseline}
    curves: dict[str, JSON] = {side: [list[JSON](point) for point in one.points] for side, one in sides.items()}
    return _evaluation(None, found, baseline, {**counts, "roc": curves})


def attack(
    released: MixedRows, members: MixedRows, outsiders: MixedRows, reference: MixedRows | None, *, threads: int
) -> Attack:
    """Score members and non-members by their distances to what was released."""
    near = [_distances(queries, released, threads) for queries in (members, outsiders)]
    member_scores, outsider_scores = (_settled(-near_N) for near_N in near)
    calibrated = None
    if reference is not None:
        known = [_distances(queries, reference, threads) for queries in (members, outsiders)]
        calibrated = area(*(_settled(known_N - near_N) for known_N, near_N in zip(known, near, strict=True)))
    enough = len(outsiders) >= FEWEST_FOR_RATE
    return Attack(
        plain=area(member_scores, outsider_scores),
        calibrated=calibrated,
        rate=true_positive_rate(member_scores, outsider_scores, FALSE_POSITIVE_RATE) if enough else None,
        points=curve_points(member_scores, outsider_scores),
    )


def _distances(queries: MixedRows, released: MixedRows, threads: int) -> FloatArray:
    """Return the distances to the nearest released row (N,)."""
    return nearest(queries, released, 1, threads=threads)[:, 0].astype(np.float64)


def _settled(scores_N: FloatArray) -> FloatArray:
    """Equal scores become equal numbers: sums of float32 differ in their last digits."""
    settled_N: FloatArray = np.round(scores_N, DECIMALS)
    return settled_N


SCORES = {
    "mia_auc": (
        "Membership attack (ROC-AUC)",
        "How well distances to the synthetic rows tell training rows from unseen ones; 0.5 is chance.",
    ),
    "mia_calibrated_auc": (
        "Calibrated membership attack (ROC-AUC)",
        "The same attack, taking out how near a record lies to real rows that nobody learned from; 0.5 is chance.",
    ),
    "mia_tpr": (
        "Members found at 1 % false alarms",
        "Share of training rows the attack finds while it takes 1 % of unseen rows for training rows; 1 % is chance.",
    ),
}
LEAKS = (
    "Who has the synthetic rows can tell training rows from unseen ones: ROC-AUC {value:.3f}, with 95 % confidence at "
    "least {low:.3f}, where 0.5 is chance. Treat the synthetic table like the training rows themselves."
)


def _evaluation(
    reason: str | None,
    found: Attack | None = None,
    baseline: Attack | None = None,
    details: dict[str, JSON] | None = None,
) -> Evaluation:
    reasons = {
        "mia_auc": reason,
        "mia_calibrated_auc": reason or "there is no validation split, which would be the reference",
        "mia_tpr": reason or f"1 % of fewer than {FEWEST_FOR_RATE} real test rows is less than one row",
    }
    measured = dict(zip(SCORES, _estimates(found), strict=True))
    real = dict(zip(SCORES, _estimates(baseline), strict=True))
    leaking = [name for name in ("mia_auc", "mia_calibrated_auc") if _leaks(measured[name], real[name])]
    scores = tuple(_score(name, measured[name], real[name], reasons[name], warn=name in leaking[:1]) for name in SCORES)
    return Evaluation(name="membership", scores=scores, details=details or {})


def _estimates(found: Attack | None) -> tuple[RocFigure | None, ...]:
    """In the order of `SCORES`."""
    return (found.plain, found.calibrated, found.rate) if found is not None else (None, None, None)


def _leaks(found: RocFigure | None, real: RocFigure | None) -> bool:
    chance = max(0.5, real.value if real is not None else 0.5)
    return found is not None and found.interval[0] > chance + LEAK


def _score(name: str, found: RocFigure | None, real: RocFigure | None, reason: str | None, *, warn: bool) -> Score:
    title, meaning = SCORES[name]
    scale, unit, chance = (100.0, "%", 100 * FALSE_POSITIVE_RATE) if name == "mia_tpr" else (1.0, "", 0.5)
    low, high = found.interval if found is not None else (0.0, 0.0)
    return Score(
        name=name,
        title=title,
        meaning=meaning,
        value=scale * found.value if found is not None else None,
        unit=unit,
        direction="target",
        bounds=(0.0, scale),
        ideal=chance,
        standard_error=scale * found.standard_error if found is not None else None,
        interval=(scale * low, scale * high) if found is not None else None,
        baseline=scale * real.value if real is not None else None,
        baseline_label="half the real test split" if real is not None else None,
        undefined_because=reason if found is None else None,
        warning=LEAKS.format(value=found.value, low=low) if warn and found is not None else None,
    )
