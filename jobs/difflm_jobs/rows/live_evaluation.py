"""The evaluation of a dataset while it is made: its parts to the evaluator actors, their scores to progress, metrics,
event log and gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.artifacts.dataset import EVALUATION_NAME, EVENTS, Dataset, ShardEntry
from difflm.artifacts.storage import Store
from difflm.errors import EvaluationError
from difflm.synthesis.draws import PRIVACY
from difflm.telemetry import JSON

if TYPE_CHECKING:
    from difflm.runtime.metrics import ScoreGauges
    from difflm_evaluators.live.actors import EvaluatorActors
    from difflm_evaluators.live.gates import Gate, Verdict
    from difflm_evaluators.live.live import InOrder, LiveConfig, Scored

SHOWN = ("shape_error", "trend_error", "exact_copy_share")
"""The scores that fit into a line of progress, where there is nothing else to fit in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """What is to be evaluated how: the folder of the real tables, the gates, and where the log and the result go.

    The result is ``NAME.json`` and the log ``NAME.jsonl`` of ``store`` with the names given here.
    """

    real: Path
    gates: Sequence[Gate]
    config: LiveConfig
    store: Store
    result: str = EVALUATION_NAME
    log: str = EVENTS
    warn: Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class LiveEvaluation:
    """Follows a map of ``rows`` rows into ``dataset``. At its end ``summary`` is what the account says of it."""

    request: LiveRequest
    dataset: Dataset
    rows: int
    job: str
    summary: dict[str, JSON] = field(default_factory=dict)
    _actors: EvaluatorActors = field(init=False)
    _gauges: ScoreGauges = field(init=False)
    _order: InOrder = field(init=False)
    _given: list[tuple[int, int]] = field(default_factory=list)
    _last: Scored | None = None
    _passed: dict[str, bool] = field(default_factory=dict)
    _decisions: list[JSON] = field(default_factory=list)

    def begin(self, finished: Sequence[ShardEntry]) -> None:
        """Start the evaluators, and let them catch up with what earlier runs committed."""
        from difflm.runtime.metrics import ScoreGauges
        from difflm_evaluators.live.live import InOrder

        self._gauges = ScoreGauges(self.job)
        self._order = InOrder()
        self._note("begun", rows_asked=self.rows, gates=[gate.text for gate in self.request.gates])
        self._actors = self._start()
        for entry in finished:
            self._hand_over(entry.start, entry.stop, has_rows=entry.rows > 0)

    def take(self, account: Mapping[str, Any]) -> None:
        """Hand a new part over, and see what has been scored.

        Raises:
            EvaluationError: a gate that stops the job does not hold.
        """
        start, stop = int(account["start"]), int(account["stop"])
        self._hand_over(start, stop, has_rows=int(account.get("rows", 0)) > 0)
        scored = self._actors.poll()
        if scored is not None:
            self._show(scored)
            if scored.rows >= self.request.config.min_rows:
                self._judge(scored, final=False)

    def text(self) -> str:
        """Say how it stands, such as: ; of 12,288: shape_error 1.21, trend_error 2.3."""
        if self._actors.failure is not None:
            return "; not evaluated any more"
        if self._last is None:
            return ""
        values = self._last.values
        wanted = dict.fromkeys([*SHOWN, *(gate.score for gate in self.request.gates)])
        return f"; of {self._last.rows:,}: " + ", ".join(
            f"{name} {values[name]:.3g}" for name in wanted if name in values
        )

    def end(self, entries: Sequence[ShardEntry], report: Callable[[str], None]) -> None:
        """Wait for the scores of all rows, and write them down.

        Raises:
            EvaluationError: a gate that stops the job does not hold, or could not be checked.
        """
        parts = [(entry.start, entry.stop) for entry in entries if entry.rows]
        if parts != self._given and self._actors.failure is None:  # two workers had made parts of the same range
            self._actors.close()
            self._actors, self._given = self._start(), parts
            self._actors.give(parts)
        report(f"evaluating, {self._actors.left:,} parts are left")
        scored = self._actors.finish(lambda left: report(f"evaluating, {left:,} parts are left"))
        if scored is None:
            reason = self._actors.failure or "the evaluators ended"
            self.summary = {"undefined_because": reason, "gates": self._decisions}
            self._note("failed", reason=reason)
            self.request.warn(f"the rows are whole, but their scores are undefined: {reason}")
        else:
            self._actors.close()
            self._show(scored)
            self.summary = {"rows": scored.rows, "scores": dict(scored.values), "gates": self._decisions}
        self._count_dropped(entries)
        self._judge(scored, final=True)
        self._write(scored)

    def _start(self) -> EvaluatorActors:
        from difflm_evaluators.live.actors import EvaluatorActors

        def on_restart(reason: str) -> None:
            self._note("restarted", reason=reason)

        request = self.request
        return EvaluatorActors(self.dataset, request.real, request.config, rows=self.rows, on_restart=on_restart)

    def _hand_over(self, start: int, stop: int, *, has_rows: bool) -> None:
        due = self._order.add(start, stop, has_rows=has_rows)
        self._given += due
        self._actors.give(due)

    def _show(self, scored: Scored) -> None:
        self._last = scored
        self._gauges.set(scored.rows, scored.values)
        self._note("scores", rows=scored.rows, scores=dict(scored.values))

    def _judge(self, scored: Scored | None, *, final: bool) -> None:
        """Check the gates; in between an undefined score decides nothing yet."""
        from difflm_evaluators.live.gates import check_gates

        rows = scored.rows if scored is not None else self.rows
        try:
            for verdict in check_gates(self.request.gates, scored.scores if scored is not None else (), rows):
                if final or verdict.value is not None:
                    self._decide(verdict, final=final)
        except EvaluationError:
            self._write(scored)
            raise

    def _decide(self, verdict: Verdict, *, final: bool) -> None:
        """Note what a gate says where that is new, and do what it asks for."""
        before = self._passed.get(verdict.gate.text, True)
        self._passed[verdict.gate.text] = verdict.passed
        stops = verdict.gate.action == "stop" and not verdict.passed
        if final or before != verdict.passed:
            decision = "passed" if verdict.passed else "stopped" if stops else "warned"
            facts: dict[str, JSON] = {**verdict.to_json(), "decision": decision}
            self._decisions.append(facts)
            self._note("gate", **facts)
        if stops:
            kept = "all rows are there" if final else "what is committed stays, and the same command goes on from there"
            raise EvaluationError(f"{verdict.sentence()}; {kept}")
        if not verdict.passed and (final or before):
            self.request.warn(verdict.sentence())

    def _count_dropped(self, entries: Sequence[ShardEntry]) -> None:
        """Note how many the gates that drop records have dropped, all together: a draw has one reason."""
        gates: list[JSON] = [gate.text for gate in self.request.gates if gate.action == "drop"]
        if gates:
            dropped = sum(entry.account.get("rejections", {}).get(PRIVACY, 0) for entry in entries)
            facts: dict[str, JSON] = {"gates": gates, "action": "drop", "decision": "dropped", "draws": dropped}
            self._decisions.append(facts)
            self._note("gate", **facts)

    def _note(self, kind: str, **facts: JSON) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.request.store.append(self.request.log, {"time": now, "kind": kind, **facts})

    def _write(self, scored: Scored | None) -> None:
        """Write evaluation.json: the scores with all that explains them, and what the gates decided."""
        found: dict[str, JSON] = {"rows": 0, "evaluations": []} if scored is None else dict(scored.to_json())
        value: dict[str, JSON] = {**found, "undefined_because": self._actors.failure, "gates": self._decisions}
        Dataset(store=self.request.store).write_json(self.request.result, value)
