"""Classification and regression trees, one column after the other: the method of R's synthpop, with scikit-learn.

The first column is drawn from the training rows. Each column after it gets a tree over the columns before it, fitted to
the training rows; a synthetic row goes down to a leaf and is handed the real value of one of the leaf's training rows.

Categories enter a tree as numbers in an order that fits what is predicted: by the mean of a number, by the first
principal component of the classes' shares (Coppersmith et al. 1999, doi 10.1023/A:1009869804967). Shapes: N training
rows, M synthetic rows, C columns before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from difflm_jobs.benchmark.own import Job

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedColumn:
    """A column as numbers, NaN where missing; or, with `levels` above 0, as codes, missing one of them."""

    values_N: FloatArray
    levels: int

    @property
    def response_N(self) -> FloatArray:
        """What a tree predicts: missing numbers lie below all others, so that a split can set them apart."""
        if self.levels or not np.isnan(self.values_N).any():
            return self.values_N
        present = self.values_N[~np.isnan(self.values_N)]
        low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
        return np.where(np.isnan(self.values_N), low - (high - low) - 1, self.values_N)


def fit(train: pa.Table, job: Job) -> pa.Table:
    """Return the training rows: trees are grown when their column is drawn, and kept no longer."""
    return train


def sample(train: pa.Table, job: Job) -> pa.Table:
    """Draw rows, column by column."""
    random = np.random.default_rng(job.seed)
    coded = {name: code_column(train.column(name)) for name in train.column_names}
    donors: dict[str, IntArray] = {}
    for name in train.column_names:
        donors[name] = draw_donors(name, coded, donors, job.rows, job.settings["min_leaf"], random)
    return pa.table({name: train.column(name).take(pa.array(rows_M)) for name, rows_M in donors.items()})


def code_column(column: pa.ChunkedArray) -> CodedColumn:
    """Code a column of a table."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return CodedColumn(values_N=column.cast(pa.float64()).to_numpy().astype(np.float64), levels=0)
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    codes_N = encoded.indices.to_numpy().astype(np.float64)
    return CodedColumn(values_N=codes_N, levels=len(encoded.dictionary))


def draw_donors(
    name: str,
    coded: Mapping[str, CodedColumn],
    donors: Mapping[str, IntArray],
    rows: int,
    min_leaf: int,
    random: np.random.Generator,
) -> IntArray:
    """Return, (M,), the training row whose value of a column each synthetic row is handed.

    `donors` has the rows that were drawn for the columns before.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    target = coded[name]
    count = len(target.values_N)
    if not donors:
        return random.integers(count, size=rows)
    kind = DecisionTreeClassifier if target.levels else DecisionTreeRegressor
    tree = kind(min_samples_leaf=min(min_leaf, count), random_state=int(random.integers(2**31)))
    real_NC = np.stack([ordered(coded[before], target) for before in donors], axis=1)
    made_MC = np.stack([real_NC[rows_M, place] for place, rows_M in enumerate(donors.values())], axis=1)
    tree.fit(real_NC, target.response_N)
    leaf_N, leaf_M = tree.apply(real_NC), tree.apply(made_MC)
    order_N = np.argsort(leaf_N, kind="stable")
    first_M = np.searchsorted(leaf_N, leaf_M, side="left", sorter=order_N)
    last_M = np.searchsorted(leaf_N, leaf_M, side="right", sorter=order_N)
    donors_M: IntArray = order_N[random.integers(first_M, last_M)]
    return donors_M


def ordered(column: CodedColumn, target: CodedColumn) -> FloatArray:
    """Return a column's numbers, or those that its categories get in the order that fits the target, (N,)."""
    if not column.levels:
        return column.values_N
    codes_N = column.values_N.astype(np.int64)
    size_L = np.maximum(np.bincount(codes_N, minlength=column.levels), 1)
    if not target.levels:
        return (np.bincount(codes_N, weights=target.response_N, minlength=column.levels) / size_L)[codes_N]
    counts_LK = np.zeros((column.levels, target.levels))
    np.add.at(counts_LK, (codes_N, target.values_N.astype(np.int64)), 1)
    shares_LK = counts_LK / size_L[:, None]
    centred_LK = shares_LK - np.average(shares_LK, axis=0, weights=size_L)
    _, _, axes = np.linalg.svd(centred_LK * np.sqrt(size_L)[:, None], full_matrices=False)
    scores_N: FloatArray = (centred_LK @ axes[0])[codes_N]
    return scores_N
