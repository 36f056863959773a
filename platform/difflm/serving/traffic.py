"""Traffic: how many requests are under way, and whether more are let in; what a server waits for before it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from difflm.serving.problems import Problem, overloaded

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
