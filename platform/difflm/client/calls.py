"""Calls: what each method of the clients sends, and how its answer is read; both clients make the same."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx2

from difflm.client import answers
from difflm.client.answers import Row

T = TypeVar("T")


class SampleOptions(TypedDict, total=False):
    """Fields of a request for rows; None is as good as left out."""

    bundle: str | None
    seed: int | None
    start: int
    temperature: float | None
    where: str | None
    constraints: Sequence[str] | None
    like: Sequence[Row] | None
    strength: float
    columns: Sequence[str] | None
    deadline_s: float | None
    safe_csv: bool


class ImputeOptions(TypedDict, total=False):
    """Fields of a request that fills gaps; None is as good as left out."""

    bundle: str | None
    seed: int | None
    columns: Sequence[str] | None
    constraints: Sequence[str] | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A request, and what its answer is read with; `job` where it begins one."""

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    body: Row | None = None
    job: bool = False


def sample(n: int, options: SampleOptions) -> Call[list[Row]]:
    return Call(method="POST", path="/v1/samples", read=answers.rows, body=_body(n, options, "json"))


def file(n: int, format_: str, options: SampleOptions) -> Call[bytes]:
    return Call(method="POST", path="/v1/samples", read=answers.content, body=_body(n, options, format_))


def stream(n: int, options: SampleOptions) -> Call[None]:
    """Return a call whose answer is read line by line."""
    return Call(method="POST", path="/v1/samples", read=answers.nothing, body=_body(n, options, "ndjson"))


def impute(rows: Sequence[Row], options: ImputeOptions) -> Call[list[Row]]:
    body = _sent({"rows": list(rows), **options, "format": "json"})
    return Call(method="POST", path="/v1/impute", read=answers.rows, body=body)


def encode(rows: Sequence[Row], bundle: str | None) -> Call[list[list[float]]]:
    body = _sent({"rows": list(rows), "bundle": bundle})
    return Call(method="POST", path="/v1/encode", read=answers.latents, body=body)


def bundles() -> Call[list[Row]]:
    return Call(method="GET", path="/v1/bundles", read=answers.bundles)


def about(fact: str, bundle: str | None) -> Call[Row]:
    """Return a call for a fact of a bundle; `fact` is schema or quality."""
    asked = "" if bundle is None else f"?{httpx2.QueryParams({'bundle': bundle})}"
    return Call(method="GET", path=f"/v1/{fact}{asked}", read=answers.document)


def begin_job(n: int, format_: str, options: SampleOptions) -> Call[Row]:
    body = _body(n, options, format_)
    return Call(method="POST", path="/v1/samples", read=answers.document, body=body, job=True)


def job(name: str) -> Call[Row]:
    return Call(method="GET", path=f"/v1/jobs/{quote(name, safe='')}", read=answers.document)


def cancel_job(name: str) -> Call[None]:
    return Call(method="DELETE", path=f"/v1/jobs/{quote(name, safe='')}", read=answers.nothing)


def data(path: str) -> Call[bytes]:
    return Call(method="GET", path=path, read=answers.content)


def headers(key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def trusted(authority_file: str | Path | None) -> ssl.SSLContext | bool:
    """Return which certificate authorities are trusted: the system's, or only those of a file (PEM)."""
    return True if authority_file is None else ssl.create_default_context(cafile=str(authority_file))


def _body(n: int, options: SampleOptions, format_: str) -> Row:
    return _sent({"n": n, **options, "format": format_})


def _sent(body: Row) -> Row:
    return {key: value for key, value in body.items() if value is not None}
