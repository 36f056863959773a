"""What a synthesis is asked for, as text that travels to the workers: conditions, balance, given records."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from difflm.config import Config
from difflm.errors import BundleError, ConfigError, DataError
from difflm.printable import printable
from difflm.records.codec import NormalizedTable
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.columns import arrow_schema, conform_column
from difflm.records.normalizing import normalize_column
from difflm.records.relations.constraints import asked_rules
from difflm.records.relations.given import implied
from difflm.records.relations.model import Relations
from difflm.records.schema import Field as RecordField
from difflm.records.schema import RecordSchema
from difflm.synthesis.bundle import CONDITIONAL_FOLDER, writes_in_any_order
from difflm.synthesis.plans.condition_values import known_values
from difflm.synthesis.plans.conditions import Condition, parse_condition
from difflm.synthesis.plans.draw_plans import NO_CONDITIONAL, NO_FLOW, DrawPlan, DrawPlans, balanced_field, column_field


class Vary(Config):
    """Variations of each record by turns: noise is added to its latent up to a level, and taken away again."""

    kind: Literal["vary"] = "vary"
    strength: float = Field(ge=0, le=1, allow_inf_nan=False, description="0 is the record, 1 any record")


class Between(Config):
    """`count` records on the way from the first given record to the second."""

    kind: Literal["between"] = "between"
    count: int = Field(ge=1)


class Impute(Config):
    """Every record with its missing cells filled in: those of `columns`, or all."""

    kind: Literal["impute"] = "impute"
    columns: tuple[str, ...] | None = Field(default=None, strict=False)  # JSON has no tuples


Use = Annotated[Vary | Between | Impute, Field(discriminator="kind")]


class GivenRecords(Config):
    """What is done with the given records, and the hash of them: other records make another job."""

    use: Use
    sha256: str


def nearest_table(table: pa.Table, schema: RecordSchema, *, name: str) -> NormalizedTable:
    """Return the given records as the schema can write them, with notices of the changes.

    Raises:
        DataError: a column is missing; the message begins with `name`.
    """
    _same_columns(table, schema.names, name, exactly=False)
    return JsonRecordCodec(schema).normalize_table(table)


def nearest_told(table: pa.Table, schema: RecordSchema, *, name: str) -> pa.Table:
    """Return what `nearest_table` does; every change is a warning of whoever called the Python API."""
    nearest = nearest_table(table, schema, name=name)
    for notice in nearest.notices:
        told = printable(f"{name}: column {notice.column!r}: {notice.message}")
        warnings.warn(told, RuntimeWarning, stacklevel=3)
    return nearest.table


def table_with_gaps(table: pa.Table, schema: RecordSchema, *, name: str) -> pa.Table:
    """Return the given records in canonical types. Only cells may be missing: no value is changed or left out, but of
    protected columns. There training may have had a value that the schema does not tell, and what is filled in follows
    the nearest one; a rare category counts as missing. The cells themselves are written as given (`kept_cells`).

    Raises:
        DataError: a column is missing or unknown, or a cell holds what training never saw; the message begins with
            `name` and gives row, column and value.
    """
    _same_columns(table, schema.names, name, exactly=True)
    told = schema.names if schema.protected is None else schema.protected.unprotected
    columns = [_exact(table.column(field.name), field, name, told=field.name in told) for field in schema.fields]
    return pa.Table.from_arrays(columns, schema=arrow_schema(schema))


def _exact(given: pa.ChunkedArray, field: RecordField, name: str, *, told: bool) -> pa.ChunkedArray:
    """Return the cells as the schema writes them; `told` says whether it tells all values of training."""
    conformed = conform_column(given, field)
    nearest = normalize_column(conformed, field)
    lost = pc.and_(pc.is_valid(given), pc.is_null(conformed))
    moved = pc.and_(pc.is_valid(conformed), pc.fill_null(pc.not_equal(nearest, conformed), True))
    row = pc.index(pc.or_(lost, moved) if told else lost, True).as_py()
    if row >= 0:
        value = str(given[row].as_py())[:60]
        raise DataError(
            f"{name}: row {row}, column {field.name!r}: {value!r} is nothing that the bundle can write "
            f"({known_values(field)}); correct it, or empty the cell to have it filled in"
        )
    return conformed if told else pc.if_else(pc.is_valid(conformed), nearest, pa.scalar(None, conformed.type))


def _same_columns(table: pa.Table, wanted: Sequence[str], name: str, *, exactly: bool) -> None:
    absent = [column for column in wanted if column not in table.column_names]
    if absent:
        raise DataError(
            f"{name}: no column {absent[0]!r}; the bundle has {', '.join(map(repr, wanted))}, give them all"
        )
    unknown = [column for column in table.column_names if column not in wanted]
    if exactly and unknown:
        raise DataError(
            f"{name}: the bundle knows no column {unknown[0]!r}; leave it out, the rows that come back keep their order"
        )


class PlanRequest(Config):
    """Records that satisfy a condition, in equal numbers for every value of a column, or made of given ones; none of
    them means plain draws. All of them keep the `constraints` beside the relations of the schema.
    """

    where: str | None = None
    balance: str | None = None
    given: GivenRecords | None = None
    constraints: tuple[str, ...] = Field(
        default=(),
        strict=False,
        exclude_if=lambda constraints: not constraints,  # jobs of before have none
    )

    def check(self, bundle: Path, schema: RecordSchema) -> None:
        """Refuse what no record satisfies, and what the bundle does not support, without loading it.

        Raises:
            ConfigError: an expression that cannot be read, an unknown column, no value left, or a condition on records
                that are made of given ones.
            BundleError: the bundle has no conditional prior, or no diffusion.
        """
        if self.given is not None and (self.where is not None or self.balance is not None):
            raise ConfigError("records made of given ones take neither a condition nor a column to balance; drop one")
        condition = self._condition(schema)
        self.relations(schema)
        if self.balance is not None:
            balanced_field(schema, self.balance)
        use = None if self.given is None else self.given.use
        if isinstance(use, Impute):
            for column in use.columns or ():
                column_field(schema, column)
        restricted = self.balance is not None or (condition is not None and condition.allowed)
        able = (bundle / CONDITIONAL_FOLDER).is_dir() or writes_in_any_order(bundle) or len(schema.fields) == 1
        if (restricted or isinstance(use, Impute)) and not able:
            raise BundleError(f"{bundle}: {NO_CONDITIONAL}")
        if isinstance(use, Vary | Between) and _prior_kind(bundle) != "diffusion":
            raise BundleError(f"{bundle}: {NO_FLOW}")

    def plan(self, plans: DrawPlans, given: pa.Table | None = None) -> DrawPlan:
        """Make the plan for a loaded bundle; `given` are the records that `self.given` describes."""
        if self.given is not None:
            assert given is not None
            match self.given.use:
                case Vary(strength=strength):
                    return plans.varied(given, strength=strength)
                case Between(count=count):
                    return plans.path(given, count=count)
                case Impute(columns=columns):
                    return plans.imputed(given, columns)
        condition = self._condition(plans.bundle.schema)
        if self.balance is not None:
            return plans.balanced(self.balance, condition)
        return plans.plain() if condition is None else plans.where(condition)

    def relations(self, schema: RecordSchema) -> Relations:
        """Return what the records keep. Raises ConfigError for a constraint that cannot be used."""
        kept = schema.relations.kept
        return Relations(kept=(*asked_rules(self.constraints, schema, beside=kept), *kept))

    def _condition(self, schema: RecordSchema) -> Condition | None:
        if self.where is None:
            return None
        condition = parse_condition(self.where, schema)
        try:
            allowed = implied(condition.allowed, schema, self.relations(schema))
        except ConfigError as error:
            raise ConfigError(f"condition {self.where!r}: {error}") from None
        return Condition(text=condition.text, allowed=allowed)


def _prior_kind(bundle: Path) -> object:
    return json.loads((bundle / "prior" / "prior.json").read_text()).get("kind")
