"""Inference: the schema of a table from its training split alone, without hand-written metadata."""

import difflib

import pyarrow as pa

from difflm.errors import DataError, SchemaError
from difflm.records.kinds.column_inference import infer_column
from difflm.records.kinds.distinct_values import Column
from difflm.records.notices import Notice
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    RecordSchema,
    SchemaConfig,
    Task,
    TextField,
)


def infer_schema(table: pa.Table, *, target: str | None = None, config: SchemaConfig | None = None) -> RecordSchema:
    """Infer the schema of `table`, which must be the training split and nothing else.

    Text columns are tested for whole numbers, decimals, booleans, dates, categories and free text, in that order.
    Typed columns keep their type. DataError for an empty table, a column without values, or an unusable target.
    """
    config = config or SchemaConfig()
    _check_table(table, target, config)
    notices: list[Notice] = []
    fields: list[Field] = []
    for name in table.column_names:
        column = table.column(name)
        if column.null_count == len(column):
            notices.append(_all_missing(name, len(column), config))
            continue
        fields.append(
            infer_column(
                Column.of(name, column),
                config,
                kind=config.kinds.get(name, "ordinal" if name in config.orders else None),
                report=notices.append,
                target=name == target,
            )
        )
    if not fields:
        raise DataError("no column has a value; give a table with data")
    task = None if target is None else _task(fields, target, config)
    return RecordSchema(
        fields=tuple(fields), target=target, task=task, row_count=table.num_rows, notices=tuple(notices)
    )


def _check_table(table: pa.Table, target: str | None, config: SchemaConfig) -> None:
    names = table.column_names
    if table.num_rows == 0 or not names:
        raise DataError(f"the table has {table.num_rows} rows and {len(names)} columns; at least one of each is needed")
    if len(set(names)) != len(names):
        raise DataError(f"column names are not unique: {sorted({n for n in names if names.count(n) > 1})}; rename them")
    known = ", ".join(map(repr, names))
    if target is not None and target not in names:
        raise DataError(f"the table has no column {target!r}; it has {known}")
    for key, columns in (("kinds", config.kinds), ("orders", config.orders)):
        for wanted in columns:
            if wanted not in names:
                close = difflib.get_close_matches(wanted, names, n=1)
                remedy = f"did you mean {close[0]!r}?" if close else f"it has {known}"
                raise DataError(f"schema.{key}: the table has no column {wanted!r}; {remedy}")


def _all_missing(name: str, rows: int, config: SchemaConfig) -> Notice:
    if not config.drop_all_missing:
        raise DataError(f"column {name!r} has no value in {rows} training rows; drop it, or set drop_all_missing: true")
    return Notice(column=name, code="dropped", count=rows, message="left out: it has no value in the training split")


def _task(fields: list[Field], target: str, config: SchemaConfig) -> Task:
    field = next((field for field in fields if field.name == target), None)
    match field:
        case CategoricalField() | BooleanField():
            task: Task = "classification"
        case IntegerField():
            task = "classification" if field.distinct <= config.class_limit else "regression"
        case DecimalField():
            task = "regression"
        case ConstantField():
            raise DataError(f"target {target!r} is {field.value!r} in every training row; choose another target")
        case TextField() | DatetimeField() | CodeField() | IdentifierField():
            raise DataError(
                f"target {target!r} is {field.kind}, which is neither a class nor a number; choose another target"
            )
        case None:
            raise DataError(f"target {target!r} has no value in the training split; choose another target")
    if config.task == "regression" and not isinstance(field, IntegerField | DecimalField):
        raise SchemaError(f"task is regression, but target {target!r} is {field.kind}; set task: classification")
    return config.task or task
