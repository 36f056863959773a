"""Draw plans: what a synthesis is asked for, as the latents and the possible records of every index.

Plain draws, a condition, equal classes, variations of given records, the way between two of them, and the missing cells
of a table. Every plan is a function of the index alone, so draws stay addressed by (seed, index, attempt).

Shape legend: N draws, R given records or classes, Z latent size, C condition features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import torch
from torch import Tensor

from difflm.diffusion.conditional import ConditionalPrior
from difflm.diffusion.priors import DiffusionPrior
from difflm.errors import BundleError, ConfigError, DataError
from difflm.records.kinds.codes import Allowed, IntervalSet, Restriction, column_codes, whole_domain
from difflm.records.kinds.literals import NULL, column_literals, value_literal
from difflm.records.relations.given import completed
from difflm.records.schema import BooleanField, CategoricalField, Field, RecordSchema, TextField
from difflm.synthesis.bundle import Bundle, encode_table
from difflm.synthesis.grammar.constraint import Cells, RecordSet
from difflm.synthesis.plans.conditions import Condition
from difflm.synthesis.plans.latent_sources import (
    ConditionedLatents,
    LatentSource,
    PathLatents,
    PriorLatents,
    VariedLatents,
)

NO_CONDITIONAL = (
    "the bundle has no conditional prior, so other columns would not follow a condition; "
    "run the experiment again with --set conditions.enabled=true (in Python config={'conditions.enabled': True})"
)
NO_FLOW = (
    "variations and ways between records need a diffusion prior; run the experiment again with prior.kind=diffusion"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawPlan:
    """Where the latents of an index come from and which records it may become.

    Without latents its prompt is the empty one: the decoder writes what is asked for first, and the rest from that.
    `plain` ones ask for nothing, so that rows are distributed as in the table.
    """

    latents: LatentSource | None
    records: RecordSet
    plain: bool = False


class DrawPlans:
    """The plans that one bundle can follow; `device` is where records are decoded."""

    def __init__(self, bundle: Bundle, *, text_tokens: int, device: torch.device | str = "cpu") -> None:
        self.bundle, self.text_tokens, self.device = bundle, text_tokens, torch.device(device)

    def plain(self) -> DrawPlan:
        """Plan records from the prior, without a condition."""
        return DrawPlan(latents=PriorLatents(prior=self.bundle.prior), records=RecordSet(), plain=True)

    def where(self, condition: Condition) -> DrawPlan:
        """Plan records that satisfy a condition, the other columns distributed as among such records."""
        if not condition.allowed:  # it holds for every record
            return self.plain()
        first = self._rarest_first(condition.allowed)
        if plan := self._without_conditional(RecordSet(restriction=condition.allowed, first=first)):
            return plan
        prior = self._conditional()
        features_C = prior.bins.features(condition.allowed)
        return DrawPlan(
            latents=ConditionedLatents(prior=prior, features=lambda indices: features_C.expand(len(indices), -1)),
            records=RecordSet(restriction=condition.allowed),
        )

    def balanced(self, column: str, condition: Condition | None = None) -> DrawPlan:
        """Plan equally many records of every value of a column: index i gets value i modulo their number.

        Raises ConfigError for a column that is neither categorical nor boolean. Missing is no value.
        """
        field = balanced_field(self.bundle.schema, column)
        place = self.bundle.schema.names.index(column)
        allowed = dict(condition.allowed) if condition is not None else {}
        codes = list(allowed.get(column, whole_domain(field)).codes)
        if not codes:
            raise ConfigError(
                f"condition {condition.text if condition else ''!r} leaves {column!r} no value to balance"
            )
        literals = [
            value_literal(field, field.values[code] if isinstance(field, CategoricalField) else bool(code))
            for code in codes
        ]

        def cells(index: int) -> Cells:
            return {place: literals[index % len(literals)]}

        others = {name: left for name, left in allowed.items() if name != column}
        records = RecordSet(restriction=others, cells=cells, first=self._rarest_first(others))
        if plan := self._without_conditional(records):
            return plan
        classes = [allowed | {column: Allowed(codes=IntervalSet.points([code]), null=False)} for code in codes]
        prior = self._conditional()
        features_RC = torch.stack([prior.bins.features(restriction) for restriction in classes])
        return DrawPlan(
            latents=ConditionedLatents(
                prior=prior, features=lambda indices: features_RC[[index % len(codes) for index in indices]]
            ),
            records=RecordSet(restriction=allowed, cells=cells),
        )

    def varied(self, table: pa.Table, *, strength: float) -> DrawPlan:
        """Plan variations of a normalised table's records, by turns; `strength` from 0 (decoded anew) to 1 (the prior).

        Raises BundleError for a prior that is no diffusion, ConfigError for a strength that is no share.
        """
        if not 0.0 <= strength <= 1.0:
            raise ConfigError(f"strength is {strength}; give a number from 0 (the record) to 1 (nothing left of it)")
        prior, latents_RZ = self._diffusion(), self._latents(table)
        return DrawPlan(
            latents=VariedLatents(prior=prior, latents_RZ=latents_RZ, strength=strength),
            records=RecordSet(),
        )

    def path(self, table: pa.Table, *, count: int) -> DrawPlan:
        """Plan `count` records from the first to the second of a normalised table; see `variations.between`."""
        if len(table) != 2:
            raise DataError(f"a way leads from one record to another; the table has {len(table)} rows, give 2")
        prior, latents_2Z = self._diffusion(), self._latents(table)
        return DrawPlan(
            latents=PathLatents(prior=prior, first_Z=latents_2Z[0], last_Z=latents_2Z[1], count=count),
            records=RecordSet(),
        )

    def imputed(self, table: pa.Table, columns: Sequence[str] | None = None) -> DrawPlan:
        """Plan record i modulo R of a table with its missing cells filled in and all others unchanged.

        `table` is normalised but for missing cells, which may stand in any column; `columns` names those to fill in
        (all by default). The missing cells are drawn from their distribution given the known ones.
        """
        schema = self.bundle.schema
        wanted = set(schema.names) if columns is None else {column_field(schema, name).name for name in columns}
        known = _KnownCells.of(completed(table, schema, wanted), schema.fields, wanted)
        self._check_texts(known)
        present = {
            field.name: Allowed(codes=whole_domain(field).codes, null=False)
            for field in schema.fields
            if field.name in wanted and field.nullable
        }

        def cells(index: int) -> Cells:
            return known.cells(index % len(table))

        if plan := self._without_conditional(RecordSet(restriction=present, cells=cells, first=())):
            return plan
        prior = self._conditional()

        def features(indices: Sequence[int]) -> Tensor:
            return torch.stack([prior.bins.features(known.restriction(index % len(table))) for index in indices])

        records = RecordSet(restriction=present, cells=cells)
        return DrawPlan(latents=ConditionedLatents(prior=prior, features=features), records=records)

    def _check_texts(self, known: _KnownCells) -> None:
        """Check that every given text fits into the tokens that a text may take: it is not cut."""
        tokenizer = self.bundle.parts.tokenizer
        for place, field in enumerate(self.bundle.schema.fields):
            texts = known.literals[place] if isinstance(field, TextField) else ()
            for row, text in enumerate(texts):
                tokens = 0 if text is None else len(tokenizer.literal_ids(place, text)) - 2
                if tokens > self.text_tokens:
                    raise ConfigError(
                        f"row {row}, column {field.name!r}: its text has {tokens} tokens, sampling.text_tokens allows "
                        f"{self.text_tokens}; raise it to {tokens}"
                    )

    def _latents(self, table: pa.Table) -> Tensor:
        bundle = self.bundle
        parts = encode_table(bundle.autoencoder, bundle.parts, bundle.shape, table, bundle.schema, device=self.device)
        return torch.cat([posterior.mean_BZ for posterior in parts])

    def _without_conditional(self, records: RecordSet) -> DrawPlan | None:
        """Plan records that the decoder writes with what is given first, or of whose one column nothing else follows.

        Return None where it takes a conditional prior.
        """
        if self.bundle.parts.any_order:
            return DrawPlan(latents=None, records=records)
        if len(self.bundle.schema.fields) == 1:
            return DrawPlan(latents=PriorLatents(prior=self.bundle.prior), records=replace(records, first=None))
        return None

    def _rarest_first(self, allowed: Restriction) -> tuple[int, ...]:
        """Return the places of restricted fields, those first that leave least of their column.

        What a field is drawn as does not know of the restrictions that follow it, so what rules out most comes first.
        """
        schema = self.bundle.schema
        left = {
            schema.names.index(name): kept.codes.size / max(1, whole_domain(schema.field(name)).codes.size)
            for name, kept in allowed.items()
        }
        return tuple(sorted(left, key=lambda place: (left[place], place)))

    def _conditional(self) -> ConditionalPrior:
        if self.bundle.conditional is None:
            raise BundleError(NO_CONDITIONAL)
        return self.bundle.conditional

    def _diffusion(self) -> DiffusionPrior:
        if not isinstance(self.bundle.prior, DiffusionPrior):
            raise BundleError(NO_FLOW)
        return self.bundle.prior


def balanced_field(schema: RecordSchema, column: str) -> CategoricalField | BooleanField:
    """Return the field of a column that has classes. Raises ConfigError naming the column and its kind."""
    field = column_field(schema, column)
    if isinstance(field, CategoricalField | BooleanField):
        return field
    raise ConfigError(f"column {column!r} is {field.kind}; only categories and booleans can be balanced")


def column_field(schema: RecordSchema, name: str) -> Field:
    """Return the field of a column. Raises ConfigError naming the existing columns."""
    for field in schema.fields:
        if field.name == name:
            return field
    raise ConfigError(f"there is no column {name!r}; columns are {', '.join(map(repr, schema.names))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownCells:
    """The given cells of a table's rows: by column, codes and literals, None where a cell is to be filled in."""

    fields: Sequence[Field]
    codes: Sequence[Sequence[int | None]]
    literals: Sequence[Sequence[str | None]]
    wanted: frozenset[str]

    @classmethod
    def of(cls, table: pa.Table, fields: Sequence[Field], wanted: set[str]) -> _KnownCells:
        codes = [column_codes(field, table.column(place)) for place, field in enumerate(fields)]
        literals: list[list[str | None]] = []
        for place, field in enumerate(fields):
            column = column_literals(field, table.column(place))
            if field.name not in wanted and not field.nullable and NULL in column:
                row = column.index(NULL)
                raise DataError(f"row {row}, column {field.name!r}: missing, which training never had; fill it in too")
            literals.append([None if text == NULL and field.name in wanted else text for text in column])
        return cls(fields=fields, codes=codes, literals=literals, wanted=frozenset(wanted))

    def cells(self, row: int) -> Cells:
        return {place: text for place, column in enumerate(self.literals) if (text := column[row]) is not None}

    def restriction(self, row: int) -> Restriction:
        allowed: dict[str, Allowed] = {}
        for field, column, literals in zip(self.fields, self.codes, self.literals, strict=True):
            code = column[row]
            if literals[row] is None:
                allowed[field.name] = Allowed(codes=whole_domain(field).codes, null=False)
            else:
                codes = IntervalSet() if code is None else IntervalSet.points([code])
                allowed[field.name] = Allowed(codes=codes, null=code is None)
        return allowed
