"""Splits: which rows are for training, validation and testing, by hash, whatever the partitioning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Option

from difflm.errors import DataError
from difflm.records.large.rows import some_rows
from difflm.records.notices import Notice

FITTED = "fitted"
"""The file of prepared training rows as models see them, where they are not the rows themselves."""

_Fraction: TypeAlias = Annotated[float, Option(gt=0.0, lt=1.0)]
_Seed: TypeAlias = Annotated[int, Option(ge=0, lt=2**63)]


class HashSplit(BaseModel):
    """Validation and test rows are taken from the one table that there is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    validation: _Fraction = 0.1
    test: _Fraction = 0.1
    seed: _Seed = 0

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on")
        return self


class GivenSplit(BaseModel):
    """The test rows are another table; validation rows are taken from the training table."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    validation: _Fraction = 0.1
    seed: _Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Three tables with the same columns, rows in the order of their source, and what was left out."""

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    notices: tuple[Notice, ...]


def prepared_file(prepared: Path, split: str) -> Path:
    """Return the file of a split in a folder of prepared data, as models see it: training rows protected."""
    fitted = prepared / f"{FITTED}.parquet"
    return fitted if split == "train" and fitted.is_file() else prepared / f"{split}.parquet"


def split_table(
    table: pa.Table, config: HashSplit | GivenSplit, *, target: str | None = None, test: pa.Table | None = None
) -> Splits:
    """Split by the hash of (seed, row number in `table`); sizes are the fractions, rounded, at least one row each.

    Those of a large table are `Rows` of it. `test` is the given test table, needed for `GivenSplit` and only there.
    Rows without a target are left out before and counted. DataError when there are too few rows or the test table lacks
    columns.
    """
    if (test is None) == isinstance(config, GivenSplit):
        raise DataError(f"{type(config).__name__}: a test table is {'missing' if test is None else 'not used'}")
    notices: list[Notice] = []
    rows = _rows_with_target(table, target, "table", notices)
    order = rows[np.argsort(row_hashes(rows, config.seed), kind="stable")]
    n_validation = max(1, round(config.validation * len(rows)))
    n_test = max(1, round(config.test * len(rows))) if isinstance(config, HashSplit) else 0
    n_train = len(rows) - n_validation - n_test
    if n_train < 1:
        raise DataError(f"{len(rows)} rows cannot be split into training, validation and test; give more")
    if test is not None:
        rest = _given_test(table, test, target, notices)
    else:
        rest = some_rows(table, np.sort(order[n_train + n_validation :]))
    return Splits(
        train=some_rows(table, np.sort(order[:n_train])),
        validation=some_rows(table, np.sort(order[n_train : n_train + n_validation])),
        test=rest,
        notices=tuple(notices),
    )


def row_hashes(rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Hash row numbers to 64 bits: the finalizer of SplitMix64 (Steele et al. 2014) over the seed's own mixed bits."""
    return _mix(_mix(rows.astype(np.uint64)) ^ _mix(np.full(1, seed, dtype=np.uint64)))


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _rows_with_target(table: pa.Table, target: str | None, what: str, notices: list[Notice]) -> npt.NDArray[np.int64]:
    if target is None:
        return np.arange(table.num_rows)
    if target not in table.column_names:
        known = ", ".join(map(repr, table.column_names))
        raise DataError(f"the {what} has no target column {target!r}; it has {known}")
    rows = np.flatnonzero(pc.is_valid(table.column(target)).to_numpy())
    dropped = table.num_rows - len(rows)
    if dropped:
        message = f"{dropped} rows of the {what} have no target and are left out"
        notices.append(Notice(column=target, code="no_target", count=dropped, message=message))
    return rows


def _given_test(table: pa.Table, test: pa.Table, target: str | None, notices: list[Notice]) -> pa.Table:
    absent = [name for name in table.column_names if name not in test.column_names]
    if absent:
        raise DataError(f"the test table lacks the columns {absent}; it has {test.column_names}")
    rows = _rows_with_target(test, target, "test table", notices)
    if not len(rows):
        raise DataError("the test table has no rows with a target; give another one")
    return some_rows(test.select(table.column_names), rows)
