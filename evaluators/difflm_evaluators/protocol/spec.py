"""What the published protocol says of a table: which columns are categories, what is predicted, how rows are split.

Kinds are those of `data/Info/*.json` of TabSyn (arXiv 2310.09656), which TabDiff and TabPC take over: whole numbers
that are codes (`PAY_0`, `month`, `Browser`) are categories. Columns are called as the UCI files call them.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import ConfigError, DataError
from difflm.records.kinds.columns import as_text
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema, SchemaConfig, Task
from difflm_evaluators.columns.columns import kind_of

FIRST_SEED = 1234
TRAIN_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolSpec:
    """Kinds and target of a table; a class target is among `categorical`, a target that is a number among `numeric`.

    `name` is that of a table of the protocol, whose published figures stand beside the scores; None for any other.
    `regression_transform` is that of `difflm_evaluators.scores.utility.UtilityConfig`.
    """

    name: str | None = None
    target: str | None
    task: Task | None
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    regression_transform: Literal["none", "log_clip"] = "none"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is scored: numbers, then categories, as the published code orders them."""
        return (*self.numeric, *self.categorical)

    def schema(self, train: pa.Table) -> RecordSchema:
        """Infer the schema of the training table with these kinds.

        Raises:
            DataError: a column is missing, or one that should be numeric is not.
        """
        for name in self.columns:
            require_column(train, name, "real training")
        chosen = train.select([name for name in train.column_names if name in self.columns])
        coded = self.coded(chosen)
        config = SchemaConfig(kinds=dict.fromkeys(coded, "categorical"), task=self.task)
        schema = infer_schema(chosen, target=self.target, config=config)
        for field in schema.fields:
            if field.name in self.numeric and kind_of(field.kind) != "numeric" and field.kind != "constant":
                raise DataError(
                    f"real training table, column {field.name!r} is to be a number but reads as {field.kind}; "
                    "name it among the categorical columns"
                )
        return schema

    def coded(self, train: pa.Table) -> tuple[str, ...]:
        """List the categories that would be read as numbers, dates or text if the kinds did not say otherwise."""
        schema = infer_schema(train, target=None)
        plain = ("categorical", "boolean", "constant")
        return tuple(f.name for f in schema.fields if f.name in self.categorical and f.kind not in plain)


def _spec(
    name: str, target: str, *, categorical: Sequence[str] = (), numeric: Sequence[str], task: Task = "classification"
) -> ProtocolSpec:
    if task == "classification":
        return ProtocolSpec(
            name=name, target=target, task=task, categorical=(*categorical, target), numeric=tuple(numeric)
        )
    return ProtocolSpec(
        name=name,
        target=target,
        task=task,
        categorical=tuple(categorical),
        numeric=(*numeric, target),
        regression_transform="log_clip",
    )


_AMOUNTS = tuple(f"{kind}_AMT{month}" for kind in ("BILL", "PAY") for month in range(1, 7))

DATASETS: Mapping[str, ProtocolSpec] = {
    "adult": _spec(
        "adult",
        "income",
        numeric=("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"),
        categorical=(
            *("workclass", "education", "marital-status", "occupation"),
            *("relationship", "race", "sex", "native-country"),
        ),
    ),
    "default": _spec(
        "default",
        "default.payment.next.month",
        numeric=("LIMIT_BAL", "AGE", *_AMOUNTS),
        categorical=("SEX", "EDUCATION", "MARRIAGE", "PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
    ),
    "shoppers": _spec(
        "shoppers",
        "Revenue",
        numeric=(
            *("Administrative", "Administrative_Duration", "Informational", "Informational_Duration"),
            *("ProductRelated", "ProductRelated_Duration", "BounceRates", "ExitRates", "PageValues", "SpecialDay"),
        ),
        categorical=("Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType", "Weekend"),
    ),
    "magic": _spec(
        "magic",
        "class",
        numeric=(
            *("fLength", "fWidth", "fSize", "fConc", "fConc1"),
            *("fAsym", "fM3Long", "fM3Trans", "fAlpha", "fDist"),
        ),
    ),
    "beijing": _spec(
        "beijing",
        "pm2.5",
        numeric=("DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"),
        categorical=("year", "month", "day", "hour", "cbwd"),
        task="regression",
    ),
}


def named_spec(name: str) -> ProtocolSpec:
    """Return the specification of a table of the protocol; ConfigError with the nearest name for an unknown one."""
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"{name}: no table of the protocol; {hint}there are {', '.join(DATASETS)}; for any other table give --train "
        "and --test instead of a name"
    )


def infer_spec(
    train: pa.Table,
    *,
    target: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
) -> ProtocolSpec:
    """Return the kinds of any table: those given, otherwise as its schema is inferred; free text is left out.

    A target that is a class is a category, also where it is a number.

    Raises:
        ConfigError: a column is asked for as both kinds.
        DataError: a column that is named is not in the table.
    """
    for name in (*categorical, *numeric, *([] if target is None else [target])):
        require_column(train, name, "real training")
    both = sorted(set(categorical) & set(numeric))
    if both:
        raise ConfigError(f"column {both[0]!r} is named as categorical and as numeric; leave one of them out")
    config = SchemaConfig(kinds=dict.fromkeys(categorical, "categorical"))
    schema = infer_schema(train, target=target, config=config)
    kinds = {field.name: kind_of(field.kind) for field in schema.fields}
    if target is not None and schema.task == "classification" and target not in numeric:
        kinds[target] = "category"
    kinds |= dict.fromkeys(numeric, "numeric")
    return ProtocolSpec(
        target=target,
        task=schema.task,
        categorical=tuple(name for name, kind in kinds.items() if kind == "category"),
        numeric=tuple(name for name, kind in kinds.items() if kind == "numeric"),
    )


def require_column(table: pa.Table, name: str, role: str) -> None:
    """Raise a DataError with the nearest name unless the table has this column."""
    if name in table.column_names:
        return
    close = difflib.get_close_matches(name, table.column_names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise DataError(f"{role} table has no column {name!r}; {hint}it has {', '.join(map(repr, table.column_names))}")


def protocol_split(table: pa.Table, spec: ProtocolSpec) -> tuple[pa.Table, pa.Table, int]:
    """Split into 90 % for training and 10 % for testing as the published code does, and return the seed that it took.

    Rows are shuffled with numpy's seed 1234; until every category (of the features) occurs among the training rows,
    they are shuffled again with the next seed. With the rows in the order of the UCI file these are the published
    splits, row for row. Rows without a target must be left out before.

    Raises:
        DataError: fewer than two rows, or a column is missing.
    """
    rows = table.num_rows
    trained = int(rows * TRAIN_SHARE)
    if trained < 1 or trained == rows:
        raise DataError(f"{rows} rows cannot be split into training and test rows; give at least two")
    features = [name for name in spec.categorical if name != spec.target]
    for name in spec.columns:
        require_column(table, name, "real")
    texts = {name: as_text(table.column(name)) for name in features}
    wanted = {name: pc.count_distinct(column, mode="all").as_py() for name, column in texts.items()}
    order_N, seed = np.arange(rows), FIRST_SEED
    while True:
        np.random.RandomState(seed).shuffle(order_N)  # in place: each try goes on from the order of the one before
        train_N = order_N[:trained]
        taken = {name: column.take(pa.array(train_N)) for name, column in texts.items()}
        if all(pc.count_distinct(taken[name], mode="all").as_py() == count for name, count in wanted.items()):
            return table.take(pa.array(train_N)), table.take(pa.array(order_N[trained:])), seed
        seed += 1
        if seed == FIRST_SEED + 1000:
            raise DataError(
                "1,000 shuffles leave some category without a training row; give --train and --test instead"
            )
