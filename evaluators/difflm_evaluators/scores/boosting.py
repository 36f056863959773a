"""The classifier behind the utility score: XGBoost, its settings chosen on a ninth of its own training rows.

The grid is n_estimators 10 / 50 / 100, min_child_weight 1 / 10, max_depth 5 / 10 / 20, gamma 0 / 1. Boosting adds
trees one by one and never changes earlier ones, so the first 10 trees of a model of 100 are the model of 10: each
combination of the other settings is fitted once with 100 trees and scored at 10, 50 and 100 (12 fits for 36 models).
Every fit runs on one thread: threads that wait for each other inside a fit of this size cost more than they bring, on
busy cores far more.
"""

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.features import Float32Array

if TYPE_CHECKING:
    import xgboost as xgb

FloatArray = npt.NDArray[np.float64]
Task = Literal["classification", "regression"]

TREES = (10, 50, 100)
MIN_CHILD_WEIGHTS = (1, 10)
MAX_DEPTHS = (5, 10, 20)
GAMMAS = (0, 1)
HELD_OUT_ONE_IN = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Features and targets; a class target holds class numbers 0..classes-1, a regression target numbers."""

    features_ND: Float32Array
    target_N: FloatArray

    def take(self, rows: npt.NDArray[np.int64]) -> "Samples":
        """Select the rows at these positions."""
        return Samples(features_ND=self.features_ND[rows], target_N=self.target_N[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What to learn: `classes` is 0 for regression."""

    task: Task
    classes: int
    feature_types: tuple[str, ...]

    def parameters(self, *, depth: int, weight: int, gamma: int, seed: int) -> dict[str, Any]:
        """Return XGBoost's parameters for one combination."""
        objective: dict[str, Any] = {"objective": "reg:squarederror"}
        if self.task == "classification":
            objective = (
                {"objective": "binary:logistic"}
                if self.classes == 2
                else {"objective": "multi:softprob", "num_class": self.classes}
            )
        shape = {"max_depth": depth, "min_child_weight": weight, "gamma": gamma}
        return {**objective, **shape, "tree_method": "hist", "nthread": 1, "seed": seed, "verbosity": 0}

    def data_options(self) -> dict[str, Any]:
        """Collect what XGBoost has to know of a matrix of features."""
        types = list(self.feature_types)
        return {"feature_types": types, "enable_categorical": "c" in types, "nthread": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The chosen model's score on the test rows, its score on the held-out ninth and its settings."""

    score: float
    held_out_score: float
    settings: dict[str, int]


def binary_auc(positive_N: npt.NDArray[np.bool_], ranking_N: FloatArray) -> float | None:
    """Compute the area under the ROC curve (Mann-Whitney U / product), ties count half; None without both classes."""
    from scipy.stats import rankdata  # slow to import

    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    if positives == 0 or negatives == 0:
        return None
    ranks_N = rankdata(ranking_N)
    return float((ranks_N[positive_N].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def score_predictions(setup: Setup, target_N: FloatArray, predicted: FloatArray) -> float | None:
    """Score by ROC-AUC (from 3 classes on, macro one-vs-rest over those that occur) or RMSE; None where undefined."""
    if setup.task == "regression":
        return float(np.sqrt(np.mean((target_N - predicted) ** 2)))
    if setup.classes == 2:
        return binary_auc(target_N == 1, predicted)
    areas = [binary_auc(target_N == number, predicted[:, number]) for number in range(setup.classes)]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if defined else None


def hold_out_ninth(samples: Samples, setup: Setup, seed: int) -> tuple[Samples, Samples]:
    """Split off a held-out ninth of the rows, drawn with `seed` within each class; a class of one row is fitted on."""
    random = np.random.default_rng(seed)
    strata = np.unique(samples.target_N) if setup.task == "classification" else [None]
    held_out = np.zeros(len(samples.target_N), dtype=bool)
    for stratum in strata:
        rows = np.flatnonzero(samples.target_N == stratum) if stratum is not None else np.arange(len(held_out))
        share = max(1, round(len(rows) / HELD_OUT_ONE_IN)) if len(rows) > 1 else 0
        held_out[random.permutation(rows)[:share]] = True
    return samples.take(np.flatnonzero(~held_out)), samples.take(np.flatnonzero(held_out))


def choose_and_score(samples: Samples, test: Samples, setup: Setup, seed: int) -> Fitted | None:
    """Fit the grid on eight ninths, choose on the last, score that model on `test`; None where a score is undefined."""
    import xgboost as xgb  # slow to import

    fitting, held_out = hold_out_ninth(samples, setup, seed)
    if len(held_out.target_N) == 0:
        return None
    data = xgb.QuantileDMatrix(fitting.features_ND, fitting.target_N, **setup.data_options())
    held_out_data = xgb.DMatrix(held_out.features_ND, **setup.data_options())
    best: tuple[float, xgb.Booster, dict[str, int]] | None = None
    for depth, weight, gamma in product(MAX_DEPTHS, MIN_CHILD_WEIGHTS, GAMMAS):
        parameters = setup.parameters(depth=depth, weight=weight, gamma=gamma, seed=seed)
        booster = xgb.train(parameters, data, num_boost_round=max(TREES))
        for trees in TREES:
            score = score_predictions(setup, held_out.target_N, _predict(booster, held_out_data, trees))
            if score is None:
                return None
            if best is None or _better(setup, score, best[0]):
                shape = {"max_depth": depth, "min_child_weight": weight, "gamma": gamma}
                best = (score, booster, {"n_estimators": trees, **shape})
    if best is None:
        return None
    predicted = _predict(best[1], xgb.DMatrix(test.features_ND, **setup.data_options()), best[2]["n_estimators"])
    score = score_predictions(setup, test.target_N, predicted)
    return None if score is None else Fitted(score=score, held_out_score=best[0], settings=best[2])


def _predict(booster: "xgb.Booster", data: "xgb.DMatrix", trees: int) -> FloatArray:
    predicted: FloatArray = booster.predict(data, iteration_range=(0, trees)).astype(np.float64)
    return predicted


def _better(setup: Setup, score: float, best: float) -> bool:
    return score < best if setup.task == "regression" else score > best
