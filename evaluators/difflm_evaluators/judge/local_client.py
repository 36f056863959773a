"""A judge in this process: a pretrained model from a package, a GGUF file or a folder, asked one question at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from difflm.errors import ConfigError, ModelError
from difflm_evaluators.judge.budget import Tokens
from difflm_evaluators.judge.client import OpenAIClient, Reply, Request, RequestRefused
from difflm_evaluators.judge.settings import THIS_PROCESS, Endpoint

if TYPE_CHECKING:
    from difflm.models.local_chat import LocalChat


class LocalClient:
    """`Client` of a model of this machine; it is loaded at the first question."""

    def __init__(self, model: str) -> None:
        self._model, self._asked = model, 0
        self._lock = asyncio.Lock()
        self._chat: LocalChat | None = None

    async def close(self) -> None:
        """There is nothing to close."""

    async def send(self, request: Request) -> Reply:
        """Answer in plain text; forms of output are asked for in words alone.

        Raises:
            RequestRefused: another form is wanted, or the question is too long.
            ConfigError: the model cannot be loaded.
        """
        if request.mode != "plain":
            raise RequestRefused(f"{self._model} writes plain text")
        async with self._lock:
            self._asked += 1
            ended = threading.Event()
            try:
                return await asyncio.to_thread(self._reply, request, self._asked, ended.is_set)
            finally:
                ended.set()  # a thread is not cancelled, and the loop waits for it before it closes

    def _reply(self, request: Request, seed: int, given_up: Callable[[], bool]) -> Reply:
        from difflm.models.local_chat import LocalChat

        if self._chat is None:
            self._chat = LocalChat(self._model)
            try:
                self._chat.load()
            except ModelError as error:
                raise ConfigError(str(error)) from error
        most, temperature = request.max_output_tokens, request.temperature
        try:
            said = self._chat.reply(
                request.messages, max_tokens=most, temperature=temperature, seed=seed, given_up=given_up
            )
        except ModelError as error:
            raise RequestRefused(str(error)) from error
        return Reply(
            content=said.text,
            finish_reason="stop" if said.finished else "length",
            refusal=None,
            used=Tokens(input=said.read, output=said.written),
        )


def open_client(endpoint: Endpoint, model: str, timeout_s: float) -> OpenAIClient | LocalClient:
    """Return what asks a model: at its endpoint, within a time limit, or in this process."""
    return LocalClient(model) if endpoint.base_url == THIS_PROCESS else OpenAIClient(endpoint, model, timeout_s)
