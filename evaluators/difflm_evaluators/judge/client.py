"""One request to an OpenAI-compatible endpoint through the official client, and its failures in four kinds."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeGuard, cast

import httpx2
import openai
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from difflm.errors import ConfigError, EvaluationError
from difflm_evaluators.judge.budget import Tokens
from difflm_evaluators.judge.settings import Endpoint

Mode = Literal["json_schema", "json_object", "plain"]
MODES: tuple[Mode, ...] = ("json_schema", "json_object", "plain")
"""Forms of output, strictest first: by a schema, any JSON, and whatever the prompt brings about."""

LengthKey = Literal["max_tokens", "max_completion_tokens"]

_BUSY = (408, 409, 425, 429)
_MAX_BYTES = 16 * 2**20  # of a response; the longest reply of a model is far below
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent; `schema` is used in the mode `json_schema` only."""

    messages: list[dict[str, str]]
    schema: dict[str, Any]
    mode: Mode
    max_output_tokens: int
    length_key: LengthKey
    temperature: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; `used` is None where the server says nothing about tokens."""

    content: str
    finish_reason: str
    refusal: str | None
    used: Tokens | None


class TransientFault(EvaluationError):
    """It may work later: busy, failing, silent or broken off. `maybe_billed`: the server may have done the work."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None, maybe_billed: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s, self.maybe_billed = reason, retry_after_s, maybe_billed


class RequestRefused(EvaluationError):
    """The server will never take this request as it is (400, 413, 422, ...)."""


class Client(Protocol):
    """Sends one request."""

    async def send(self, request: Request) -> Reply: ...


class OpenAIClient:
    """The official asynchronous client; its own retries are off, as every attempt is paced, paid for and counted."""

    def __init__(self, endpoint: Endpoint, model: str, timeout_s: float) -> None:
        self._endpoint, self._model, self._timeout_s = endpoint, model, timeout_s
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            timeout=timeout_s,
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"response": [_limit_body]},
                follow_redirects=False,  # keys and records are for the address that was given
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def send(self, request: Request) -> Reply:
        """Make one attempt.

        Raises:
            TransientFault: the same request may work later.
            RequestRefused: it never will.
            ConfigError: no request will work: a wrong key, address or model, or an account without means.
        """
        try:
            # the client's own limit is for each read, so that a body which trickles in would never end
            async with asyncio.timeout(self._timeout_s):
                completion = await self._client.chat.completions.create(**cast(Any, self._body(request)))
        except TimeoutError as error:
            raise TransientFault("timed out", maybe_billed=True) from error
        except openai.APIStatusError as error:
            raise self._status_fault(error) from error
        except openai.APITimeoutError as error:
            sent = not isinstance(error.__cause__, _NEVER_SENT)
            raise TransientFault("timed out", maybe_billed=sent) from error
        except openai.APIConnectionError as error:
            sent = not isinstance(error.__cause__, _NEVER_SENT)
            raise TransientFault("connection broken" if sent else "no connection", maybe_billed=sent) from error
        except (ValueError, RecursionError, openai.APIResponseValidationError) as error:
            raise TransientFault("response is not JSON", maybe_billed=True) from error
        return _reply(completion, self._endpoint.api_key)

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": request.messages,
            request.length_key: request.max_output_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.mode == "json_schema":
            form = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif request.mode == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _status_fault(self, error: openai.APIStatusError) -> Exception:
        code, url = error.status_code, self._endpoint.base_url
        said = _said(error, self._endpoint.api_key)
        if 300 <= code < 400:
            return ConfigError(f"{url}: leads elsewhere ({code}); give the address of the endpoint itself")
        if code in (401, 403):
            return ConfigError(f"{url}: the key is refused ({code}: {said}); give a valid one in the environment")
        if code == 404:
            remedy = "check --base-url (it usually ends in /v1) and --model"
            return ConfigError(f"{url}: no model {self._model!r} at this address (404: {said}); {remedy}")
        if code == 402 or error.code == "insufficient_quota":
            return ConfigError(f"{url}: the account has no means left ({code}: {said}); add some, or use another key")
        if code in _BUSY or code >= 500:
            reason = "rate limited (429)" if code == 429 else f"server error {code}"
            return TransientFault(reason, retry_after_s=retry_after_s(error.response.headers))
        return RequestRefused(f"{code}: {said}")


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait (`retry-after-ms`, or `Retry-After` in seconds or as a date), or None."""
    seconds = _number(headers.get("retry-after"))
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError, TypeError):  # such as an offset of thousands of years
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # what a terminal obeys
_SHORTEST_KEY = 8  # what is shorter is a word such as "none"
_MAX_TOKENS = 2**40  # of one answer; what is more is no count


def _counted(count: object) -> TypeGuard[int]:
    return isinstance(count, int) and 0 <= count <= _MAX_TOKENS


def _reply(completion: object, key: str) -> Reply:
    # The client does not check what it is sent: a field may be missing or of any type.
    choices: object = completion.choices if isinstance(completion, ChatCompletion) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(completion, ChatCompletion) or not isinstance(choice, Choice):
        raise TransientFault("response is no chat completion", maybe_billed=True)
    message = cast(Any, getattr(choice, "message", None))
    usage = cast(Any, completion.usage)
    content = getattr(message, "content", None)
    refusal = getattr(message, "refusal", None)
    read, written = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    used = None
    if _counted(read) and _counted(written):
        used = Tokens(input=read, output=written)
    return Reply(
        content=_text(content, key) if isinstance(content, str) else "",
        finish_reason=_text(str(getattr(choice, "finish_reason", None)), key),
        refusal=_text(refusal, key) if isinstance(refusal, str) and refusal else None,
        used=used,
    )


def _said(error: openai.APIStatusError, key: str) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    try:
        text = message if isinstance(message, str) else json.dumps(body, default=str) if body else "no message"
    except RecursionError:
        text = "a message that is nested too deep"
    return " ".join(_UNSEEN.sub(" ", _text(text, key)).split())[:300]


def _text(text: str, key: str) -> str:
    """Text that can be written down: JSON may hold halves of surrogate pairs, which become question marks.

    A server may say the key that it was sent; nobody else is to read it.
    """
    found = text.encode("utf-8", "replace").decode()
    return found.replace(key, "[key]") if len(key) >= _SHORTEST_KEY else found


class _LimitedBody(httpx2.AsyncByteStream):
    """A body that breaks off behind `_MAX_BYTES`, before it fills the memory."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._body:
            size += len(chunk)
            if size > _MAX_BYTES:
                raise httpx2.ReadError(f"the response is longer than {_MAX_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


async def _limit_body(response: httpx2.Response) -> None:
    packed = response.headers.get("content-encoding", "identity")
    if packed.lower() != "identity":  # a few bytes may unpack to any number of them
        raise httpx2.ReadError(f"the response is packed ({packed[:20]!r}), which was not asked for")
    response.stream = _LimitedBody(cast(httpx2.AsyncByteStream, response.stream))
