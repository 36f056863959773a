"""Lifetime: a process that ends with the one that started it, however that one ends."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Mapping

PARENT = "DIFFLM_ENDS_WITH"
GRACE_S = 30.0  # after SIGTERM


def bound_environment() -> Mapping[str, str]:
    """Return this process's environment for a child that is to end with it."""
    return {**os.environ, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Where this process was started to end with its parent: send itself SIGTERM when that one is gone, and end after
    GRACE_S in any case. Nothing happens otherwise; own children inherit nothing of it.

    Raises:
        KeyboardInterrupt: the parent is gone already.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent.isdecimal():
        return
    try:
        watched = os.pidfd_open(int(parent))
    except OSError:
        watched = None  # gone, or a system that has no such thing: its id is looked at instead
    if os.getppid() != int(parent):
        raise KeyboardInterrupt
    threading.Thread(target=_watch, args=(int(parent), watched), daemon=True).start()


def _watch(parent: int, watched: int | None) -> None:
    while os.getppid() == parent:
        if watched is None:
            time.sleep(1.0)
        else:
            select.select([watched], [], [], 60.0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
