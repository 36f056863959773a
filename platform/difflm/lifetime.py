"""Lifetime: a process that ends with the one that started it, however that one ends, and what it holds until then."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from difflm.errors import StorageError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

PARENT = "DIFFLM_ENDS_WITH"
GRACE_S = 30.0  # after SIGTERM
_STOP_S = 30.0  # a process that was asked to end has so long


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


def locked(path: Path) -> IO[bytes]:
    """Take a lock that this process and those that inherit the file hold until the last of them has closed it. Raises
    BlockingIOError where somebody else holds it, OSError where there is no such folder.
    """
    lock = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb")  # not what a link leads to
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def lock_folder(descriptor: int, refusal: str) -> None:
    """Lock an open folder until its descriptor is closed; on a file system without locks, nothing is.

    Raises:
        StorageError: the refusal, where somebody else holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(refusal) from None
    except OSError:
        pass


async def end_process(process: Process) -> None:
    """End a process, which may have ended by itself a moment ago."""
    import asyncio  # here: this module is read before a command line says its help
    import logging

    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        logging.getLogger(__name__).warning("process %d does not end; it is killed", process.pid)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def ending(code: int | None) -> str:
    """Say how a process ended that said nothing itself."""
    if code == -signal.SIGKILL:
        return "its process was killed, as happens where a machine runs out of memory; ask again, or for fewer rows"
    if code is not None and code < 0:
        return f"its process was ended by signal {-code}; ask again"  # not all of them have names
    return f"its process ended with code {code} and said nothing; ask again"
