"""Admission: rows that a server has accepted and not yet handed out, held below a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from difflm.serving.problems import overloaded

WINDOW_S = 10.0  # the rate of rows is that of about so many seconds
LONGEST_WAIT_S = 60.0


class Admission:
    """Counts rows in one event loop, and estimates when there will be room."""

    def __init__(
        self, most_rows: int, *, told: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`told` hears of every change."""
        self._most, self._told, self._clock = most_rows, told, clock
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
