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
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from difflm.config import Config
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.critic.features import Floats, RowNumbers, bins_of, edges_of, find_pairs
from difflm.synthesis.critic.judge import Critic
from difflm.synthesis.critic.raking import raked, top_of
from difflm.synthesis.critic.trees import Trees
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.synthesizer import SamplingConfig

MOST_CELLS: Final = 600_000
"""Of the draws to learn by: rows of wide tables take longer, so there are fewer of them."""
LEAST_ROWS: Final = 400
"""With fewer training rows, or a quarter as many to validate on, trees find nothing that is there."""
BINS: Final = 256
"""Of a column or pair, by draws: what trees are split at."""
LEAF_ROWS: Final = 200
"""A leaf has so many rows at least, training rows and draws together: what fewer have is not for a bundle to hold."""
ROUNDS: Final = 10
"""After so many trees it is looked at anew whether they recognise training rows."""
CLEAR: Final = 3.0
"""By so many standard errors the scale has to be above nothing."""
Report = Callable[[int, int], None]


class CriticConfig(Config):
    """How draws are told from training rows, and turned down."""

    trees: int = Field(default=300, ge=0, le=2000, description="most of them; 0: no critic, and rows are drawn faster")
    depth: int = Field(default=3, ge=1, le=12)
    pairs: int = Field(default=16, ge=0, le=1024, description="differences and ratios of columns that trees see")
    recognised: float = Field(
        default=0.52,
        ge=0.5,
        le=1,
        description="how well trees may tell training rows from validation rows, as AUC: there are no more of them",
    )
    told: float = Field(
        default=0.57,
        ge=0.5,
        le=1,
        description="how well trees have to tell validation rows from draws, as AUC: below it there is no critic, for "
        "rows are as good without and drawn twice as fast",
    )
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    rows: int = Field(default=32768, ge=1, description="most draws, and as many training rows, that it learns by")
    most: float = Field(
        default=1.3,
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
    """Draw from a bundle and write a critic into it; return what its figures are, None where there is none.

    `auc` is how well it tells validation rows from draws, `kept` the share of draws that it keeps, `recognised` how
    well it tells training rows from validation rows, and `trees` how many it has.

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
    learned_NF = made_NF[:-held]
    train_NF = numbers.of_table(train)
    real_NF = train_NF[random.permutation(train.num_rows)[: len(learned_NF)]]
    held_NF = numbers.of_table(validation.take(random.permutation(validation.num_rows)[:held]))
    pairs = find_pairs(real_NF, learned_NF, numbers.ordered, config.pairs)
    trees, recognised = _trees(pairs(real_NF), pairs(learned_NF), pairs(held_NF), config, seed=seed)
    if trees is None:
        return None
    real_N, made_N = (_sums(trees, pairs(rows_NF)) for rows_NF in (held_NF, made_NF))
    scale = worth(real_N, made_N[-held:])
    auc = _auc(real_N, made_N[-held:])
    if scale is None or auc < config.told:
        return None
    # By all draws: what shallow trees have learned of single ones by heart is next to nothing.
    steps, nats_N = raked(scale * made_N, made_NF, train_NF, most=config.most)
    odds_N = np.exp(nats_N)
    top = top_of(odds_N, config.most)
    trees = trees + steps.scaled(1 / scale)
    Critic(trees=trees, pairs=pairs, scale=scale, offset=-math.log(top), numbers=numbers).write(directory)
    write_hashes(directory)
    return {
        "auc": auc,
        "kept": float(np.minimum(1.0, odds_N / top).mean()),
        "recognised": recognised,
        "trees": float(len(trees.root_T)),
    }


def _sums(trees: Trees, rows_NF: Floats) -> npt.NDArray[np.float64]:
    return np.array([trees(row_F) for row_F in rows_NF])


def _trees(
    real_NF: Floats, made_NF: Floats, held_NF: Floats, config: CriticConfig, *, seed: int
) -> tuple[Trees | None, float]:
    """Return trees, fewer than asked for where more would tell training rows from validation rows; and how well."""
    import xgboost as xgb

    edges = [edges_of(column_N, BINS) for column_N in made_NF.T]

    def binned(rows_NF: Floats) -> xgb.DMatrix:
        bins = [
            np.where(np.isnan(column_N), np.nan, bins_of(column_N, ends))
            for column_N, ends in zip(rows_NF.T, edges, strict=True)
        ]
        return xgb.DMatrix(np.stack(bins, axis=1))

    matrix = binned(np.concatenate([real_NF, made_NF]))
    matrix.set_label(np.repeat([1.0, 0.0], [len(real_NF), len(made_NF)]))
    settings = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "max_depth": config.depth,
        "eta": config.learning_rate,
        "min_child_weight": LEAF_ROWS / 4,  # a row weighs a quarter where nothing is known
        "max_bin": BINS + 1,
        "seed": seed % 2**31,
        **({} if config.threads is None else {"nthread": config.threads}),
    }
    booster = xgb.train(settings, matrix, config.trees)
    rounds, recognised = _unrecognisable(booster, binned(real_NF), binned(held_NF), config)
    if rounds == 0:
        return None, recognised
    trees = Trees.of(json.loads(bytes(booster[:rounds].save_raw("json"))))
    return trees.unbinned(edges), recognised


def _unrecognisable(booster: Any, real: Any, held: Any, config: CriticConfig) -> tuple[int, float]:
    """Return how many trees tell training rows from validation rows no better than allowed, and how well they do."""
    rounds, recognised = 0, 0.5
    for some in range(ROUNDS, booster.num_boosted_rounds() + 1, ROUNDS):
        real_N, held_N = (booster.predict(each, output_margin=True, iteration_range=(0, some)) for each in (real, held))
        auc = _auc(real_N, held_N)
        if auc > config.recognised:
            break
        rounds, recognised = some, auc
    return rounds, recognised


def worth(real_N: npt.NDArray[np.float64], made_N: npt.NDArray[np.float64]) -> float | None:
    """Return what sums of rows that trees have not seen are to be multiplied by to be logarithms of odds.

    By logistic regression; None where it is not clearly above 0.
    """
    from sklearn.linear_model import LogisticRegression

    sum_N, label_N = np.concatenate([real_N, made_N]), np.repeat([1, 0], [len(real_N), len(made_N)])
    model = LogisticRegression(C=1e9, tol=1e-8, max_iter=1000).fit(sum_N[:, None], label_N)
    chance_N = model.predict_proba(sum_N[:, None])[:, 1]
    design_N2 = np.stack([sum_N, np.ones_like(sum_N)], axis=1)
    information_22 = design_N2.T @ (design_N2 * (chance_N * (1 - chance_N))[:, None]) + 1e-9 * np.eye(2)
    scale, error = float(model.coef_[0, 0]), math.sqrt(np.linalg.inv(information_22)[0, 0])
    return scale if scale >= CLEAR * error else None


def _auc(real_N: npt.NDArray[np.float64], made_N: npt.NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    label_N = np.repeat([1, 0], [len(real_N), len(made_N)])
    return float(roc_auc_score(label_N, np.concatenate([real_N, made_N])))
