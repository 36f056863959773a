"""Limits: who may ask, how many requests are under way, and how many rows a server has accepted and not handed out."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field

from difflm.artifacts.atomic import storage_errors, write_bytes_atomic
from difflm.config import Config, load_yaml, validate
from difflm.errors import ConfigError
from difflm.serving.problems import Problem, overloaded

PREFIX = "difflm_"


class KeyConfig(Config):
    """One key. Without limits of its own it has the server's alone."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="what metrics and logs call it")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    requests_per_minute: int | None = Field(default=None, ge=1)
    rows_per_minute: int | None = Field(default=None, ge=1)


class KeysConfig(Config):
    """A file of keys."""

    keys: list[KeyConfig] = Field(default=[])


def read_keys(path: Path) -> list[KeyConfig]:
    """The keys of a file. Raises ConfigError for one that cannot be read."""
    return validate(KeysConfig, load_yaml(path), str(path)).keys


def add_key(path: Path, name: str, *, requests_per_minute: int | None, rows_per_minute: int | None) -> str:
    """Make a key, write its hash into a file that only its owner can read, and return the key: nothing else has it.

    Raises:
        ConfigError: the file has a key of that name already, or cannot be read.
    """
    known = read_keys(path) if path.exists() else []
    if any(key.name == name for key in known):
        raise ConfigError(f"{path}: there is a key {name!r} already; give another name, or take it out of the file")
    key = PREFIX + secrets.token_urlsafe(32)
    entry = {
        "name": name,
        "sha256": hash_key(key),
        "requests_per_minute": requests_per_minute,
        "rows_per_minute": rows_per_minute,
    }
    keys = KeysConfig(keys=[*known, validate(KeyConfig, entry, f"--name {name}")])
    with storage_errors(path):
        write_bytes_atomic(path, yaml.safe_dump(keys.model_dump(mode="json"), sort_keys=False).encode())
        path.chmod(0o600)
    return key


def hash_key(key: str) -> str:
    """The hash that a file of keys holds."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Who asks, and whether they may ask again yet: token buckets of one minute, in the memory of this process."""

    def __init__(self, keys: list[KeyConfig], clock: Callable[[], float]) -> None:
        self._keys = keys
        self._buckets = {
            (key.name, kind): TokenBucket(per_minute, clock)
            for key in keys
            for kind, per_minute in (("requests", key.requests_per_minute), ("rows", key.rows_per_minute))
            if per_minute is not None
        }

    def owner(self, authorization: str) -> str | None:
        """The name of the key in an Authorization header, compared in constant time; None for no known key."""
        scheme, _, given = authorization.partition(" ")
        hashed = hash_key(given.strip()) if scheme.lower() == "bearer" else ""
        found = [key.name for key in self._keys if hmac.compare_digest(key.sha256, hashed)]
        return found[0] if found else None

    def spend(self, owner: str, kind: str, amount: int) -> float:
        """Take from an owner's bucket of requests or rows; the seconds to wait where there is not enough, else 0."""
        bucket = self._buckets.get((owner, kind))
        return 0.0 if bucket is None else bucket.take(amount)


class TokenBucket:
    """Holds what a minute gives and fills up evenly. An amount that never fits may be taken from a full one: its debt
    is waited for afterwards.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = float(per_minute), clock
        self._level, self._at = self._most, clock()

    def take(self, amount: int) -> float:
        """Take an amount and return 0, or take nothing and return the seconds until it would be there."""
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self._most / 60)
        self._at = now
        lacking = min(float(amount), self._most) - self._level
        if lacking > 0:
            return lacking * 60 / self._most
        self._level -= amount
        return 0.0


WINDOW_S = 10.0  # the rate of rows is that of about so many seconds
LONGEST_WAIT_S = 60.0


class Admission:
    """Counts rows in one event loop, and estimates when there will be room."""

    def __init__(
        self, max_rows: int, *, told: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`told` hears of every change."""
        self._most, self._told, self._clock = max_rows, told, clock
        self._rows = 0
        self._rate, self._rate_at = 0.0, clock()

    @contextmanager
    def hold(self, rows: int) -> Iterator[Callable[[int], None]]:
        """Room for so many rows within the block; call what it gives with every number that is handed out.

        Raises:
            Problem: they do not fit (429), with the seconds after which they may.
        """
        if self._rows + rows > self._most:
            lacking = self._rows + rows - self._most
            wait_s = min(LONGEST_WAIT_S, lacking / self._rate) if self._rate > 0 else 1.0
            raise overloaded(f"{self._rows} rows are under way, {self._most} are the most", wait_s)
        left = rows
        self._change(rows)

        def handed_out(count: int) -> None:
            nonlocal left
            left -= count
            self._change(-count)
            self._measure(count)

        try:
            yield handed_out
        finally:
            self._change(-left)

    def _change(self, rows: int) -> None:
        self._rows += rows
        self._told(self._rows)

    def _measure(self, rows: int) -> None:
        """An exponential mean of rows per second."""
        now = self._clock()
        kept = max(0.0, 1.0 - (now - self._rate_at) / WINDOW_S)
        self._rate, self._rate_at = self._rate * kept + rows / WINDOW_S, now


_LOOK_EVERY_S = 0.05


@dataclass(slots=True)
class Traffic:
    """Counts the requests of one server process; at most `most` at a time."""

    most: int
    requests: int = 0
    closing: bool = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around one request. Raises Problem where there are too many (429) or the server is about to end (503)."""
        if self.closing:
            raise Problem(503, "closing", "the server is about to end; try again", retry_after_s=5.0)
        if self.requests >= self.most:
            raise overloaded(f"{self.requests} requests are under way")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def close(self, within_s: float) -> int:
        """Let no more in, and wait until none is left or `within_s` has passed; returns how many are left."""
        self.closing = True
        ends = time.monotonic() + within_s
        while self.requests and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_EVERY_S)
        return self.requests
