"""Gates on the scores of finished records: of `difflm evaluate`, and of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from difflm.artifacts import Artifact
from difflm.errors import ConfigError, EvaluationError
from difflm_jobs.record_kinds import Kind
from difflm_jobs.summary import HEADLINES

if TYPE_CHECKING:
    from difflm_evaluators.gates import Gate, Verdict


def table_gates(texts: Sequence[str], kind: Kind) -> tuple[Gate, ...]:
    """The gates on finished records of a kind.

    Raises:
        ConfigError: one cannot be read, is on no score that there is, or drops records, which are there already.
    """
    from difflm_evaluators.gates import CODE_SCORES, TABLE_SCORES, TOOL_SCORES, parse_gate

    scores = {"table": TABLE_SCORES, "tools": TOOL_SCORES, "code": CODE_SCORES}[kind]
    gates = tuple(parse_gate(text, scores) for text in texts)
    for gate in gates:
        if gate.action == "drop":
            raise ConfigError(f"gate {gate.text!r}: no record is dropped from a finished table; give stop or warn")
    return gates


def failed_verdicts(gates: Sequence[Gate], headlines: Sequence[Mapping[str, Any]], rows: int) -> list[Verdict]:
    """What the gates say that do not hold; ``headlines`` are the scores of so many rows, as `evaluate` gives them."""
    from difflm_evaluators.gates import Verdict

    found = {score["name"]: score for score in headlines}
    missing = {"value": None, "undefined_because": "it was not computed"}
    scores = [(gate, found.get(gate.score, missing)) for gate in gates]
    verdicts = [
        Verdict(gate=gate, rows=rows, value=score["value"], undefined_because=score["undefined_because"])
        for gate, score in scores
    ]
    return [verdict for verdict in verdicts if not verdict.passed]


def refuse_failed(gates: Sequence[Gate], headlines: Sequence[Mapping[str, Any]], rows: int, console: Console) -> None:
    """Say which gates do not hold of so many rows.

    Raises:
        EvaluationError: one that stops does not hold, or its score is undefined.
    """
    failed = failed_verdicts(gates, headlines, rows)
    for verdict in failed:
        if verdict.gate.action == "warn":
            console.print(f"warning: {verdict.sentence()}", style="bold red", highlight=False, soft_wrap=True)
    stopped = [verdict.sentence() for verdict in failed if verdict.gate.action == "stop"]
    if stopped:
        raise EvaluationError("; ".join(stopped))


def refuse_failed_run(gates: Sequence[Gate], artifacts: Sequence[Artifact], console: Console) -> None:
    """`refuse_failed` for the report among the artifacts of a run, if there is one; gates change no artifact."""
    facts = {artifact.kind: artifact.manifest.facts for artifact in artifacts}
    if HEADLINES in facts.get("report", {}):
        rows = int(facts["synthetic"]["rows_emitted"])
        refuse_failed(gates, facts["report"][HEADLINES], rows, console)
