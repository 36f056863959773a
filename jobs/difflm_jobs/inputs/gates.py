"""Gates on the scores of finished records: of `difflm evaluate`, of a run's report, and of a flywheel's rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from difflm.errors import ConfigError, EvaluationError
from difflm_jobs.inputs.record_kinds import Kind, record_kind

if TYPE_CHECKING:
    from difflm_evaluators.live.gates import Gate, Verdict


def table_gates(texts: Sequence[str], kind: Kind) -> tuple[Gate, ...]:
    """Read the gates on finished records of a kind.

    Raises:
        ConfigError: one cannot be read, is on no score that there is, or drops records, which are there already.
    """
    from difflm_evaluators.live.gates import parse_gate

    scores = record_kind(kind).gate_scores()
    gates = tuple(parse_gate(text, scores) for text in texts)
    for gate in gates:
        if gate.action == "drop":
            raise ConfigError(f"gate {gate.text!r}: no record is dropped from a finished table; give stop or warn")
    return gates


def failed_verdicts(gates: Sequence[Gate], headlines: Sequence[Mapping[str, Any]], rows: int) -> list[Verdict]:
    """Judge so many rows by their ``headlines``, the scores as `evaluate` gives them; return the gates that fail."""
    from difflm_evaluators.live.gates import Verdict

    found = {score["name"]: score for score in headlines}
    missing = {"value": None, "undefined_because": "it was not computed"}
    scores = [(gate, found.get(gate.score, missing)) for gate in gates]
    verdicts = [
        Verdict(gate=gate, rows=rows, value=score["value"], undefined_because=score["undefined_because"])
        for gate, score in scores
    ]
    return [verdict for verdict in verdicts if not verdict.passed]


def refuse_failed(
    gates: Sequence[Gate], headlines: Sequence[Mapping[str, Any]], rows: int, warn: Callable[[str], None]
) -> None:
    """Judge so many rows; ``warn`` gets a sentence for each gate that only warns and does not hold.

    Raises:
        EvaluationError: a gate that stops does not hold, or its score is undefined.
    """
    failed = failed_verdicts(gates, headlines, rows)
    for verdict in failed:
        if verdict.gate.action == "warn":
            warn(verdict.sentence())
    stopped = [verdict.sentence() for verdict in failed if verdict.gate.action == "stop"]
    if stopped:
        raise EvaluationError("; ".join(stopped))
