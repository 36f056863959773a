"""Signals: the program's own handlers, which Ray replaces for good."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def handler_kept(number: signal.Signals) -> Iterator[None]:
    """Put back the handler that a signal had before, unless this is not the main thread, where Ray sets none either."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)
