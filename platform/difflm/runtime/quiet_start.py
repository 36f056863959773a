"""Quiet start: keeps the one line that Ray's core prints about its log level off the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_LINE = b"Set ray log level from environment variable"


@contextmanager
def without_log_level_line() -> Iterator[None]:
    """Hold back what is written to descriptor 2 within, and write it afterwards without that line.

    RAY_BACKEND_LOG_LEVEL, which keeps all other such lines away, makes Ray's C++ core print this one before it has a
    log file. It goes to the descriptor itself, so replacing `sys.stderr` would not catch it.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if _LINE not in line:
                    os.write(2, line)
