"""An environment of its own for each method of others: made once in a cache, found again by what is installed in it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from difflm.artifacts import write_bytes_atomic
from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.errors import RunError
from difflm.models import gguf_files
from difflm_jobs.benchmark.methods import Environment, Method

COMPLETE = ".complete"
INSTALL_TIMEOUT_S = 3600
_VERSION = ".".join(map(str, sys.version_info[:2]))


class NoEnvironmentError(RunError):
    """An environment that cannot be made here: without a network, or where a package has no wheel."""


def cache_folder(given: Path | None) -> Path:
    """Return the folder that environments lie in; by default one in the user's cache, or in DIFFLM_CACHE."""
    if given is not None:
        return given
    return gguf_files.cache_folder() / "methods"


def python_of(method: Method, cache: Path, say: Callable[[str], None]) -> Path:
    """Find or make what runs a method.

    Raises:
        NoEnvironmentError: it could not be made; says what failed.
    """
    if method.python is not None:
        return Path(method.python)
    if method.environment is None:
        return Path(sys.executable)
    return _made(method.name, method.environment, cache, say)


def environment_folder(environment: Environment, cache: Path) -> Path:
    """Tell where an environment lies, or would lie."""
    return cache / f"py{_VERSION}-{hashlib.sha256(_contents(environment).encode()).hexdigest()[:12]}"


def _contents(environment: Environment) -> str:
    return json.dumps([_VERSION, *environment.requirements, "-", *environment.remove])


def _made(name: str, environment: Environment, cache: Path, say: Callable[[str], None]) -> Path:
    folder = environment_folder(environment, cache)
    python = folder / "bin" / "python"
    with storage_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{folder.name}.lock", lambda: say(f"{name}: waits for another command, which makes {folder}")):
        if _is_made(folder, environment) and python.exists():
            return python
        say(f"{name}: installing {len(environment.requirements)} packages into {folder}")
        remove_tree(folder)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        _call(name, [sys.executable, "-m", "venv", str(folder)])
        _call(name, [*pip, "install", "--quiet", *environment.requirements])
        if environment.remove:
            _call(name, [*pip, "uninstall", "--quiet", "--yes", *environment.remove])
        write_bytes_atomic(folder / COMPLETE, _contents(environment).encode())
    return python


@contextmanager
def _alone(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold a lock inside the block; say so where another command has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waits()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_made(folder: Path, environment: Environment) -> bool:
    """Whether a folder was made to its end, of these packages."""
    try:
        return (folder / COMPLETE).read_bytes() == _contents(environment).encode()
    except OSError:
        return False


def _call(name: str, command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise NoEnvironmentError(f"its environment took more than {INSTALL_TIMEOUT_S} s to install") from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or [f"exit code {done.returncode}"]
        raise NoEnvironmentError(f"its environment could not be made: {errors[-1]}")
