"""What Python and the command line call: score tables against real ones, and compare reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import pyarrow as pa

from difflm.config import validate
from difflm.errors import ConfigError, DataError
from difflm.records.databases.urls import is_database, shown_source
from difflm.records.files.paths import ending_of
from difflm.records.files.reading import ReadConfig
from difflm.records.frames.frames import Frame, is_path, to_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import ignore
from difflm.records.schema import RecordSchema, SchemaConfig
from difflm.records.text_codec import code_of_table, read_code
from difflm.records.text_files import JSON_ENDINGS, read_tools
from difflm.records.tool_codec import KEYS
from difflm.regular_files import given_path
from difflm_evaluators.columns.plain_values import plainly_read
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.report.comparison_report import Comparison, compare_reports
from difflm_evaluators.report.layout import read_report
from difflm_evaluators.report.report import Report
from difflm_evaluators.texts.evaluation import TextScoring, evaluate_code_table, evaluate_tool_table
from difflm_evaluators.texts.text_scores import CopiesConfig

Kind: TypeAlias = Literal["table", "tools", "code"]
Settings: TypeAlias = EvaluationConfig | CopiesConfig | Mapping[str, Any]
ConfigT = TypeVar("ConfigT", EvaluationConfig, CopiesConfig)
Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTable:
    """A table, and what errors about it call it: its file, or the argument that it was given as."""

    name: str
    table: pa.Table


def evaluate(
    synthetic: Frame | str | Path,
    *,
    train: Frame | str | Path,
    test: Frame | str | Path | None = None,
    target: str | None = None,
    schema: RecordSchema | None = None,
    config: Settings | None = None,
    kind: Kind = "table",
) -> Report:
    """Score synthetic rows against the real ones that they were made from.

    Each table is a pandas or polars DataFrame, an Arrow table, the path of a file, or the URL of a table in a database.
    `test` holds real rows that the generator never saw; without them what needs unseen rows is undefined. `target` is
    the column to predict, `schema` that of the real table; without one it is inferred from `train`. `config` says what
    to evaluate: an `EvaluationConfig` (of tools and code a `CopiesConfig`), or a mapping of its keys.

    Tools have the columns `difflm.records.tool_codec.KEYS`; code has the column `code`, or is a folder of Python files.

    Examples:
        >>> import pyarrow as pa
        >>> real = pa.table({"age": [20 + row % 40 for row in range(200)], "job": ["cook", "pilot"] * 100})
        >>> only_shape = dict.fromkeys("detection fidelity utility privacy membership attacks projection".split())
        >>> report = evaluate(real.slice(0, 100), train=real, config=only_shape)
        >>> round(report.score("shape_error").value, 6)  # percent
        5.0
        >>> [column["name"] for column in report.worst_columns]
        ['age']

    Raises:
        DataError: something is no table, cannot be read, or has other columns than `train`.
        ConfigError: the configuration, the kind or the target cannot be; says what can.
    """
    target = None if target is None else str(target)  # a label of pandas may be a number
    if kind not in get_args(Kind):
        raise ConfigError(f"kind={kind!r}: unknown; give {', '.join(get_args(Kind))}")
    if kind != "table" and (target is not None or schema is not None):
        raise ConfigError(f"kind={kind!r}: records of {kind} have no target and no schema; leave both out")
    if schema is not None and target is not None and target != schema.target:
        raise ConfigError(f"target={target!r}: the schema's target is {schema.target!r}; leave one of the two out")
    made, real, unseen = (
        _named(given, name, kind) for given, name in ((synthetic, "synthetic"), (train, "train"), (test, "test"))
    )
    if made is None or real is None:
        raise DataError(f"{'synthetic' if made is None else 'train'}: None is no table; only test may be left out")
    if kind == "table":
        settings = _settings(EvaluationConfig, config)
        report = evaluate_named(made, real, unseen, target=target, schema=schema, config=settings)
    else:
        splits = RealSplits(train=real.table, test=None if unseen is None else unseen.table)
        score = evaluate_code_table if kind == "code" else evaluate_tool_table
        report = score(made.table, splits, TextScoring(copies=_settings(CopiesConfig, config)))
    return replace(report, title=f"{made.name} against {real.name}") if is_path(synthetic) else report


def compare(reports: Mapping[str, Report | str | Path]) -> Comparison:
    """Compare reports of one table, by label; the first is what the others are tested against.

    Each is a `Report`, the path of a report.json, or of a folder that holds one.

    Examples:
        >>> import pyarrow as pa
        >>> real = pa.table({"age": [20 + row % 40 for row in range(200)]})
        >>> only_shape = dict.fromkeys("detection fidelity utility privacy membership attacks projection".split())
        >>> halves = {"first": real.slice(0, 100), "all": real}
        >>> reports = {name: evaluate(rows, train=real, config=only_shape) for name, rows in halves.items()}
        >>> comparison = compare(reports)
        >>> [comparison.labels[place] for place in comparison.scores[1].best]
        ['all']

    Raises:
        DataError: fewer than two reports, a file that is none, or reports of different tables.
        ConfigError: no mapping, or a label that is no text.
    """
    if not _labelled(reports):
        raise ConfigError(
            "reports: give a mapping of labels, which are texts, to reports, such as {'first': one, 'second': other}"
        )
    files = {}
    for label, report in reports.items():
        if isinstance(report, Report):
            files[label] = report.to_file()
        else:
            path = given_path(report, name=f"reports[{label!r}]")
            files[label] = read_report(path / "report.json" if path.is_dir() else path)
    return compare_reports(files)


def evaluate_named(
    synthetic: NamedTable,
    train: NamedTable,
    test: NamedTable | None,
    *,
    target: str | None = None,
    schema: RecordSchema | None = None,
    inference: SchemaConfig | None = None,
    config: EvaluationConfig,
    tell: Tell = lambda _: None,
) -> Report:
    """Score a table by the schema of `train`, inferred with `inference` unless it is given.

    `tell` gets a line for every column of the other tables that `train` lacks, and which is left out, and for values
    that are spelled another way there (see `plainly_read`).

    Raises:
        DataError: a column is missing or has values that do not fit; the message begins with the table's name.
    """
    if target is not None and target not in train.table.column_names:
        known = ", ".join(map(repr, train.table.column_names))
        raise DataError(f"{train.name}: no target column {target!r}; it has {known}; give another name as the target")
    with _naming(synthetic, train, test):
        schema = schema or infer_schema(train.table, target=target, config=inference or SchemaConfig())
    real = _with_columns(train, train, schema, tell)
    made, unseen = (
        None
        if given is None
        else plainly_read(_with_columns(given, train, schema, tell), real, schema, given.name, tell)
        for given in (synthetic, test)
    )
    assert made is not None
    with _naming(synthetic, train, test):
        return evaluate_table(made, RealSplits(train=real, test=unseen), schema, config)


def _labelled(given: object) -> bool:
    return isinstance(given, Mapping) and all(isinstance(label, str) for label in given)


@contextmanager
def _naming(synthetic: NamedTable, train: NamedTable, test: NamedTable | None) -> Iterator[None]:
    """Begin errors about one of the tables with its name; what names no table is about the training table."""
    roles = {"synthetic table": synthetic, "real test table": test}
    try:
        yield
    except DataError as error:
        about = next((table for role, table in roles.items() if table and str(error).startswith(role)), train)
        raise type(error)(f"{about.name}: {error}") from error


def _with_columns(given: NamedTable, train: NamedTable, schema: RecordSchema, tell: Tell) -> pa.Table:
    """Select the columns of the schema, in its order, reporting others; DataError naming those that are not there."""
    absent = [name for name in schema.names if name not in given.table.column_names]
    if absent:
        listed = ", ".join(map(repr, absent))
        whose = "the schema" if given is train else "the training table"
        raise DataError(f"{given.name}: no column {listed}, which {whose} has; give a table with its columns")
    for name in given.table.column_names:
        if name not in train.table.column_names:
            tell(f"{given.name}: column {name!r} is not in the training table, and is left out")
    return given.table.select(list(schema.names))


def _named(given: Frame | str | Path | None, argument: str, kind: Kind) -> NamedTable | None:
    """Read a table of a kind; a file's errors name the file, a frame's the argument."""
    if given is None:
        return None
    name = shown_source(given) if is_path(given) else argument
    of_file = is_path(given) and not is_database(given)
    if kind == "code" and of_file and Path(given).suffix.lower() in ("", ".jsonl", ".json"):
        return NamedTable(name=name, table=read_code(Path(given)))
    if kind == "tools" and of_file and ending_of(Path(given)) in JSON_ENDINGS:
        return NamedTable(name=name, table=read_tools(Path(given), ReadConfig(), ignore))
    table = to_table(given, name=name)
    if kind == "code":
        table = code_of_table(table, name)
    if kind == "tools":
        absent = [key for key in KEYS if key not in table.column_names]
        if absent:
            raise DataError(f"{name}: no column {absent[0]!r}; a table of tools has {', '.join(KEYS)}")
        table = table.select(list(KEYS))
    return NamedTable(name=name, table=table)


def _settings(model: type[ConfigT], given: Settings | None) -> ConfigT:
    if given is None:
        return model()
    if isinstance(given, model):
        return given
    if isinstance(given, Mapping):
        return validate(model, given, "config")
    raise ConfigError(f"config: a {type(given).__name__} is none for this kind; give a {model.__name__} or a mapping")
