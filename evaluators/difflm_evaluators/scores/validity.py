"""Validity: do the rows fit the schema that was fitted on the training split, and how many draws did it take.

A row conforms when each value is one the schema allows: a category seen in training, a number inside the training
range and with no more decimals than printed, a date in range, text no longer than the longest seen, a missing value
only where training had some. Unseen real rows do not always conform (their extremes may lie outside), so the test
split's share stands beside. Streaming is exact.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm.errors import DataError
from difflm.records.codec import RejectionReason
from difflm.records.kinds.codes_of_form import is_of_form
from difflm.records.kinds.moments import field_moment
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
    JsonField,
    RecordSchema,
    TextField,
)
from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.cell_numbers import timestamp
from difflm_evaluators.columns.columns import Column, Columns, constant_label
from difflm_evaluators.columns.labels import Labels
from difflm_evaluators.columns.streaming import NO_ROWS, fingerprint, require_same

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisAccount:
    """What the synthesis counted: rows asked for and emitted, draws tried, draws rejected by reason."""

    rows_asked: int
    rows_emitted: int
    attempts: int
    rejections: Mapping[str, int]


class StreamingValidity:
    """Counts of rows that fit the schema, and of faults by column and reason."""

    def __init__(self, schema: RecordSchema, baseline: float | None) -> None:
        self._schema = schema
        self._baseline = baseline
        self._rows = 0
        self._conforming = 0
        self._faults: Counter[tuple[str, RejectionReason]] = Counter()

    @classmethod
    def fit(cls, schema: RecordSchema, test: Columns | None) -> "StreamingValidity":
        """Measure the real test split, if there is one."""
        if test is None:
            return cls(schema, None)
        real = cls(schema, None)
        real.update(test)
        return cls(schema, real._share())

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._rows

    def fresh(self) -> "StreamingValidity":
        """Make the same evaluator without the rows seen."""
        return StreamingValidity(self._schema, self._baseline)

    def update(self, batch: Columns) -> None:
        """Count a batch."""
        rows = len(next(iter(batch.values())))
        bad_N = np.zeros(rows, dtype=bool)
        for field in self._schema.fields:
            for reason, fault_N in column_faults(batch[field.name], field).items():
                self._faults[field.name, reason] += int(fault_N.sum())
                bad_N |= fault_N
        self._rows += rows
        self._conforming += rows - int(bad_N.sum())

    def merge(self, other: "StreamingValidity") -> None:
        """Take over the counts of `other`."""
        prints = [fingerprint(one._schema.model_dump_json(), str(one._baseline)) for one in (self, other)]
        require_same("validity", *prints)
        self._rows += other._rows
        self._conforming += other._conforming
        self._faults.update(other._faults)

    def result(self, account: SynthesisAccount | None = None) -> Evaluation:
        """Score the share of rows that fit the schema and, given an account, that of draws that were valid."""
        score = Score(
            name="conforming_share",
            title="Rows that fit the schema",
            meaning="Share of rows whose every value is a known category or in range, missing only where it may be.",
            value=self._share() if self._rows else None,
            undefined_because=None if self._rows else NO_ROWS,
            unit="%",
            direction="higher",
            bounds=(0.0, 100.0),
            ideal=100.0,
            baseline=self._baseline,
            baseline_label=TEST_LABEL if self._baseline is not None else None,
        )
        details: dict[str, JSON] = {"faults": self._faults_by_column()}
        if account is None:
            return Evaluation(name="validity", scores=(score,), details=details)
        details["account"] = {
            "rows_asked": account.rows_asked,
            "rows_emitted": account.rows_emitted,
            "attempts": account.attempts,
            "rejections": dict(account.rejections),
        }
        return Evaluation(name="validity", scores=(draws_score(account), score), details=details)

    def _share(self) -> float:
        return 100 * self._conforming / self._rows

    def _faults_by_column(self) -> dict[str, JSON]:
        columns: dict[str, JSON] = {}
        for name in self._schema.names:
            found: dict[str, JSON] = {
                reason: count for (column, reason), count in sorted(self._faults.items()) if column == name
            }
            if found:
                columns[name] = found
        return columns


def evaluate_validity(
    synthetic: Columns, test: Columns | None, schema: RecordSchema, account: SynthesisAccount | None
) -> Evaluation:
    """Score the share of synthetic rows that fit the schema and, given an account, that of draws that were valid."""
    streaming = StreamingValidity.fit(schema, test)
    streaming.update(synthetic)
    return streaming.result(account)


HELD_BACK = "privacy"
"""The reason (`difflm.synthesis.draws.PRIVACY`) of draws that were valid, and too near to training rows."""


def draws_score(account: SynthesisAccount) -> Score:
    """Score the share of draws that were valid; DataError for an account that cannot be."""
    counts = (account.rows_asked, account.rows_emitted, account.attempts, *account.rejections.values())
    if min(counts) < 0 or account.rows_emitted > account.attempts:
        raise DataError(
            f"synthesis account: {account.rows_emitted} rows from {account.attempts} attempts, smallest count "
            f"{min(counts)}; counts are not negative and every row takes an attempt"
        )
    tried = account.attempts > 0
    valid = account.rows_emitted + account.rejections.get(HELD_BACK, 0)
    return Score(
        name="valid_draw_share",
        title="Valid draws",
        meaning="Share of generated records that were valid at the first look; the others were drawn again.",
        value=100 * min(valid, account.attempts) / account.attempts if tried else None,
        undefined_because=None if tried else "the account counts no attempts",
        unit="%",
        direction="higher",
        bounds=(0.0, 100.0),
        ideal=100.0,
    )


def column_faults(column: Column, field: Field) -> dict[RejectionReason, BoolArray]:
    """Return, per reason that occurs, a mask of the rows at fault."""
    missing_N = column.missing_N
    faults: dict[RejectionReason, BoolArray] = {}
    words = field.words if isinstance(field, IntegerField | DecimalField | DatetimeField) else ()
    if not field.nullable and not words:  # a word has no number, as a missing value has none
        faults["missing"] = missing_N
    match field:
        case IntegerField():
            faults["range"] = _outside(column, field.minimum, field.maximum, field.points)
            faults["type"] = ~missing_N & (column.numbers_N != np.round(column.numbers_N))
        case DecimalField():
            faults |= _decimal_faults(column, field)
        case DatetimeField():
            first, last, *points = (
                timestamp(field_moment(field, text), field.name)
                for text in (field.minimum, field.maximum, *field.points)
            )
            faults["range"] = _outside(column, first, last, points)
        case CategoricalField():
            faults["category"] = _unknown(column, set(field.values))
        case BooleanField():
            faults["type"] = _unknown(column, {field.true_text, field.false_text})
        case IdentifierField():
            pass
        case CodeField():
            known = Labels.of(column.labels_N)
            faults["category"] = known.lookup(
                lambda text: int(text is not None and not is_of_form(field.shapes, text))
            ).astype(bool)
        case TextField() | JsonField():
            faults["length"] = ~missing_N & (np.nan_to_num(column.numbers_N) > field.max_characters)
        case ConstantField():
            faults["constant"] = _unknown(column, {constant_label(field.value)})
    return {reason: fault_N for reason, fault_N in faults.items() if fault_N.any()}


def _outside(column: Column, low: float, high: float, points: Sequence[float]) -> BoolArray:
    outside_N = (column.numbers_N < low) | (column.numbers_N > high)
    return outside_N & ~np.isin(column.numbers_N, list(points)) if points else outside_N


def _decimal_faults(column: Column, field: DecimalField) -> dict[RejectionReason, BoolArray]:
    """Check range and decimals, both after rounding to what is printed, and with the slack of a float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        units_N = column.numbers_N / 10.0**field.exponent
        rounded_N = np.round(units_N, field.decimals)
        slack_N = 4 * np.spacing(np.abs(units_N))
    low, high = (bound / 10.0**field.exponent for bound in (field.minimum, field.maximum))
    half = 0.5 * 10.0**-field.decimals
    present_N = ~column.missing_N
    return {
        "range": present_N
        & ((units_N < low - half) | (units_N > high + half))
        & ~np.isin(column.numbers_N, field.points),
        "decimals": present_N & (np.abs(units_N - rounded_N) > slack_N),
    }


def _unknown(column: Column, known: set[str]) -> BoolArray:
    return Labels.of(column.labels_N).lookup(lambda text: int(text is not None and text not in known)).astype(bool)
