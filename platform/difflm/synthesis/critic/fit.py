"""Fitting the critic of a bundle to its own draws and the training rows.

Shape legend: N rows, F fields.

A decoder that writes a row cell by cell is right on average and wrong in places that few columns together show: ridges
where one number is half of another, combinations that hardly occur. Boosted trees find these. Of draws that are
independent and as many training rows they learn the logarithm of how much more often a row like this should be drawn; a
draw is kept with that chance over `most` (rejection sampling, von Neumann 1951). What trees learn by heart says nothing
of new rows, so their sum is scaled by what it is worth on validation rows and draws of their own; where that is not
clearly more than nothing, there is no critic. Text, codes and names of rows count as there or missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from difflm.config import Config
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.critic.judge import Critic, RowNumbers
from difflm.synthesis.critic.trees import Floats, Trees
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.synthesizer import SamplingConfig

MOST_CELLS: Final = 600_000
"""Of the draws to learn by: rows of wide tables take longer, so there are fewer of them."""
LEAST_ROWS: Final = 400
"""With fewer training rows, or a quarter as many to validate on, trees find nothing that is there."""
CLEAR: Final = 3.0
"""By so many standard errors the scale has to be above nothing."""
Report = Callable[[int, int], None]


class CriticConfig(Config):
    """How draws are told from training rows, and turned down."""

    trees: int = Field(default=100, ge=0, le=2000, description="0: no critic, and rows are drawn faster")
    depth: int = Field(default=8, ge=1, le=12)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    rows: int = Field(default=32768, ge=1, description="most draws, and as many training rows, that it learns by")
    most: float = Field(
        default=2.0,
        gt=1,
        le=16,
        description="draws that are so many times as likely as the average to be real are always kept; more turns down "
        "more, and drawing takes longer",
    )
    threads: int | None = Field(default=None, ge=1, description="None: one for each core")


def fit_critic(
    directory: Path,
    train: pa.Table,
    validation: pa.Table,
    config: CriticConfig,
    *,
    seed: int,
    report: Report = lambda done, of: None,
) -> dict[str, float] | None:
    """Draw from a bundle and write a critic into it; return how well it tells and what share it keeps, None without.

    `train` and `validation` are normalised rows; of the latter nothing is kept but two numbers.
    """
    opened = OpenBundle(directory, SamplingConfig())
    schema = opened.bundle.schema
    most = min(config.rows, train.num_rows, MOST_CELLS // len(schema.fields))
    held = min(most, validation.num_rows)
    if config.trees == 0 or most < LEAST_ROWS or held < LEAST_ROWS // 4:
        return None
    report(0, most + held)
    # Rows of their own, as for the calibration.
    drawn, _ = opened.synthesizer().draw_valid(range(most + held), seed=seed)
    if len(drawn) < LEAST_ROWS + held:
        return None
    random, numbers = np.random.default_rng(seed), RowNumbers(schema)
    made_NF = numbers.of_table(opened.bundle.codec.table_of([record for _, record in drawn]))
    learned, judged = made_NF[:-held], made_NF[-held:]
    rows = random.permutation(train.num_rows)[: len(learned)]
    others = random.permutation(validation.num_rows)[:held]
    trees = _trees(numbers.of_table(train.take(rows)), learned, config, seed=seed)
    real_N, made_N = (
        np.array([trees(row_F) for row_F in part]) for part in (numbers.of_table(validation.take(others)), judged)
    )
    scale = worth(real_N, made_N)
    if scale is None:
        return None
    odds_N = np.exp(scale * made_N)
    top = min(config.most * float(odds_N.mean()), float(np.quantile(odds_N, 0.98)))
    Critic(trees=trees, scale=scale, offset=-math.log(top), numbers=numbers).write(directory)
    write_hashes(directory)
    return {"auc": _auc(real_N, made_N), "kept": float(np.minimum(1.0, odds_N / top).mean())}


def _trees(real_NF: Floats, made_NF: Floats, config: CriticConfig, *, seed: int) -> Trees:
    import xgboost as xgb

    label_N = np.repeat([1.0, 0.0], [len(real_NF), len(made_NF)])
    # A leaf has eight rows at least: what fewer have is not for a bundle to hold.
    settings = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "max_depth": config.depth,
        "eta": config.learning_rate,
        "min_child_weight": 2.0,
        "max_bin": 512,
        "seed": seed % 2**31,
        **({} if config.threads is None else {"nthread": config.threads}),
    }
    booster = xgb.train(settings, xgb.DMatrix(np.concatenate([real_NF, made_NF]), label=label_N), config.trees)
    return Trees.of(json.loads(bytes(booster.save_raw("json"))))


def worth(real_N: npt.NDArray[np.float64], made_N: npt.NDArray[np.float64]) -> float | None:
    """Return what sums of rows that trees have not seen are to be multiplied by to be logarithms of odds: 1 at most.

    By logistic regression; None where it is not clearly above 0.
    """
    from sklearn.linear_model import LogisticRegression

    sum_N, label_N = np.concatenate([real_N, made_N]), np.repeat([1, 0], [len(real_N), len(made_N)])
    model = LogisticRegression(C=1e9, tol=1e-8, max_iter=1000).fit(sum_N[:, None], label_N)
    chance_N = model.predict_proba(sum_N[:, None])[:, 1]
    design_N2 = np.stack([sum_N, np.ones_like(sum_N)], axis=1)
    information_22 = design_N2.T @ (design_N2 * (chance_N * (1 - chance_N))[:, None]) + 1e-9 * np.eye(2)
    scale, error = float(model.coef_[0, 0]), math.sqrt(np.linalg.inv(information_22)[0, 0])
    return min(1.0, scale) if scale >= CLEAR * error else None


def _auc(real_N: npt.NDArray[np.float64], made_N: npt.NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    label_N = np.repeat([1, 0], [len(real_N), len(made_N)])
    return float(roc_auc_score(label_N, np.concatenate([real_N, made_N])))
