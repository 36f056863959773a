"""Gates: how they are read, what they refuse, and what they say of scores."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from difflm.errors import ConfigError
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Score
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.live.gates import STREAMED_SCORES, TABLE_SCORES, check_gates, parse_gate


def score(name: str, value: float | None) -> Score:
    return Score(
        name=name,
        title=name,
        meaning="",
        value=value,
        direction="lower",
        undefined_because=None if value is not None else "there is no holdout",
    )


@pytest.mark.parametrize(
    ("text", "action", "name", "comparison", "bound"),
    [
        ("shape < 3", "stop", "shape_error", "<", 3.0),
        (" warn: trend<=5.5 ", "warn", "trend_error", "<=", 5.5),
        ("stop:exact_copies == 0", "stop", "exact_copy_share", "==", 0.0),
        ("nndr > -1e-3", "stop", "nndr", ">", -0.001),
        ("drop: exact_copy_share == 0", "drop", "exact_copy_share", "==", 0.0),
        ("drop: dcr_quantile >= 0.05", "drop", "dcr_quantile", ">=", 0.05),
    ],
)
def test_what_a_gate_says(text: str, action: str, name: str, comparison: str, bound: float) -> None:
    gate = parse_gate(text, STREAMED_SCORES)
    assert (gate.action, gate.score, gate.comparison, gate.bound) == (action, name, comparison, bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape", r"gate 'shape': cannot be read; write it like 'shape_error < 3'"),
        ("shape < 3 and trend < 2", "cannot be read"),
        ("shape < __import__('os')", "cannot be read"),
        ("3 > shape", "cannot be read"),
        ("shape < 1.2.3", r"'1.2.3' is no number"),
        ("halt: shape < 3", r"unknown action 'halt'; give one of stop, warn, drop"),
        ("shap < 3", r"no score 'shap'; did you mean 'shape'\?"),
        ("trend_eror < 3", r"no score 'trend_eror'; did you mean 'trend_error'\?"),
        ("c2st_auc < 0.6", r"c2st_auc needs all rows at once, difflm evaluate has it; while rows are made there are"),
        ("drop: shape < 3", r"no score 'shape'; records can be dropped for exact_copy_share, dcr_quantile"),
        ("drop: exact_copies < 5", r"records are dropped with 'drop: exact_copy_share == 0'"),
        ("drop: dcr_quantile >= 5", r"records are dropped with 'drop: dcr_quantile >= 0.05'"),
        ("dcr_quantile >= 0.05", r"no score 'dcr_quantile'"),
    ],
)
def test_what_cannot_be_a_gate_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_gate(text, STREAMED_SCORES)


def test_a_gate_holds_or_not_and_what_is_undefined_does_not() -> None:
    gates = [
        parse_gate(text, TABLE_SCORES) for text in ("shape < 3", "warn: nndr > 0.5", "dcr_share < 1", "mia_auc < 1")
    ]
    verdicts = check_gates(gates, [score("shape_error", 3.0), score("nndr", 0.7), score("dcr_share", None)], 12_288)
    assert [verdict.passed for verdict in verdicts] == [False, True, False, False]
    assert verdicts[0].sentence() == "gate 'shape < 3': shape_error is 3 after 12,288 rows"
    assert "dcr_share is undefined (there is no holdout) after" in verdicts[2].sentence()
    assert "mia_auc is undefined (it was not computed)" in verdicts[3].sentence()
    drop = parse_gate("drop: exact_copies == 0", STREAMED_SCORES)
    assert check_gates([drop], [score("exact_copy_share", 5.0)], 9) == []  # records are dropped by whoever makes them


def test_every_score_of_a_table_can_have_a_gate(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table], quick_grid: None
) -> None:
    config = EvaluationConfig(detection=None, fidelity=None, membership=None, utility=None)
    report = evaluate_table(make_table(60, 3), RealSplits(train=train, test=test), schema, config)
    names = {found.name for found in report.scores}
    assert set(STREAMED_SCORES) <= names
    assert names - {"valid_draw_share"} <= set(TABLE_SCORES)
