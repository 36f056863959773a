"""Rows in blocks: as many at once as are drawn quickly, for a decoder writes many together in less time."""

from __future__ import annotations

import time
from collections.abc import Iterator

QUICK_S = 1.0


def blocks(rows: int, least: int, most: int, *, progress: bool) -> Iterator[range]:
    """Yield the indices of rows in order, by multiples of `least`.

    A block has twice as many as the one before where that was drawn within a second, and at most `most`, unless `least`
    are more. With `progress` there is a bar in a terminal or a notebook.
    """
    if not progress:
        yield from _growing(rows, least, most)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("sample", total=rows)
        for block in _growing(rows, least, most):
            yield block
            bar.advance(task, len(block))


def _growing(rows: int, least: int, most: int) -> Iterator[range]:
    start, size = 0, least
    while start < rows:
        began = time.monotonic()
        yield range(start, min(start + size, rows))
        start += size
        if 2 * size <= most and time.monotonic() - began < QUICK_S:
            size *= 2
