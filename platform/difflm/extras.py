"""Optional libraries: which extra of the package brings which of them, and the line that says how to get it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from difflm.errors import ConfigError

EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cluster": ("aiohttp_cors",),
        "excel": ("python_calamine", "openpyxl"),
        "judge": ("openai", "aiolimiter", "krippendorff"),
        "llm": ("gguf", "peft"),
        "mcp": ("mcp",),
        "privacy": ("opacus", "opendp"),
        "protocol": ("sdmetrics",),
        "report": ("matplotlib",),
        "serve": ("fastapi", "starlette", "prometheus_client", "uvicorn"),
        "sign": ("cryptography",),
        "sql": ("sqlalchemy", "psycopg"),
    }
)
"""By extra the modules that it brings and nothing else does; `pyproject.toml` lists their distributions."""


def has_module(name: str) -> bool:
    """Tell whether a top-level module can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def has_extra(extra: str) -> bool:
    """Tell whether everything that an extra brings can be imported."""
    return all(has_module(name) for name in EXTRAS[extra])


def installed_by(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'difflm[{extra}]'"


def require(extra: str, what: str) -> None:
    """Refuse, before any work, what an extra is needed for.

    Raises:
        ConfigError: a module of the extra is missing; names it and the command that installs it.
    """
    missing = next((name for name in EXTRAS[extra] if not has_module(name)), None)
    if missing is not None:
        raise ConfigError(f"{what} needs {missing}, which is not installed; {installed_by(extra)} installs it")


def describe_missing(error: BaseException) -> str | None:
    """Turn the failed import of an optional library into the line that says how to get it; None for other errors."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
    return None if extra is None else f"this needs {name}, which is not installed; {installed_by(extra)} installs it"


@contextmanager
def optional(extra: str, what: str) -> Iterator[None]:
    """Raise ConfigError in place of a failed import of a module that an extra brings."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[extra]:
            raise
        raise ConfigError(
            f"{what} needs {error.name}, which is not installed; {installed_by(extra)} installs it"
        ) from error
