"""Calls: what each method of the clients sends, and how its answer is read; both clients make the same."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx2

from difflm.client import answers
from difflm.client.answers import Row
from difflm.errors import ConfigError

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

    def content(self) -> bytes | None:
        """Return the body as JSON.

        Raises:
            ConfigError: an option or a cell is nothing that JSON has.
        """
        if self.body is None:
            return None
        try:
            return json.dumps(self.body, ensure_ascii=False, allow_nan=False, default=_plain).encode()
        except (TypeError, ValueError, RecursionError) as fault:
            raise ConfigError(f"{self.path}: this cannot be sent: {fault}") from fault


def sample(n: int, options: SampleOptions) -> Call[list[Row]]:
    return Call(method="POST", path="/v1/samples", read=answers.rows, body=_body(n, options, "json"))


def file(n: int, format_: str, options: SampleOptions) -> Call[bytes]:
    return Call(
        method="POST", path="/v1/samples", read=partial(answers.file_of_rows, wanted=n), body=_body(n, options, format_)
    )


def stream(n: int, options: SampleOptions) -> Call[None]:
    """Return a call whose answer is read line by line."""
    return Call(method="POST", path="/v1/samples", read=answers.nothing, body=_body(n, options, "ndjson"))


def impute(rows: Sequence[Row], options: ImputeOptions) -> Call[list[Row]]:
    body = _sent({"rows": _records(rows, "rows"), **options, "format": "json"})
    return Call(method="POST", path="/v1/impute", read=answers.filled_rows, body=body)


def encode(rows: Sequence[Row], bundle: str | None) -> Call[list[list[float]]]:
    body = _sent({"rows": _records(rows, "rows"), "bundle": bundle})
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
    return Call(method="GET", path=f"/v1/jobs/{quote(str(name), safe='')}", read=answers.document)


def cancel_job(name: str) -> Call[None]:
    return Call(method="DELETE", path=f"/v1/jobs/{quote(str(name), safe='')}", read=answers.nothing)


def data(path: str) -> Call[bytes]:
    return Call(method="GET", path=path, read=answers.content)


def address(url: str) -> str:
    """Return the address of a server. Raises ConfigError for what is none."""
    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        found = httpx2.URL("")
    if found.scheme not in ("http", "https") or not found.host:  # not shown: it may hold a password
        raise ConfigError("url is no address of a server; give one such as http://localhost:8000")
    return url


def headers(key: str | None) -> dict[str, str]:
    """Return the headers of every request. Raises ConfigError for what cannot be a key."""
    if key is None:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("key is none of difflm serve-key: it holds other signs than letters, digits and '_'")
    return {"Authorization": f"Bearer {key}"}


def trusted(authority_file: str | Path | None) -> ssl.SSLContext | bool:
    """Return which certificate authorities are trusted: the system's, or only those of a file (PEM).

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    if authority_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(authority_file))
    except (OSError, ValueError) as fault:
        raise ConfigError(f"authority_file: {authority_file}: no certificates can be read from it ({fault})") from fault


def _body(n: int, options: SampleOptions, format_: str) -> Row:
    body = {"n": n, **options, "format": format_}
    if (like := body.get("like")) is not None:
        body["like"] = _records(like, "like")
    return _sent(body)


def _sent(body: Row) -> Row:
    return {key: value for key, value in body.items() if value is not None}


def _records(given: object, name: str) -> list[Row]:
    """Return records with None for missing cells, which are numbers in pandas' (`frame.to_dict("records")`)."""
    rows = list(given) if isinstance(given, Sequence) else []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f'{name}: give a list of records, such as [{{"age": 39}}] or frame.to_dict("records")')
    return [{column: None if _is_missing(cell) else cell for column, cell in row.items()} for row in rows]


def _is_missing(cell: object) -> bool:
    return type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, Real) and cell != cell)


def _plain(value: Any) -> Any:
    """Return a number or truth value of numpy as Python's own."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        return value.item()
    remedy = "give a text as the table has it, a number, a truth value or None"
    raise TypeError(f"{value!r:.80} is a {type(value).__name__}; {remedy}")
