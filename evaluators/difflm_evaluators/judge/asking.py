"""Asking one question until a reply can be read: pauses between attempts, forms of output, and what it all used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from difflm.telemetry import Stopwatch
from difflm_evaluators.judge.answers import Answer
from difflm_evaluators.judge.budget import BudgetReached, Ledger, Pacer, Tokens, max_tokens
from difflm_evaluators.judge.client import (
    MODES,
    Client,
    LengthKey,
    Mode,
    Reply,
    Request,
    RequestRefused,
    TransientFault,
)
from difflm_evaluators.judge.questions import Question, strict_schema
from difflm_evaluators.judge.reading import NotReadable, read_reply
from difflm_evaluators.judge.settings import JudgeSettings

Sleep = Callable[[float], Awaitable[None]]

NOT_TAKEN = "the server does not take the request"
BUDGET = "the budget was used up"


@dataclass(slots=True)
class _Account:
    """What one question has used so far."""

    requests: int = 0
    uncertain: int = 0
    used: Tokens = field(default_factory=Tokens)


class Asker:
    """Asks questions of one form, in the strictest form of output that the server takes.

    Until one reply has `settled` that form, questions are to be asked one at a time.
    """

    def __init__(
        self,
        client: Client,
        settings: JudgeSettings,
        answer_model: type[BaseModel],
        ledger: Ledger,
        pacer: Pacer,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`sleep` waits between attempts; tests give one that does not."""
        self._client, self._settings, self._answer_model = client, settings, answer_model
        self._ledger, self._pacer, self._sleep = ledger, pacer, sleep
        self._schema = strict_schema(answer_model)
        self._mode: Mode = MODES[0]
        self._length_key: LengthKey = "max_tokens"
        self._backoff = wait_exponential_jitter(initial=1, max=settings.limits.longest_wait_s, jitter=1)
        self.settled = False
        """Whether the server has taken a request yet."""

    async def ask(self, question: Question, key: str) -> Answer:
        """Return the answer, or why there is none.

        Raises:
            BudgetReached: not even one request for it fits into the budget.
            ConfigError: no question will ever be answered, for instance because the key is wrong.
        """
        account = _Account()
        values: dict[str, Any] | None = None
        reason: str | None = None
        detail = ""
        with Stopwatch() as watch:
            for _ in range(self._settings.limits.readings):
                try:
                    values = read_reply(await self._reply(question, account), self._answer_model)
                    reason, detail = None, ""
                    break
                except NotReadable as fault:
                    reason, detail = fault.reason, fault.detail
                    if not fault.again:
                        break
                except TransientFault as fault:
                    asked = "" if fault.retry_after_s is None else f", to wait {fault.retry_after_s:g} s"
                    reason, detail = fault.reason, f"the last of {account.requests} requests{asked}"
                    break
                except RequestRefused as fault:
                    reason, detail = NOT_TAKEN, str(fault)
                    break
                except BudgetReached as fault:
                    if not account.requests:
                        raise
                    reason, detail = BUDGET, str(fault)
                    break
        return Answer(
            key=key,
            item=question.item,
            variant=question.variant,
            repeat=question.repeat,
            values=values,
            unanswered_because=reason,
            detail=detail,
            mode=self._mode,
            requests=account.requests,
            uncertain_requests=account.uncertain,
            input_tokens=account.used.input,
            output_tokens=account.used.output,
            dollars=self._settings.prices.dollars(account.used.input, account.used.output),
            seconds=round(watch.seconds, 3),
        )

    async def _reply(self, question: Question, account: _Account) -> Reply:
        """Get a reply in the strictest form of output that the server takes."""
        while True:
            request = Request(
                messages=question.messages(),
                schema=self._schema,
                mode=self._mode,
                max_output_tokens=self._settings.sampling.max_output_tokens,
                length_key=self._length_key,
                temperature=self._settings.sampling.temperature,
            )
            retrying = AsyncRetrying(
                sleep=self._sleep,
                stop=stop_after_attempt(self._settings.limits.attempts),
                wait=self._pause_s,
                retry=retry_if_exception(self._worth_waiting),
                reraise=True,
            )
            try:
                reply: Reply = await retrying(self._send, request, account)
            except RequestRefused as refusal:
                if self.settled or not self._ask_for_less(str(refusal)):
                    raise
            else:
                self.settled = True
                return reply

    def _ask_for_less(self, refusal: str) -> bool:
        """Change one thing that older or stricter servers refuse; False when nothing is left, and all is as before."""
        if self._length_key == "max_tokens" and "max_completion_tokens" in refusal:
            self._length_key = "max_completion_tokens"
        elif self._mode != MODES[-1]:
            self._mode = MODES[MODES.index(self._mode) + 1]
        else:
            self._mode, self._length_key = MODES[0], "max_tokens"
            return False
        return True

    def _worth_waiting(self, error: BaseException) -> bool:
        if not isinstance(error, TransientFault):
            return False
        return error.retry_after_s is None or error.retry_after_s <= self._settings.limits.longest_wait_s

    def _pause_s(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome is not None else None
        asked = fault.retry_after_s if isinstance(fault, TransientFault) else None
        return self._backoff(state) if asked is None else asked

    async def _send(self, request: Request, account: _Account) -> Reply:
        """Make one attempt: paced, within the budget, and accounted for whatever comes of it."""
        texts = [message["content"] for message in request.messages]
        texts += [json.dumps(request.schema)] if request.mode == "json_schema" else []
        most = max_tokens(texts, request.max_output_tokens)
        await self._pacer.wait(most.input, request.max_output_tokens)
        await self._ledger.reserve(most)
        used = Tokens()
        account.requests += 1
        try:
            reply = await self._client.send(request)
            used = reply.used or most
            account.uncertain += reply.used is None
            return reply
        except TransientFault as fault:
            if fault.maybe_billed:
                used = most
                account.uncertain += 1
            raise
        finally:
            account.used += used
            await self._ledger.settle(most, used)
