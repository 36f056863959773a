"""Evaluator actors: processes that score a dataset's parts while others make them, and the driver's side of them.

The driver hands over names of parts, never waits, and has at most one message of parts and one question for scores
under way with each actor; the parts are on disk, so names are all that can queue up. An actor that dies is made anew
and reads its parts again from the first. Each part goes to one actor, by turns in the order of their indices: scores
depend on the parts and the number of actors only, whoever died in between.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from difflm.artifacts.dataset import Dataset, Range
from difflm.artifacts.storage import open_store
from difflm.records.files.source import SourceForm
from difflm.runtime.cluster import current_context
from difflm.runtime.process import last_line
from difflm.runtime.shard_actor import reachable, unpacked
from difflm_evaluators.live.live import LiveConfig, Scored

PARTS_PER_MESSAGE = 16
_POLL_S = 0.5


class EvaluatorActor:
    """A scorer in a process that stands back behind all others: it gets what they leave of the processors."""

    def __init__(self, arguments: dict[str, Any], config: LiveConfig, share: float) -> None:
        os.nice(config.niceness)
        import pyarrow as pa

        from difflm_evaluators.live.part_scorer import PartScorer

        pa.set_cpu_count(1)
        form = None if arguments["form"] is None else SourceForm.parsed_json(arguments["form"], "form")
        dataset = Dataset(store=open_store(arguments["url"]), format=arguments["format"], form=form)
        self._scorer = PartScorer(dataset, Path(unpacked(arguments["real"])), share=share, seed=config.seed)

    def take(self, parts: Sequence[Range]) -> int:
        """Read parts; how many rows were read so far."""
        return self._scorer.take(parts)

    def seen(self) -> Any:
        """Return what was counted, for another actor's `score`."""
        return self._scorer.seen()

    def score(self, *others: Any) -> Scored:
        """Score what was read here and by others."""
        return self._scorer.score(*others)


@dataclass(slots=True, kw_only=True)
class _Seat:
    """The place of one actor: its parts in order, how many of them it has read, and its last request."""

    actor: Any
    parts: list[Range] = field(default_factory=list)
    read: int = 0
    under_way: int = 0
    message: Any = None
    furthest: int = 0
    deaths: int = 0


class EvaluatorActors:
    """The driver's side. After a failure for good `failure` says why, and all calls do nothing."""

    def __init__(
        self, dataset: Dataset, real: Path, config: LiveConfig, *, rows: int, on_restart: Callable[[str], None]
    ) -> None:
        """`rows` is how many the dataset is to have; `on_restart` gets the reason why an actor had to be made anew."""
        folders = reachable({"real": real}, current_context())
        self._arguments = {**folders, "url": dataset.store.url, "format": dataset.format, "form": None}
        if dataset.form is not None:
            self._arguments["form"] = dataset.form.dumped().decode()
        self._config, self._on_restart = config, on_restart
        self._share = min(1.0, config.max_queries / rows)
        self._question: Any = None
        self._asked_at, self._asked_about, self._unanswered = 0.0, 0, 0
        self._given = 0
        self.failure: str | None = None
        self._seats = [_Seat(actor=self._actor()) for _ in range(config.actors)]

    def give(self, parts: Sequence[Range]) -> None:
        """Hand over parts, in the order of their indices."""
        for part in parts:
            self._seats[self._given % len(self._seats)].parts.append(part)
            self._given += 1

    @property
    def left(self) -> int:
        """Parts that were handed over and are not read yet."""
        return self._given - sum(seat.read for seat in self._seats)

    def poll(self) -> Scored | None:
        """Collect what came back, send what waits, and ask for scores when it is time; new scores, if there are."""
        if self.failure is not None:
            return None
        found = self._collect(0.0)
        self._send()
        done = self._given - self.left
        due = time.monotonic() >= self._asked_at + self._config.interval_s
        if due and self._question is None and done > self._asked_about:
            self._ask(done)
        return found

    def finish(self, report: Callable[[int], None]) -> Scored | None:
        """Wait until all parts are read, and score them; None after a failure. `report` gets how many are left."""
        last = time.monotonic()
        self._question = None  # an answer about fewer parts is of no use any more
        while self.failure is None:
            before = self.left
            found = self._collect(_POLL_S)
            if found is not None:
                return found
            self._send()
            if self.left == 0 and self._question is None and all(seat.message is None for seat in self._seats):
                self._ask(self._given)
                last = time.monotonic()
            if self.left != before:
                last = time.monotonic()
                report(self.left)
            if time.monotonic() > last + self._config.timeout_s:
                self._give_up(f"no evaluator answered within {self._config.timeout_s:g} s (live.timeout_s)")
        return None

    def close(self) -> None:
        """End the processes."""
        import ray

        for seat in self._seats:
            ray.kill(seat.actor)

    def _actor(self) -> Any:
        import ray

        remote: Any = ray.remote(num_cpus=0, max_restarts=0)(EvaluatorActor)  # made anew here, with what it has to read
        return remote.options(scheduling_strategy="SPREAD").remote(self._arguments, self._config, self._share)

    def _send(self) -> None:
        for seat in self._seats:
            parts = seat.parts[seat.read : seat.read + PARTS_PER_MESSAGE]
            if seat.message is None and parts:
                seat.message, seat.under_way = seat.actor.take.remote(parts), len(parts)

    def _ask(self, parts: int) -> None:
        first, *others = self._seats
        self._question = first.actor.score.remote(*(seat.actor.seen.remote() for seat in others))
        self._asked_at, self._asked_about = time.monotonic(), parts

    def _collect(self, timeout_s: float) -> Scored | None:
        """Take answers, waiting so long for one of them; scores, where some came."""
        import ray

        awaited = [seat.message for seat in self._seats if seat.message is not None]
        awaited += [self._question] if self._question is not None else []
        if not awaited:
            return None
        done, _ = ray.wait(awaited, num_returns=1, timeout=timeout_s)
        if done:  # and whatever else is there by now
            done, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
        for seat in self._seats:
            if seat.message in done:
                self._answered(seat)
        return self._scores() if self._question is not None and self._question in done else None

    def _answered(self, seat: _Seat) -> None:
        import ray

        message, seat.message = seat.message, None
        try:
            ray.get(message)
        except ray.exceptions.RayError as error:
            self._replace(seat, last_line(error))
            return
        seat.read += seat.under_way
        if seat.read > seat.furthest:
            seat.furthest, seat.deaths = seat.read, 0

    def _scores(self) -> Scored | None:
        import ray

        question, self._question = self._question, None
        try:
            scored: Scored = ray.get(question)
        except ray.exceptions.RayError as error:
            self._unanswered += 1
            if self._unanswered > self._config.attempts:
                self._give_up(
                    f"{self._unanswered} times there was no answer to the question for scores: {last_line(error)}"
                )
                return None
            for seat in self._seats:  # whoever died is found out by a message without parts
                if seat.message is None:
                    seat.message, seat.under_way = seat.actor.take.remote([]), 0
            return None
        self._unanswered = 0
        return scored

    def _replace(self, seat: _Seat, reason: str) -> None:
        """Start an actor that begins with the first part, for what the old one had counted is lost or half-counted."""
        seat.deaths += 1
        if seat.deaths > self._config.attempts:
            self._give_up(f"an evaluator died {seat.deaths} times without getting on: {reason}")
            return
        import ray

        ray.kill(seat.actor)
        self._on_restart(reason)
        seat.actor, seat.read, seat.under_way, seat.message = self._actor(), 0, 0, None

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        self.close()
