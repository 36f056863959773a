"""Stores: a folder on disk or a prefix of an object store, read and written in the same few ways, each file whole.

Object stores are reached through pyarrow's file systems: they come with pyarrow, which is needed anyway, run in C++
threads, take credentials and endpoints from the usual environment variables (AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL, ...) or from the query of the URL, and make a file visible when it is closed and not before.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from difflm.artifacts.atomic import remove_temporaries, remove_tree, storage_errors, write_bytes_atomic
from difflm.errors import ConfigError, StorageError
from difflm.regular_files import given_path
from difflm.telemetry import JSON, append_event, json_bytes

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem, S3FileSystem

SCHEMES = ("s3", "gs", "file")
_S3_KEYS = {"region", "endpoint_override", "scheme"}
_CONNECT_TIMEOUT_S = 10.0
_REMEDY = "check the URL, credentials, endpoint and bucket"


class Store(Protocol):
    """Files by name; a name may hold slashes. Every method raises StorageError for trouble with the storage itself."""

    @property
    def url(self) -> str:
        """What `open_store` makes this store from, in any process; holds no secret that the user did not put there."""
        ...

    @property
    def shown(self) -> str:
        """The URL as messages show it, without its query and credentials."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file: readers see all of it or nothing."""
        ...

    def append(self, log: str, event: Mapping[str, JSON]) -> None:
        """Add an event to a log: a line of the file LOG.jsonl, or where files cannot grow, a file in the folder LOG
        whose name sorts by time.
        """
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """List names (without the folder) and bytes of the files in a folder; none where there is no such folder."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read from, in pieces."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def clear_temporaries(self, folder: str) -> None:
        """Remove what killed processes left half-written in a folder; call it only while none is writing."""
        ...


def open_store(location: str) -> Store:
    """Open the store at a path or URL; look whether a bucket exists, and make nothing.

    Raises:
        ConfigError: the scheme or a part of the URL is unknown.
        StorageError: the bucket does not exist, or cannot be reached.
    """
    if "://" not in location:
        return LocalStore(Path(location).absolute())
    parts = urlsplit(location)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"{_shown(location)}: unknown scheme {parts.scheme!r}; give a path or one of {known}")
    if parts.scheme == "file":
        return LocalStore(path_of_url(location))
    if not _bucket(parts):
        raise ConfigError(f"{_shown(location)}: names no bucket; give {parts.scheme}://BUCKET/PREFIX")
    system, path = _file_system(location)
    bucket = path.partition("/")[0]
    store = ObjectStore(system=system, path=path.rstrip("/"), url=location)
    with _object_errors(store.shown):
        from pyarrow.fs import FileType

        if system.get_file_info(bucket).type == FileType.NotFound:
            raise StorageError(f"{store.shown}: there is no bucket {bucket!r}; make it, or {_REMEDY}")
    return store


def path_of_url(location: str) -> Path:
    """Return the path that a file URL names.

    Raises:
        ConfigError: it names another machine or more than a path, or no disk can have such a path.
    """
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{location}: a file URL has three slashes and an absolute path, as file:///data/rows")
    if parts.query or parts.fragment:
        raise ConfigError(f"{location}: ends in more than a path; write ? as %3F and # as %23 in a file URL")
    return given_path(unquote(parts.path), name=location)


def _file_system(location: str) -> tuple[FileSystem, str]:
    """Return the file system that a URL asks for, and the path in it."""
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    parts = urlsplit(location)
    if parts.scheme == "s3":
        return _s3(parts), f"{_bucket(parts)}{unquote(parts.path)}"
    try:
        system, path = FileSystem.from_uri(location)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{_shown(location)}: {_one_line(error)}; {_REMEDY}") from error
    return system, str(path)


def _s3(parts: SplitResult) -> S3FileSystem:
    """Open the S3 of a URL s3://KEY:SECRET@BUCKET/PREFIX?region=...&endpoint_override=...; only BUCKET must be there.

    What the URL leaves out comes from the environment. The region is asked for over the network only where nothing
    names a region or an endpoint.
    """
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    given = dict(parse_qsl(parts.query))
    unknown = set(given) - _S3_KEYS
    if unknown:
        known = ", ".join(sorted(_S3_KEYS))
        raise ConfigError(f"{_shown(parts.geturl())}: unknown setting {min(unknown)!r}; the URL takes {known}")
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    endpoint = given.get("endpoint_override") or named
    scheme, _, host = endpoint.rpartition("://")
    region = given.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    with _object_errors(_shown(parts.geturl())):
        return S3FileSystem(
            access_key=unquote(parts.username) if parts.username else None,
            secret_key=unquote(parts.password) if parts.password else None,
            region=region or ("us-east-1" if host else resolve_s3_region(_bucket(parts))),
            scheme=given.get("scheme") or scheme or "https",
            endpoint_override=host or None,
            connect_timeout=_CONNECT_TIMEOUT_S,
        )


@dataclass(frozen=True, slots=True)
class LocalStore:
    """A folder on a disk that this machine sees; files are flushed and renamed into place."""

    folder: Path

    @property
    def url(self) -> str:
        return str(self.folder)

    @property
    def shown(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            with storage_errors(path):
                if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may never end
                    raise StorageError(f"{path}: is no file; remove it, or give another place")
                return path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        write_bytes_atomic(self.folder / name, content)

    def append(self, log: str, event: Mapping[str, JSON]) -> None:
        path = self.folder / f"{log}.jsonl"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            append_event(path, event)

    def sizes(self, folder: str) -> dict[str, int]:
        path = self.folder / folder
        if path.is_symlink():  # what is taken away in it would be somebody else's
            raise StorageError(f"{path}: is a link; put the folder itself there, or link the whole dataset")
        if not path.exists():
            return {}
        with storage_errors(path):
            return {item.name: item.stat().st_size for item in path.iterdir() if item.is_file() and item.name[0] != "."}

    def open(self, name: str) -> IO[bytes]:
        with storage_errors(self.folder / name):
            return (self.folder / name).open("rb")

    def remove(self, name: str) -> None:
        with storage_errors(self.folder / name):
            remove_tree(self.folder / name)

    def clear_temporaries(self, folder: str) -> None:
        remove_temporaries(self.folder / folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """A prefix of a bucket. A file appears with the request that ends its upload."""

    system: FileSystem
    path: str
    url: str

    @property
    def shown(self) -> str:
        return _shown(self.url)

    def read(self, name: str) -> bytes | None:
        try:
            with _object_errors(f"{self.shown}/{name}"), self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        with _object_errors(f"{self.shown}/{name}"):
            with self.system.open_output_stream(f"{self.path}/{name}") as stream:
                stream.write(content)

    def append(self, log: str, event: Mapping[str, JSON]) -> None:
        self.write(f"{log}/{time.time_ns():020d}.json", json_bytes(event))

    def sizes(self, folder: str) -> dict[str, int]:
        from pyarrow.fs import FileSelector, FileType

        with _object_errors(f"{self.shown}/{folder}"):
            selector = FileSelector(f"{self.path}/{folder}".rstrip("/"), allow_not_found=True)
            found = self.system.get_file_info(selector)
        return {info.base_name: info.size for info in found if info.type == FileType.File}

    def open(self, name: str) -> IO[bytes]:
        with _object_errors(f"{self.shown}/{name}"):
            opened: IO[bytes] = cast("IO[bytes]", self.system.open_input_stream(f"{self.path}/{name}"))
        return opened

    def remove(self, name: str) -> None:
        from pyarrow.fs import FileType

        path = f"{self.path}/{name}"
        with _object_errors(f"{self.shown}/{name}"):
            if self.system.get_file_info(path).type == FileType.File:
                self.system.delete_file(path)

    def clear_temporaries(self, folder: str) -> None:
        """Do nothing: an upload that was not ended left no file."""


@contextmanager
def _object_errors(shown: str) -> Iterator[None]:
    """Raise what an object store refuses or cannot do as one line; a missing file stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{shown}: {_one_line(error)}; {_REMEDY}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _bucket(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _shown(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.scheme}://{_bucket(parts)}{parts.path}".rstrip("/")
