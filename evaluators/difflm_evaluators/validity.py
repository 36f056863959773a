"""Validity: do the rows fit the schema that was fitted on the training split, and how many draws did it take.

A row conforms when each value is one the schema allows: a category seen in training, a number inside the training
range and with no more decimals than printed, a date in range, text no longer than the longest seen, a missing value
only where training had some. Unseen real rows do not always conform (their extremes may lie outside), so the test
split's share stands beside.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm.errors import DataError
from difflm.records.codec import RejectionReason
from difflm.records.dates import parse_datetime
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    RecordSchema,
    TextField,
)
from difflm_evaluators.base import JSON, Evaluation, Score
from difflm_evaluators.columns import Column, Columns, constant_label, timestamp

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisAccount:
    """What the synthesis counted: rows asked for and emitted, draws tried, draws rejected by reason."""

    rows_asked: int
    rows_emitted: int
    attempts: int
    rejections: Mapping[str, int]


def evaluate_validity(
    synthetic: Columns, test: Columns | None, schema: RecordSchema, account: SynthesisAccount | None
) -> Evaluation:
    """Share of synthetic rows that fit the schema and, where an account is given, share of draws that were valid."""
    faults = {field.name: column_faults(synthetic[field.name], field) for field in schema.fields}
    baseline = _conforming(test, schema) if test is not None else None
    score = Score(
        name="conforming_share",
        title="Rows that fit the schema",
        meaning="Share of rows whose every value is a known category or in range, and missing only where it may be.",
        value=100 * float((~_any_fault(faults)).mean()),
        unit="%",
        direction="higher",
        bounds=(0.0, 100.0),
        ideal=100.0,
        baseline=baseline,
        baseline_label="real test split" if baseline is not None else None,
    )
    columns: dict[str, JSON] = {
        name: {reason: int(fault_N.sum()) for reason, fault_N in reasons.items()}
        for name, reasons in faults.items()
        if reasons
    }
    details: dict[str, JSON] = {"faults": columns}
    if account is None:
        return Evaluation(name="validity", scores=(score,), details=details)
    details["account"] = {
        "rows_asked": account.rows_asked,
        "rows_emitted": account.rows_emitted,
        "attempts": account.attempts,
        "rejections": dict(account.rejections),
    }
    return Evaluation(name="validity", scores=(_draws_score(account), score), details=details)


def _draws_score(account: SynthesisAccount) -> Score:
    counts = (account.rows_asked, account.rows_emitted, account.attempts, *account.rejections.values())
    if min(counts) < 0 or account.rows_emitted > account.attempts:
        raise DataError(
            f"synthesis account: {account.rows_emitted} rows from {account.attempts} attempts, smallest count "
            f"{min(counts)}; counts are not negative and every row takes an attempt"
        )
    tried = account.attempts > 0
    return Score(
        name="valid_draw_share",
        title="Valid draws",
        meaning="Share of generated records that were valid at the first look; the others were drawn again.",
        value=100 * account.rows_emitted / account.attempts if tried else None,
        undefined_because=None if tried else "the account counts no attempts",
        unit="%",
        direction="higher",
        bounds=(0.0, 100.0),
        ideal=100.0,
    )


def _any_fault(faults: Mapping[str, Mapping[RejectionReason, BoolArray]]) -> BoolArray:
    masks = [fault_N for reasons in faults.values() for fault_N in reasons.values()]
    return np.logical_or.reduce(masks) if masks else np.zeros(1, dtype=bool)


def _conforming(table: Columns, schema: RecordSchema) -> float:
    faults = {field.name: column_faults(table[field.name], field) for field in schema.fields}
    return 100 * float((~_any_fault(faults)).mean())


def column_faults(column: Column, field: Field) -> dict[RejectionReason, BoolArray]:
    """Per reason that occurs, a mask of the rows at fault."""
    missing_N = column.missing_N
    faults: dict[RejectionReason, BoolArray] = {}
    if not field.nullable:
        faults["missing"] = missing_N
    match field:
        case IntegerField():
            faults["range"] = _outside(column, field.minimum, field.maximum)
            faults["type"] = ~missing_N & (column.numbers_N != np.round(column.numbers_N))
        case DecimalField():
            faults |= _decimal_faults(column, field)
        case DatetimeField():
            first, last = (parse_datetime(text, field.format) for text in (field.minimum, field.maximum))
            faults["range"] = _outside(column, timestamp(first, field.name), timestamp(last, field.name))
        case CategoricalField():
            faults["category"] = _unknown(column, set(field.values))
        case BooleanField():
            faults["type"] = _unknown(column, {field.true_text, field.false_text})
        case TextField():
            faults["length"] = ~missing_N & (np.nan_to_num(column.numbers_N) > field.max_characters)
        case ConstantField():
            faults["constant"] = _unknown(column, {constant_label(field.value)})
    return {reason: fault_N for reason, fault_N in faults.items() if fault_N.any()}


def _outside(column: Column, low: float, high: float) -> BoolArray:
    return (column.numbers_N < low) | (column.numbers_N > high)


def _decimal_faults(column: Column, field: DecimalField) -> dict[RejectionReason, BoolArray]:
    """Range and decimals, both after rounding to what is printed, and with the slack of a float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        units_N = column.numbers_N / 10.0**field.exponent
        rounded_N = np.round(units_N, field.decimals)
        slack_N = 4 * np.spacing(np.abs(units_N))
    low, high = (bound / 10.0**field.exponent for bound in (field.minimum, field.maximum))
    half = 0.5 * 10.0**-field.decimals
    present_N = ~column.missing_N
    return {
        "range": present_N & ((units_N < low - half) | (units_N > high + half)),
        "decimals": present_N & (np.abs(units_N - rounded_N) > slack_N),
    }


def _unknown(column: Column, known: set[str]) -> BoolArray:
    return np.array([label is not None and label not in known for label in column.labels_N], dtype=bool)
