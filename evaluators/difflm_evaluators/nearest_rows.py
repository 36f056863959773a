"""The synthetic rows nearest to training rows, side by side with them.

This puts training rows into the report, so it happens on request only (`privacy.show_nearest`). Rows at distance 0 are
counted as copies already and come last: what differs in near ones shows more.
"""

import numpy as np
import pyarrow as pa

from difflm_evaluators.base import JSON, Evaluation
from difflm_evaluators.columns import Columns, take_rows
from difflm_evaluators.distances import TIE
from difflm_evaluators.mixed_rows import mixed_rows
from difflm_evaluators.neighbours import nearest
from difflm_evaluators.privacy import PrivacyConfig
from difflm_evaluators.sampling import row_count

SHOWN = 5


def evaluate_nearest(
    tables: tuple[pa.Table, pa.Table], columns: tuple[Columns, Columns], config: PrivacyConfig
) -> Evaluation:
    """The nearest pairs of (synthetic, training) rows that are not at distance 0, the nearest first; no scores."""
    synthetic, train = columns
    names = list(train)
    rows_N = np.arange(row_count(synthetic))
    if len(rows_N) > config.max_queries:
        random = np.random.default_rng((config.seed, 1))
        rows_N = np.sort(random.choice(len(rows_N), size=config.max_queries, replace=False))
    real, queries = mixed_rows(train, [take_rows(synthetic, rows_N)])
    if real.width == 0:
        return Evaluation(name="nearest", scores=(), details={"columns": list(names), "pairs": []})
    distance_N = nearest(queries, real, 1, threads=config.threads)[:, 0]
    pairs: list[JSON] = []
    apart_N = np.where(distance_N > TIE, distance_N, np.inf)
    for place in np.argsort(apart_N, kind="stable")[:SHOWN].tolist():
        apart_R = nearest(real, queries.take(np.array([place])), 1, threads=config.threads)[:, 0]
        twin = int(apart_R.argmin())
        cells = [_cells(table, row, names) for table, row in zip(tables, (int(rows_N[place]), twin), strict=True)]
        pairs.append({"distance": float(distance_N[place]), "synthetic": cells[0], "training": cells[1]})
    return Evaluation(name="nearest", scores=(), details={"columns": list(names), "pairs": pairs})


def _cells(table: pa.Table, row: int, names: list[str]) -> list[str | None]:
    """The values of one row as text, None where missing."""
    values = [table.column(name)[row].as_py() for name in names]
    return [None if value is None else str(value) for value in values]
