"""Is the difference of one score between two reports more than chance: a test for each kind of score.

What a report holds about the uncertainty of a score decides (`evidence`):

- paired: figures of the same columns in both reports (shape, trend, coverage, entropy). A sign-flip permutation test
  of the mean difference, which is the difference of the scores. A trend error counts by column, with the mean of its
  pairs: pairs that share a column are no independent figures. The columns are taken as a sample of such columns.
- repeats: one figure per seed or part (usefulness, alpha-precision, beta-recall). Welch's t-test.
- estimate: a value with its standard error (membership attack: DeLong's; DCR share, NNDR). A z-test; with the error
  of a mean over a few folds (detection) Welch's t-test with as many figures.
- counts: so many rows of all (exact copies, rows that fit the schema, valid draws). Fisher's exact test.

Everything else is one number, of which no test can be made. All of it is about the two tables: another training
of the same generator gives another table, and only reports of several trainings could say how different.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from difflm_evaluators.columns.columns import FloatArray, kind_of
from difflm_evaluators.report.layout import ReportFile, ScoreEntry
from difflm_evaluators.scores.fidelity import closeness

FEWEST_PAIRS = 6  # the sign flips of fewer can reach no p-value below 0.05
RESAMPLES = 9_999
ONE_NUMBER = "undefined because the reports hold one number without an error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One figure per column."""

    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """One figure per seed or part, called `unit`."""

    figures: Sequence[float]
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreWithError:
    """A value and its standard error, of a mean over `repeats` figures or, where None, of very many rows."""

    value: float
    standard_error: float
    repeats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """`hits` of `rows` rows."""

    hits: int
    rows: int


Evidence = Paired | Repeats | ScoreWithError | Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Significance:
    """A two-sided p-value and the test it is of, or None with the reason."""

    p_value: float | None
    method: str


def evidence(report: ReportFile, score: ScoreEntry) -> Evidence | None:
    """Find what `report` holds about the uncertainty of a defined score; None where it is one number only."""
    if score.value is None:
        return None
    details = {entry.name: dict[str, Any](entry.details) for entry in report.evaluations}
    match score.name:
        case "shape_error":
            return Paired(figures={row["name"]: row["error"] for row in details["marginals"]["columns"]})
        case "trend_error":
            return Paired(figures=_column_trends(details["pairs"]["pairs"]))
        case "category_coverage" | "range_coverage" | "entropy_ratio":
            return Paired(figures=_diversity(report, score.name, details["diversity"]["columns"]))
        case "mle_auc" | "mle_rmse":
            return Repeats(figures=[run["score"] for run in details["utility"]["synthetic_runs"]], unit="seed")
        case "alpha_precision" | "beta_recall":
            curve = "precision" if score.name == "alpha_precision" else "recall"
            parts = details["fidelity"]["synthetic_parts"]
            return Repeats(figures=[closeness(np.asarray(part[curve])) for part in parts], unit="part")
        case "exact_copy_share":
            return Counts(hits=details["privacy"]["exact_copies"], rows=report.rows.synthetic)
        case "conforming_share":
            rows = report.rows.synthetic
            return Counts(hits=round(score.value / 100 * rows), rows=rows)
        case "valid_draw_share":
            account = details["validity"]["account"]
            return Counts(hits=account["rows_emitted"], rows=account["attempts"])
        case "c2st_auc" | "c2st_accuracy" if score.standard_error is not None:
            folds = len(details["detection"]["synthetic_runs"][0]["auc"])
            return ScoreWithError(value=score.value, standard_error=score.standard_error, repeats=folds)
    if score.standard_error is None:
        return None
    return ScoreWithError(value=score.value, standard_error=score.standard_error)


def _column_trends(pairs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return, per column, the mean error of its defined pairs."""
    errors: dict[str, list[float]] = {}
    for pair in pairs:
        if pair["error"] is not None:
            for side in ("first", "second"):
                errors.setdefault(pair[side], []).append(pair["error"])
    return {name: float(np.mean(found)) for name, found in errors.items()}


def _diversity(report: ReportFile, score: str, columns: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of the columns that the score is a mean over."""
    figure = "entropy_ratio" if score == "entropy_ratio" else "coverage"
    kinds = {"category_coverage": ("category",), "range_coverage": ("numeric",)}.get(score, ("category", "numeric"))
    return {
        row["name"]: row[figure]
        for row in columns
        if row[figure] is not None and kind_of(report.columns[row["name"]]) in kinds
    }


def significance_of(first: Evidence | None, other: Evidence | None) -> Significance:
    """Test whether two scores differ; the method says which test it was, or why there is none."""
    match first, other:
        case Paired(), Paired():
            return _paired(first.figures, other.figures)
        case Repeats(), Repeats():
            return _repeats(first, other)
        case ScoreWithError(), ScoreWithError():
            return _estimates(first, other)
        case Counts(), Counts():
            return _counts(first, other)
    return _undefined(ONE_NUMBER)


def _undefined(reason: str) -> Significance:
    return Significance(p_value=None, method=reason)


def _paired(first: Mapping[str, float], other: Mapping[str, float]) -> Significance:
    """Flip signs of the differences of the columns that both reports have a figure of."""
    names = [name for name in first if name in other]
    difference_C = np.array([other[name] - first[name] for name in names])
    differing = int(np.count_nonzero(difference_C))
    if differing == 0 and names:
        return Significance(p_value=1.0, method="equal in every column")
    if differing < FEWEST_PAIRS:
        what = "column differs" if differing == 1 else "columns differ"
        return _undefined(f"undefined because only {differing} {what}; {FEWEST_PAIRS} are the fewest")
    return Significance(p_value=_sign_flips(difference_C), method=f"paired permutation test, {len(names)} columns")


def _sign_flips(difference_C: FloatArray) -> float:
    """Compute the two-sided p-value of the mean difference being 0, exact for up to 13 columns."""
    from scipy.stats import permutation_test  # slow to import

    found = permutation_test(
        (difference_C,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(found.pvalue)


def _repeats(first: Repeats, other: Repeats) -> Significance:
    from scipy.stats import ttest_ind  # slow to import

    counts = [len(first.figures), len(other.figures)]
    if min(counts) < 2:
        return _undefined(f"undefined because of one {first.unit}; evaluate with two or more")
    if len({*first.figures, *other.figures}) == 1:
        return Significance(p_value=1.0, method="equal in every repeat")
    if np.ptp(first.figures) == 0 and np.ptp(other.figures) == 0:
        return _undefined(f"undefined because no {first.unit} differs from another")
    p_value = float(ttest_ind(first.figures, other.figures, equal_var=False).pvalue)
    return Significance(p_value=p_value, method=f"Welch's t-test, {counts[0]} and {counts[1]} {first.unit}s")


def _estimates(first: ScoreWithError, other: ScoreWithError) -> Significance:
    from scipy.stats import norm, ttest_ind_from_stats  # slow to import

    errors = np.array([first.standard_error, other.standard_error])
    if not errors.any():
        if first.value == other.value:
            return Significance(p_value=1.0, method="equal")
        return _undefined("undefined because both standard errors are 0")
    if first.repeats is not None and other.repeats is not None:
        stds = errors * np.sqrt([first.repeats, other.repeats])
        p_value = ttest_ind_from_stats(
            first.value, stds[0], first.repeats, other.value, stds[1], other.repeats, equal_var=False
        ).pvalue
        return Significance(p_value=float(p_value), method=f"Welch's t-test, {first.repeats} and {other.repeats} folds")
    z = (other.value - first.value) / float(np.hypot(*errors))
    return Significance(p_value=float(2 * norm.sf(abs(z))), method="z-test of the standard errors")


def _counts(first: Counts, other: Counts) -> Significance:
    from scipy.stats import fisher_exact  # slow to import

    if min(first.rows, other.rows) == 0:
        return _undefined("undefined because one of the reports has no rows")
    table = [[part.hits, part.rows - part.hits] for part in (first, other)]
    return Significance(p_value=float(fisher_exact(table).pvalue), method="Fisher's exact test")


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Make p-values larger for their number (Holm 1979), each by its place in the ascending order."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p_value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p_value))
        adjusted[place] = highest
    return adjusted
