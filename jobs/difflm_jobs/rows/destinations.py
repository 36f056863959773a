"""Where rows may go: a file of a known ending or a folder, and none within the bundle that they are drawn from."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from difflm.artifacts.formats import FORMATS
from difflm.artifacts.storage import path_of_url
from difflm.errors import ConfigError
from difflm.regular_files import given_path
from difflm_jobs.pipeline.mapping import file_format


def refuse_within(out: str, bundle: Path) -> None:
    """Refuse to write into a bundle: it would be none any more.

    Raises:
        ConfigError: names both.
    """
    if "://" not in out and bundle.resolve() in (place := Path(out).absolute().resolve(), *place.parents):
        raise ConfigError(f"--out {out}: lies in the bundle {bundle}, which it would damage; give another place")


def single_file(out: str, format_: str | None) -> Path | None:
    """Return the path when ``out`` asks for one file, else None.

    Raises:
        ConfigError: its ending is neither that of a format nor a folder's, or no disk can have such a path.
    """
    if not out:
        raise ConfigError("--out is empty; give a file such as rows.csv, or a folder")
    if "://" not in out:  # a URL is longer than names may be, and may have a password in it
        given_path(out, name="--out")
    parts = urlsplit(out)
    path = path_of_url(out) if parts.scheme == "file" else Path(out)
    if out.endswith("/") or not path.suffix[1:].isalpha():
        return None
    if "://" in out and parts.scheme != "file":
        if path.suffix[1:] not in FORMATS:
            return None
        raise ConfigError(f"{out}: one file can be written to a local path only; give a prefix without an ending")
    try:
        named = file_format(path)
    except ConfigError as error:
        raise ConfigError(f"{error}, or end the name of a folder with a slash") from None
    if format_ not in (None, named):
        raise ConfigError(f"--format {format_}: {path} says {named!r}; leave one of them out")
    if path.exists() and not path.is_file():
        raise ConfigError(f"--out {path}: is there and no file; give another name, or a folder with a slash")
    return path
