"""Where the records of an experiment come from: files, packaged resources, and how they are read and split."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from difflm.artifacts import hash_file
from difflm.config import Config
from difflm.errors import ConfigError, DataError
from difflm.records.databases.urls import refuse_database
from difflm.records.files.paths import files_of, is_pattern
from difflm.records.files.reading import ReadConfig
from difflm.regular_files import not_there
from difflm_jobs.inputs.record_kinds import Kind, RecordKind, record_kind

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class FileSource(Config):
    """A file: CSV and its relatives, JSON, Parquet, Arrow, Excel or ARFF, also packed; or a pattern, parts/*.csv, of
    several. `${NAME}` stands for an environment variable."""

    kind: Literal["file"] = "file"
    path: str = Field(min_length=1)

    @field_validator("path")
    @classmethod
    def _no_password_is_written_down(cls, path: str) -> str:
        refuse_database(path, "data.train or data.test")  # no ValueError: pydantic would print what was found
        return path


class PackagedSource(Config):
    """A file that ships inside an installed Python package."""

    kind: Literal["packaged"] = "packaged"
    package: str = Field(min_length=1)
    resource: str = Field(min_length=1)


def _shorthand(value: Any) -> Any:
    return {"kind": "file", "path": value} if isinstance(value, str) else value


Source = Annotated[FileSource | PackagedSource, Field(discriminator="kind"), BeforeValidator(_shorthand)]
"""A source; a plain text is short for a file's path."""


def locate(
    source: FileSource | PackagedSource,
    key: str,
    environment: Mapping[str, str] = os.environ,
    *,
    folders: bool = False,
) -> Path:
    """Find the file of a source, or its folder if ``folders`` allows it; ``key`` is its dotted key, for errors.

    Raises:
        ConfigError: the path names an environment variable that is not set.
        DataError: there is no such file, package or resource.
    """
    if isinstance(source, PackagedSource):
        return _locate_resource(source, key)
    path = Path(_VARIABLE.sub(lambda found: _variable(found, source.path, key, environment), source.path)).expanduser()
    if path.is_dir() and folders:
        return path
    if is_pattern(path):
        return _checked_pattern(path, key)
    if path.is_dir():
        raise DataError(f"{key}: {path} is a folder; give the file inside it, for example --set {key}={path}/table.csv")
    if not path.is_file():
        raise DataError(f"{key}: {path}: {not_there(path)} or give another one with --set {key}=PATH")
    return path


def _checked_pattern(path: Path, key: str) -> Path:
    try:
        files_of(path)
    except DataError as error:
        raise DataError(f"{key}: {error}, or give another one with --set {key}=PATH") from None
    return path


def _variable(found: re.Match[str], path: str, key: str, environment: Mapping[str, str]) -> str:
    name = found.group(1)
    value = environment.get(name)
    if not value:
        rest = path[found.end() :].lstrip("/") or "the file"
        raise ConfigError(
            f"{key}: {path!r} needs the environment variable {name}, which is not set; "
            f"set {name} to the folder that holds {rest}, or give --set {key}=PATH"
        )
    return value


def _locate_resource(source: PackagedSource, key: str) -> Path:
    try:
        resource = importlib.resources.files(source.package) / source.resource
    except ModuleNotFoundError:
        raise DataError(
            f"{key}: the package {source.package!r} is not installed; install it or give --set {key}=PATH"
        ) from None
    path = Path(str(resource))
    if not path.is_file():
        raise DataError(
            f"{key}: the installed package {source.package!r} has no file {source.resource!r}; "
            f"install the version in constraints.txt or give --set {key}=PATH"
        )
    return path


def hash_source(path: Path) -> str:
    """Hash a file, all files of a pattern, or all code in a folder; with their names where there are several."""
    if is_pattern(path):
        listed = "".join(f"{file.name} {hash_file(file)}\n" for file in files_of(path))
        return hashlib.sha256(listed.encode()).hexdigest()
    if not path.is_dir():
        return hash_file(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.py")):
        if file.is_file():
            digest.update(f"{file.relative_to(path)} {hash_file(file)}\n".encode())
    return digest.hexdigest()


class DataConfig(Config):
    """A table, and optionally a second one to test with.

    Without ``test``, the shares of ``validation`` and ``test_share`` are taken from ``train`` by a hash of the row
    number; with it, only ``validation`` is. Rows without a target are dropped before the split, and counted.
    """

    train: Source
    test: Source | None = Field(default=None, description="a test table with the same columns")
    target: str | None = Field(default=None, description="column that a model would predict; None for no such column")
    kind: Kind = Field(
        default="table", description="table; tools (JSON as ToolBench has it); code (.py in a folder, JSON or Parquet)"
    )
    longest: int = Field(
        default=2000, ge=1, description="tools and code: most characters of a record; longer ones are left out, counted"
    )
    validation: float = Field(default=0.1, gt=0, lt=1, description="share of rows that early stopping looks at")
    test_share: float = Field(default=0.1, gt=0, lt=1, description="share of rows to test with when no test is given")
    read: ReadConfig = ReadConfig()

    @property
    def record_kind(self) -> RecordKind:
        """What is special to this kind of records."""
        return record_kind(self.kind)

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.test is None and self.validation + self.test_share >= 1:
            raise ValueError(
                f"validation {self.validation} and test_share {self.test_share} leave nothing to train on; "
                "their sum must be below 1"
            )
        return self
