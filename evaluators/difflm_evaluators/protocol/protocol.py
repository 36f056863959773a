"""One synthetic table under the published protocol: every figure with its detector, its baseline and printed figures.

The real training rows are what is compared with. A baseline is what real held-out rows get in the synthetic rows'
place; of usefulness, what training on real rows gives. Printed figures stand beside scores of the same definition
only; where there is none, the figure says why.
"""

import importlib.metadata
import importlib.resources
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import xgboost
import yaml

from difflm.errors import DataError
from difflm.telemetry import JSON
from difflm_evaluators.columns.columns import Columns, read_columns
from difflm_evaluators.columns.labels import Labels
from difflm_evaluators.protocol.figures import (
    Figure,
    Printed,
    ProtocolConfig,
    Tables,
    detection_figures,
    distance_figures,
    quality_figures,
    support_figures,
    utility_figures,
)
from difflm_evaluators.protocol.sdmetrics_scores import require_sdmetrics
from difflm_evaluators.protocol.spec import ProtocolSpec, require_column

NO_FIGURES = "no published figures of this table"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolResult:
    """All figures of one synthetic table, and all that is needed to read and repeat them; no rows."""

    spec: ProtocolSpec
    figures: tuple[Figure, ...]
    rows: Mapping[str, int]
    kinds: Mapping[str, str]
    left_out: tuple[str, ...]
    source: str | None
    versions: Mapping[str, str]
    config: ProtocolConfig

    def figure(self, name: str) -> Figure:
        """Return the figure called `name`; KeyError for any other."""
        return {figure.score.name: figure for figure in self.figures}[name]

    def to_json(self) -> dict[str, JSON]:
        """Return the result as plain JSON values."""
        facts: dict[str, Any] = {
            "table": self.spec.name,
            "target": self.spec.target,
            "task": self.spec.task,
            "rows": dict(self.rows),
            "kinds": dict(self.kinds),
            "figures": [asdict(figure) for figure in self.figures],
            "left_out": list(self.left_out),
            "published_source": self.source,
            "versions": dict(self.versions),
            "config": self.config.model_dump(mode="json"),
        }
        return facts


def evaluate_protocol(
    synthetic: pa.Table,
    train: pa.Table,
    test: pa.Table,
    spec: ProtocolSpec,
    config: ProtocolConfig | None = None,
    *,
    progress: Progress = lambda _: None,
) -> ProtocolResult:
    """Score `synthetic` against `train`, with `test` as the rows that were held out.

    `progress(part)` is called before each part. Columns that the specification does not name are left out.

    Raises:
        ConfigError: SDMetrics is not installed.
        DataError: a table has no rows, lacks a column, or holds what its kind cannot.
    """
    require_sdmetrics()
    config = config or ProtocolConfig()
    named = {"synthetic": synthetic, "real training": train, "real test": test}
    for role, table in named.items():
        if table.num_rows < 2:
            raise DataError(f"{role} table has {table.num_rows} rows; give at least two")
        for name in spec.columns:
            require_column(table, name, role)
    schema = spec.schema(train)
    read = [read_columns(table.select(list(schema.names)), schema, role) for role, table in named.items()]
    texts = tuple(name for name, column in read[1].items() if column.kind == "text")
    ordered = [name for name in spec.columns if name not in texts]
    given, real, held_out = ({name: one[name] for name in ordered} for one in _plain_codes(read))
    tables = Tables(synthetic=given, train=real, test=held_out)
    parts: Sequence[tuple[str, Callable[[], tuple[list[Figure], list[str]]]]] = (
        ("shape and trend", lambda: quality_figures(tables, config)),
        ("detection by logistic regression", lambda: detection_figures(tables, "logistic", config)),
        ("detection by XGBoost", lambda: detection_figures(tables, "xgboost", config)),
        ("alpha-precision and beta-recall", lambda: support_figures(tables, config)),
        ("usefulness", lambda: utility_figures(tables, schema, spec, config)),
        ("distances", lambda: distance_figures(tables, config)),
    )
    figures: list[Figure] = []
    left_out = [f"column {name!r} is free text, left out" for name in texts]
    for title, measure in parts:
        progress(title)
        started = time.perf_counter()
        found, notes = measure()
        seconds = round((time.perf_counter() - started) / len(found), 2)
        figures += [replace(figure, seconds=seconds) for figure in found]
        left_out += notes
    published = read_published()
    return ProtocolResult(
        spec=spec,
        figures=tuple(_beside(figure, published, spec.name) for figure in figures),
        rows={role: table.num_rows for role, table in named.items()},
        kinds={name: column.kind for name, column in real.items()},
        left_out=tuple(left_out),
        source=published["source"] if spec.name is not None else None,
        versions={
            "sdmetrics": importlib.metadata.version("sdmetrics"),
            "xgboost": xgboost.__version__,  # its package may be called xgboost-cpu
            "scikit-learn": importlib.metadata.version("scikit-learn"),
        },
        config=config,
    )


def read_published() -> dict[str, Any]:
    """Read the published figures: their `source`, `methods`, and `figures` by table, score and method."""
    text = (importlib.resources.files(__package__) / "published.yaml").read_text(encoding="utf-8")
    published: dict[str, Any] = yaml.safe_load(text)
    return published


def _beside(figure: Figure, published: Mapping[str, Any], table: str | None) -> Figure:
    """Complete the figure with what is printed of the same measure on the same table."""
    if figure.unprinted is not None:
        return figure
    rows = published["figures"].get(table, {}).get(figure.score.name)
    if rows is None:
        return replace(figure, unprinted=NO_FIGURES)
    return replace(figure, printed=tuple(Printed(method=m, value=v, deviation=d) for m, (v, d) in rows.items()))


def _plain_codes(tables: Sequence[Columns]) -> list[Columns]:
    """Return the tables with 1.0 spelled as 1 in categories whose training values are all whole numbers."""
    _, train, _ = tables
    whole = {
        name
        for name, column in train.items()
        if column.kind == "category" and all(_is_whole(text) for text in Labels.of(column.labels_N).values)
    }

    def spell(text: str) -> str:
        head, _, tail = text.partition(".")
        return head if _is_whole(head) and set(tail) <= {"0"} else text

    return [
        {
            name: replace(column, labels_N=Labels.of(column.labels_N).spelled(spell)) if name in whole else column
            for name, column in table.items()
        }
        for table in tables
    ]


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()
