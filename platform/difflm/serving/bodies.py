"""Bodies: from bytes to a checked request, in time and memory bounded by the bytes, and off the event loop.

What is cheap to see is looked at first: how many records there are, and names that nothing has. What is left is checked
by pydantic, which stops at the first entry of a list that is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from difflm.config import Config
from difflm.serving.problems import Problem, invalid, validation_problem
from difflm.serving.requests import MAX_NAMES, EncodeBody, ImputeBody, SampleBody
from difflm.serving.shares import Turns
from difflm.telemetry import parse_json

BODIES = (SampleBody, ImputeBody, EncodeBody)
_RECORDS = ("rows", "like")
_SHOWN = 64
_CONTAINERS = 250_000  # lists and objects beside records, of which no request needs more than a few
_REF = "#/components/schemas/{model}"

BodyT = TypeVar("BodyT", bound=Config)
Columns = Callable[[str | None], Collection[str]]
"""The columns of a bundle by its name; raises Problem where there is no such bundle."""


def parsed(
    model: type[BodyT], *, columns: Columns, max_records: int, turns: Turns
) -> Callable[[Request], Awaitable[BodyT]]:
    """Make a dependency that reads a request's body when it is its owner's turn."""

    async def parse(request: Request) -> BodyT:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        content = await request.body()
        if content and media != "application/json" and not media.endswith("+json"):
            raise invalid("body", "a body in JSON is needed: Content-Type: application/json")
        read = partial(read_body, model, content, columns=columns, max_records=max_records)
        return await turns.thread(request.state.owner, read)

    return parse


def read_body(model: type[BodyT], content: bytes, *, columns: Columns, max_records: int) -> BodyT:
    """Read the request that a body holds; raise Problem, and nothing else."""
    if not content:
        raise invalid("body", "a body in JSON is needed")
    most = max_records + _CONTAINERS
    if containers(content, unless=most) > most:
        raise invalid("body", "far more lists and objects than a request has")
    try:
        data = parse_json(content.decode())
    except ValueError:
        raise Problem(400, "invalid_json", "the body is not JSON in UTF-8", field="body") from None
    if isinstance(data, dict):
        _check_names(data, model)
        for field in _RECORDS:
            _check_records(data, field, columns, max_records)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise validation_problem([{**each, "loc": ("body", *each["loc"])} for each in found]) from None


def containers(content: bytes, *, unless: int) -> int:
    """Count the lists and objects of a JSON text, in a small part of the time that making them takes, which nobody else
    would have: the parser gives no turns to others. Brackets in texts count only where there are few of all: `unless`.
    """
    found = content.count(b"[") + content.count(b"{")
    if found <= unless:
        return found
    unescaped = content.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = b"".join(unescaped.split(b'"')[::2])  # texts may hold any number of brackets
    return outside.count(b"[") + outside.count(b"{")


def _check_names(data: Mapping[str, Any], model: type[Config]) -> None:
    for name in data:
        if name not in model.model_fields:
            raise invalid(name[:_SHOWN], "there is no such field")
    names = data.get("columns")
    if isinstance(names, list) and len(names) > MAX_NAMES:
        raise invalid("columns", f"{len(names)} names; {MAX_NAMES} are the most")


def _check_records(data: Mapping[str, Any], field: str, columns: Columns, most: int) -> None:
    records, bundle = data.get(field), data.get("bundle")
    if not isinstance(records, list) or not isinstance(bundle, str | None):
        return
    if len(records) > most:
        raise invalid(field, f"{len(records)} records; {most} are the most")
    known = frozenset(columns(bundle))
    for place, record in enumerate(records):
        if isinstance(record, dict) and not known.issuperset(record):
            unknown = next(name for name in record if name not in known)
            raise invalid(field, f"record {place}: the bundle knows no column {unknown[:_SHOWN]!r}; leave it out")


def body_document(model: type[Config]) -> dict[str, Any]:
    """Describe an operation whose body is a model's, for OpenAPI."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    return {"requestBody": {"required": True, "content": content}}


def document_bodies(app: FastAPI) -> None:
    """Let the application's OpenAPI document describe the bodies, which FastAPI does not read itself."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, found = models_json_schema([(model, "validation") for model in BODIES], ref_template=_REF)
            made.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
