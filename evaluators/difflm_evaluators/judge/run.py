"""The judge: a language model asked about records by a protocol, until scores, report and account are on disk."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from difflm.errors import DiffLMError
from difflm_evaluators.base import Evaluation
from difflm_evaluators.judge.answers import Answer, AnswerLog, Answers, Cache
from difflm_evaluators.judge.asking import NOT_TAKEN, Asker, Sleep
from difflm_evaluators.judge.budget import BudgetReached, Ledger, pacer_of
from difflm_evaluators.judge.local_client import open_client
from difflm_evaluators.judge.questions import Question, question_key, strict_schema
from difflm_evaluators.judge.reading import CUT_OFF, NO_JSON, REFUSED, WRONG_FORM
from difflm_evaluators.judge.report import Judgement, account_of, write_judgement
from difflm_evaluators.judge.settings import Endpoint, JudgeSettings, find_endpoint

Progress = Callable[[float, float | None, str], None]


class JudgeProtocol(Protocol):
    """What is asked, in which form it is answered, and what the answers say."""

    @property
    def name(self) -> str: ...

    @property
    def answer_model(self) -> type[BaseModel]: ...

    def questions(self, repeats: int) -> list[Question]:
        """List every question of every repeat."""
        ...

    def evaluate(self, answers: Answers, repeats: int) -> Evaluation:
        """Compute the scores; what has no answer is counted and never scored."""
        ...


_REPLIED = (CUT_OFF, NO_JSON, REFUSED, WRONG_FORM)
"""Reasons that show a server at work."""


@dataclass(slots=True)
class Asked:
    """The answers by key, where this run found them, and why it stopped before its end, if it did."""

    answers: dict[str, Answer] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    stopped_because: str | None = None
    error: DiffLMError | None = None
    _failures_in_a_row: int = 0

    @property
    def stopped(self) -> bool:
        """Whether no further question is to be asked."""
        return self.stopped_because is not None or self.error is not None

    def note(self, answer: Answer, failures_allowed: int, *, settled: bool) -> None:
        """Take an answer in, and stop after too many questions without any reply; at once if there never was one."""
        self.answers[answer.key] = answer
        self.sources["endpoint"] += 1
        reason = answer.unanswered_because
        if reason is None or reason in _REPLIED:
            self._failures_in_a_row = 0
            return
        self._failures_in_a_row += 1
        never = not settled and reason != NOT_TAKEN
        if (never or self._failures_in_a_row >= failures_allowed) and not self.stopped:
            said = answer.detail if reason == NOT_TAKEN else reason
            some = "at all" if never else f"{self._failures_in_a_row} questions in a row"
            self.stopped_because = f"the endpoint did not answer {some} ({said})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that answers questions: earlier answers, and whom to ask otherwise."""

    asker: Asker
    log: AnswerLog
    past: Iterable[Answer]
    cache: Cache
    ledger: Ledger
    concurrency: int
    failures_in_a_row: int
    progress: Progress

    async def ask_all(self, questions: Mapping[str, Question]) -> Asked:
        """Answer questions by key; those that had no answer before are asked again.

        Raises:
            ConfigError: nobody can be asked; what was answered before that is in the log.
            StorageError: an answer cannot be written.
        """
        asked = Asked()
        for answer in self.past:
            if answer.key in questions and answer.values is not None:
                asked.answers[answer.key] = answer
        asked.sources["this folder"] = len(asked.answers)
        left = iter([(key, question) for key, question in questions.items() if key not in asked.answers])
        self._report(asked, len(questions))
        await self._work(left, asked, len(questions), until=lambda: self.asker.settled)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._work(left, asked, len(questions)))
        if asked.error is not None:
            raise asked.error
        return asked

    async def _work(
        self,
        left: Iterator[tuple[str, Question]],
        asked: Asked,
        total: int,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take one question after the other. An error ends the run once the other requests have come back."""
        try:
            while not asked.stopped and not until():
                following = next(left, None)
                if following is None:
                    return
                await self._answer(*following, asked)
                self._report(asked, total)
        except BudgetReached as reached:
            asked.stopped_because = asked.stopped_because or str(reached)
        except DiffLMError as error:
            asked.error = asked.error or error

    async def _answer(self, key: str, question: Question, asked: Asked) -> None:
        known = self.cache.get(key)
        if known is not None:
            answer = Answer(
                key=key,
                item=question.item,
                variant=question.variant,
                repeat=question.repeat,
                values=known,
                cached=True,
            )
            self.log.append(answer)
            asked.answers[key] = answer
            asked.sources["cache"] += 1
            return
        answer = await self.asker.ask(question, key)
        self.log.append(answer)
        if answer.values is not None:
            self.cache.put(key, answer.values)
        asked.note(answer, self.failures_in_a_row, settled=self.asker.settled)

    def _report(self, asked: Asked, total: int) -> None:
        unanswered = sum(answer.values is None for answer in asked.answers.values())
        missing = f", {unanswered:,} unanswered" if unanswered else ""
        spent = f"{self.ledger.spent.total:,} tokens" + (f", ${self.ledger.dollars:.4f}" if self.ledger.dollars else "")
        self.progress(len(asked.answers), total, f"{len(asked.answers):,} of {total:,} questions{missing}, {spent}")


ANSWERS = "answers.jsonl"


def judge(
    protocol: JudgeProtocol,
    settings: JudgeSettings,
    folder: Path,
    *,
    title: str,
    cache: Cache,
    progress: Progress = lambda done, total, text: None,
    environment: Mapping[str, str] = os.environ,
    sleep: Sleep = asyncio.sleep,
) -> Judgement:
    """Ask what is not answered yet, and write judge.json and judge.md into `folder`, beside the log of answers.

    Run again with the same folder, it asks only what has no answer. A judgement that stopped before its end, because of
    the budget or a silent endpoint, is written too, and says so.

    Raises:
        ConfigError: there is no endpoint, or it refuses the key, the model or the account.
        DataError: the folder holds a log of something else.
        StorageError: the folder or the cache cannot be written, or another command judges there at this moment.
    """
    endpoint = find_endpoint(settings, environment)
    schema = strict_schema(protocol.answer_model)
    keyed = [
        (question_key(question, base_url=endpoint.base_url, settings=settings, schema=schema), question)
        for question in protocol.questions(settings.repeats)
    ]
    log = AnswerLog(folder / ANSWERS)
    questions = dict(reversed(keyed))  # of equal questions the first is asked
    questions = {key: questions[key] for key, _ in keyed}
    with log.alone():
        past = log.open()
        asked = asyncio.run(_ask(protocol, settings, endpoint, questions, log, past, cache, progress, sleep))
        logged = log.open()
    by_key = asked.answers
    judgement = Judgement(
        title=title,
        base_url=endpoint.base_url,
        settings=settings,
        evaluation=protocol.evaluate(Answers.of(keyed, by_key), settings.repeats),
        account=account_of(logged, by_key, len(questions), asked.sources),
        unanswered=[answer for answer in by_key.values() if answer.values is None],
        stopped_because=asked.stopped_because,
    )
    write_judgement(judgement, folder)
    return judgement


async def _ask(
    protocol: JudgeProtocol,
    settings: JudgeSettings,
    endpoint: Endpoint,
    questions: Mapping[str, Question],
    log: AnswerLog,
    past: list[Answer],
    cache: Cache,
    progress: Progress,
    sleep: Sleep,
) -> Asked:
    client = open_client(endpoint, settings.model, settings.limits.timeout_s)
    ledger = Ledger(settings.budget, settings.prices, past)
    try:
        asker = Asker(client, settings, protocol.answer_model, ledger, pacer_of(settings.limits), sleep=sleep)
        run = Run(
            asker=asker,
            log=log,
            past=past,
            cache=cache,
            ledger=ledger,
            concurrency=settings.limits.concurrency,
            failures_in_a_row=settings.limits.failures_in_a_row,
            progress=progress,
        )
        return await run.ask_all(questions)
    finally:
        await client.close()
