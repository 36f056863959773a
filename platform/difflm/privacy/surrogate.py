"""The surrogate of a table: rows drawn from private summaries alone, which everything but DP-SGD reads in its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.errors import ConfigError, DataError
from difflm.privacy.budget import Plan, PrivacyConfig, count_scale, refuse_too_small
from difflm.privacy.cells import CellColumn, cell_columns
from difflm.privacy.columns import ColumnSummary, summarize_columns
from difflm.privacy.measuring import Ledger, noisy_at_scale
from difflm.privacy.tree import GROUPS, TARGET_GROUPS, Groups, Tree, independent, measure_tree

_LEAST_UNITS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All that is known of a table's rows outside of DP-SGD, and what it has cost."""

    columns: tuple[ColumnSummary, ...]
    tree: Tree
    plan: Plan
    ledger: Ledger

    def draw(self, rows: int, types: pa.Schema, random: np.random.Generator) -> pa.Table:
        """Draw rows of the given types."""
        drawn = self.tree.draw(rows, random)
        arrays = []
        for column, groups, group_N in zip(self.columns, self.tree.groups, drawn, strict=True):
            texts = column.draw(groups.draw(group_N, column, random), random)
            arrays.append(_typed(texts, types.field(column.name).type))
        return pa.Table.from_arrays(arrays, names=[column.name for column in self.columns])


def _typed(texts: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    plain = pa.array(texts, pa.string())
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return plain.cast(kind)


def one_of_each(units_N: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw one row of every unit; rows in the order of units."""
    shuffled = random.permutation(len(units_N))
    _, first = np.unique(units_N[shuffled], return_index=True)
    return np.asarray(shuffled[first], dtype=np.int64)


def summarize(table: pa.Table, units_N: npt.NDArray[np.int64], config: PrivacyConfig, *, target: str | None) -> Summary:
    """Measure a table whose rows belong to these units, (N,); of each unit one row is drawn for all measurements.

    Raises:
        ConfigError: the budget is too small for so many units; says what would be needed.
        DataError: a column has no private form, or the target is none of the columns.
    """
    if target is not None and target not in table.column_names:
        known = ", ".join(map(repr, table.column_names))
        raise DataError(f"the table has no target column {target!r}; it has {known}")
    ledger = Ledger()
    rows = one_of_each(units_N, np.random.default_rng(int.from_bytes(os.urandom(16), "little")))
    counted = np.array([len(rows)], dtype=np.int64)
    noisy = noisy_at_scale(counted, scale=count_scale(config.epsilon), part="count of units", ledger=ledger)
    units = max(1, int(noisy[0]))
    if units < _LEAST_UNITS:
        raise ConfigError(
            f"about {units} units (counted with noise) are too few for privacy.epsilon {config.epsilon:g}: their "
            f"number is lost in noise of +-{count_scale(config.epsilon):.0f}; it takes hundreds of units"
        )
    plan = Plan.of(config, units=units, count_rho=ledger.rho)
    refuse_too_small(config, plan, len(table.column_names), ledger.rho)
    cells = [column.rows(rows) for column in cell_columns(table)]
    columns = tuple(summarize_columns(cells, plan, ledger))
    return Summary(
        columns=columns, tree=_tree(columns, cells, plan, target=target, ledger=ledger), plan=plan, ledger=ledger
    )


def _tree(
    columns: Sequence[ColumnSummary], cells: Sequence[CellColumn], plan: Plan, *, target: str | None, ledger: Ledger
) -> Tree:
    place = None if target is None else [column.name for column in columns].index(target)
    groups = [Groups.of(column, TARGET_GROUPS if index == place else GROUPS) for index, column in enumerate(columns)]
    if plan.pairs_rho <= 0:
        return independent(groups)
    codes = [
        column.code_texts(each.texts_D)[each.code_N] if len(each.texts_D) else each.code_N
        for column, each in zip(columns, cells, strict=True)
    ]
    group_N = [
        each.of_codes(np.where(cell.code_N >= 0, code_N, -1), cell.code_N >= 0)
        for each, code_N, cell in zip(groups, codes, cells, strict=True)
    ]
    return measure_tree(groups, group_N, target=place, rho=plan.pairs_rho, units=plan.units, ledger=ledger)
