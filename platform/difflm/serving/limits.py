"""Limits: who may ask, how many requests are under way, and how many rows a server has accepted and not handed out.

API keys: made at random, kept as hashes, each with limits of its own.

A key has 256 random bits, so one round of SHA-256 is all that its hash needs: there is nothing to guess.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import indent

import yaml
from filelock import FileLock
from pydantic import Field

from difflm.artifacts.atomic import storage_errors, write_bytes_atomic
from difflm.config import Config, load_yaml, parse_yaml, validate
from difflm.errors import ConfigError
from difflm.serving.problems import Problem, overloaded
from difflm.serving.shares import Shares

PREFIX = "difflm_"
_log = logging.getLogger(__name__)
_LOCK_S = 30.0  # writing keys takes milliseconds; whoever holds the file so long hangs


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
    """Read the keys of a file; raise ConfigError for one that cannot be read."""
    return validate(KeysConfig, load_yaml(path), str(path)).keys


def add_key(path: Path, name: str, *, requests_per_minute: int | None, rows_per_minute: int | None) -> str:
    """Make a key, write its hash into a file that only its owner can read, and return the key: nothing else has it.

    Raises:
        ConfigError: the file has a key of that name already, or cannot be read.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    entry = {
        "name": name,
        "sha256": hash_key(key),
        "requests_per_minute": requests_per_minute,
        "rows_per_minute": rows_per_minute,
    }
    made = validate(KeyConfig, entry, f"--name {name}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S, mode=0o600):
            known = read_keys(path) if path.exists() else []
            if any(key.name == name for key in known):
                raise ConfigError(f"{path}: there is a key {name!r} already; give another name, or take it out of it")
            content = _with_key(path.read_text(encoding="utf-8") if path.exists() else "", known, made)
            write_bytes_atomic(path, content.encode(), mode=0o600)
    return key


def _with_key(text: str, known: list[KeyConfig], made: KeyConfig) -> str:
    """Return a file of keys with one more: put behind what is there, comments and all, where that reads back so."""
    keys = KeysConfig(keys=[*known, made])
    entry: str = yaml.safe_dump([made.model_dump(mode="json")], sort_keys=False)
    for more in (entry, indent(entry, "  "), f"keys:\n{entry}"):
        longer = f"{text.rstrip()}\n{more}".lstrip("\n")
        with suppress(ConfigError):
            found = parse_yaml(longer, "the keys")
            if isinstance(found, dict) and validate(KeysConfig, found, "the keys") == keys:
                return longer
    whole: str = yaml.safe_dump(keys.model_dump(mode="json"), sort_keys=False)
    return whole


def hash_key(key: str) -> str:
    """Return the hash that a file of keys holds for a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Who asks, and whether they may ask again yet: token buckets of one minute, in the memory of this process."""

    def __init__(
        self, keys: list[KeyConfig], clock: Callable[[], float], *, file: Path | None = None, every_s: float = 10.0
    ) -> None:
        """With a `file` it is looked at every so many seconds: keys that were taken out of it may ask no more."""
        self._clock, self._file, self._every_s = clock, file, every_s
        self._looked = clock()
        self._stamp: tuple[int, int, int] | None = None  # it may have changed since it was read
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        self._take(keys)

    def _take(self, keys: list[KeyConfig]) -> None:
        """Let these keys ask, and no others; what one has used up stays so where its limit does."""
        before, self._keys, self._buckets = self._buckets, keys, {}
        for key in keys:
            for kind, per_minute in (("requests", key.requests_per_minute), ("rows", key.rows_per_minute)):
                if per_minute is not None:
                    bucket = before.get((key.name, kind))
                    same = bucket is not None and bucket.per_minute == per_minute
                    self._buckets[key.name, kind] = bucket if same and bucket else TokenBucket(per_minute, self._clock)

    def _look(self) -> None:
        """Read the file anew if it is another; one that cannot be read, or is gone, leaves the keys as they were."""
        now = self._clock()
        if self._file is None or now - self._looked < self._every_s:
            return
        self._looked, stamp = now, _stamp(self._file)
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(read_keys(self._file))
        except ConfigError as error:
            _log.warning("the keys stay as they were: %s", error)

    def owner(self, authorization: str) -> str | None:
        """Return the name of the key in an Authorization header, compared in constant time; None for no known key."""
        self._look()
        scheme, _, given = authorization.partition(" ")
        hashed = hash_key(given.strip()) if scheme.lower() == "bearer" else ""
        found = [key.name for key in self._keys if hmac.compare_digest(key.sha256, hashed)]
        return found[0] if found else None

    @property
    def owners(self) -> list[str]:
        """The names of all keys."""
        return [key.name for key in self._keys]

    def refund(self, owner: str, kind: str, amount: int) -> None:
        """Put back what was taken for something that was refused after all."""
        bucket = self._buckets.get((owner, kind))
        if bucket is not None:
            bucket.put_back(amount)

    def spend(self, owner: str, kind: str, amount: int) -> float:
        """Take from an owner's bucket of requests or rows; the seconds to wait where there is not enough, else 0."""
        bucket = self._buckets.get((owner, kind))
        return 0.0 if bucket is None else bucket.take(amount)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class TokenBucket:
    """Holds what a minute gives and fills up evenly. An amount that never fits may be taken from a full one: its debt
    is waited for afterwards.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
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

    def put_back(self, amount: int) -> None:
        """Undo a `take`."""
        self._level = min(self._most, self._level + amount)


WINDOW_S = 10.0  # the rate of rows is that of about so many seconds
LONGEST_WAIT_S = 60.0


class Admission:
    """Counts rows in one event loop, and estimates when there will be room."""

    def __init__(
        self,
        max_rows: int,
        *,
        told: Callable[[int], None],
        owners: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`told` hears of every change; `owners` are the keys that share the room."""
        self._shares, self._told, self._clock = Shares(max_rows, owners), told, clock
        self._rate, self._rate_at = 0.0, clock()

    @contextmanager
    def hold(self, rows: int, owner: str = "") -> Iterator[Callable[[int], None]]:
        """Hold room for so many rows within the block; call what it gives with every number that is handed out.

        Raises:
            Problem: they do not fit (429), with the seconds after which they may.
        """
        shares = self._shares
        if not shares.fits(owner, rows):
            lacking = max(rows // 2, shares.total + rows - shares.most)
            wait_s = min(LONGEST_WAIT_S, lacking / self._rate) if self._rate > 0 else 1.0
            raise overloaded(
                f"{shares.total} rows are under way ({shares.held(owner)} of this key), {shares.most} are the most, "
                "which keys share",
                wait_s,
            )
        left = rows
        self._change(owner, rows)

        def handed_out(count: int) -> None:
            nonlocal left
            left -= count
            self._change(owner, -count)
            self._measure(count)

        try:
            yield handed_out
        finally:
            self._change(owner, -left)

    def _change(self, owner: str, rows: int) -> None:
        self._shares.add(owner, rows)
        self._told(self._shares.total)

    def _measure(self, rows: int) -> None:
        """Update the exponential mean of rows per second."""
        now = self._clock()
        kept = max(0.0, 1.0 - (now - self._rate_at) / WINDOW_S)
        self._rate, self._rate_at = self._rate * kept + rows / WINDOW_S, now


_LOOK_EVERY_S = 0.05


class Traffic:
    """Counts the requests of one server process; at most `most` at a time, which the owners share."""

    def __init__(self, *, most: int, owners: Iterable[str] = ()) -> None:
        self._shares = Shares(most, owners)
        self.closing = False

    @property
    def requests(self) -> int:
        """How many are under way."""
        return self._shares.total

    @contextmanager
    def one(self, owner: str = "") -> Iterator[None]:
        """Count one request within the block.

        Raises:
            Problem: there are too many (429), or the server is about to end (503).
        """
        if self.closing:
            raise Problem(503, "closing", "the server is about to end; try again", retry_after_s=5.0)
        if not self._shares.take(owner, 1):
            raise overloaded(f"{self.requests} requests are under way ({self._shares.held(owner)} of this key)")
        try:
            yield
        finally:
            self._shares.add(owner, -1)

    async def close(self, within_s: float) -> int:
        """Let no more in, and wait until none is left or `within_s` has passed; return how many are left."""
        self.closing = True
        ends = time.monotonic() + within_s
        while self.requests and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_EVERY_S)
        return self.requests
