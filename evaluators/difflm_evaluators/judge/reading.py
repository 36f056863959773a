"""Reading a reply: JSON of the right form becomes an answer, anything else a reason; nothing is guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from difflm.telemetry import parse_json
from difflm_evaluators.judge.client import Reply

NO_JSON = "the reply is not JSON"
WRONG_FORM = "the reply has another form"
REFUSED = "the judge refused"
CUT_OFF = "the reply was cut off at max_output_tokens"

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"```(?:json)?\s*(?=\{)")
_SHOWN = 300  # characters of a reply that could not be read


class NotReadable(Exception):
    """A reply that is no answer; `again` says whether another try may give one."""

    def __init__(self, reason: str, detail: str, *, again: bool) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.again = reason, detail, again


def read_reply(reply: Reply, model: type[BaseModel]) -> dict[str, Any]:
    """Read the answer as plain JSON values.

    Where the server has no structured output, the JSON may stand in a fence of code, after the model's thoughts, or in
    a sentence.

    Raises:
        NotReadable: refused, cut off, no JSON, or JSON of another form.
    """
    if reply.refusal is not None or reply.finish_reason == "content_filter":
        raise NotReadable(REFUSED, _shown(reply.refusal or reply.content), again=False)
    for text in _candidates(reply.content):
        try:
            found = parse_json(text)
        except ValueError:
            continue
        if not isinstance(found, dict):
            continue
        try:
            values: dict[str, Any] = json.loads(model.model_validate(found).model_dump_json())
            return values
        except PydanticSerializationError as error:  # half a surrogate pair, which no file can hold
            raise NotReadable(WRONG_FORM, f"text that is no Unicode; {_shown(reply.content)}", again=True) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise NotReadable(WRONG_FORM, f"{where}: {first['msg']}; {_shown(reply.content)}", again=True) from error
    if reply.finish_reason == "length":
        raise NotReadable(CUT_OFF, _shown(reply.content), again=False)
    raise NotReadable(NO_JSON, _shown(reply.content), again=True)


def _candidates(content: str) -> Iterator[str]:
    text = _THOUGHTS.sub("", content).strip()
    yield text
    if fence := _FENCE.search(text):
        yield text[fence.end() : text.rfind("```")]
    yield text[text.find("{") : text.rfind("}") + 1]


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
