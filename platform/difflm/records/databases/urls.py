"""The URL of a table in a database, such as ``postgresql://ann@host/sales?table=people``, and how it is shown.

SQLAlchemy's own URLs, with the keys ``table`` (also SCHEMA.TABLE) or ``query`` to read from, and ``if_exists`` (fail,
append, replace) to write to; all other keys go to the driver. ``${NAME}`` stands for an environment variable. Nothing
that is shown or raised from here holds a password or what the driver was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from difflm.errors import ConfigError, DataError
from difflm.extras import optional

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

SCHEMES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "duckdb", "cockroachdb")
IfExists = Literal["fail", "append", "replace"]
_HOW: tuple[IfExists, ...] = ("fail", "append", "replace")
_URL = re.compile(rf"({'|'.join(SCHEMES)})(\+\w+)?:", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_EXAMPLE = "such as postgresql://USER@HOST/DATABASE?table=NAME or sqlite:///FILE.db?table=NAME"


def is_database(given: object) -> bool:
    """Tell whether a source or a destination is the URL of a database."""
    return isinstance(given, str) and _URL.match(given) is not None


def shown_database(given: str) -> str:
    """Return what a message may show of the URL of a database that has not been read yet: kind and no more."""
    return given.partition(":")[0] + "://..."


def shown_source(given: object) -> str:
    """Return what may be shown and written down of a source: a path as it is, the URL of a database without passwords.

    Raises:
        ConfigError: it is the URL of a database that cannot be read.
    """
    return str(DatabaseUrl.parse(given) if isinstance(given, str) and is_database(given) else given)


def refuse_database(given: object, what: str) -> None:
    """Refuse a database where only files are read; the URL itself is not repeated.

    Raises:
        ConfigError: it is the URL of one.
    """
    if is_database(given):
        raise ConfigError(
            f"{what}: {shown_database(str(given))} is a database, which is no file; difflm run, plan, inspect, "
            "evaluate and Python read one as a table itself, and settings, which are written down, none"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DatabaseUrl:
    """What to connect to, and the table or query in it; `repr` and `str` are what may be shown."""

    url: URL
    table: str | None
    schema: str | None
    query: str | None
    if_exists: IfExists

    @classmethod
    def parse(cls, given: str, environment: Mapping[str, str] = os.environ) -> DatabaseUrl:
        """Read a URL.

        Raises:
            ConfigError: it cannot be read, names no table, or a variable of the environment that is not set.
        """
        shown = shown_database(given)
        if "\0" in given:
            raise ConfigError(f"{shown}: cannot be read as a URL; give one {_EXAMPLE}")
        with optional("sql", f"{shown}: a table of a database"):
            from sqlalchemy.engine import make_url
            from sqlalchemy.exc import ArgumentError
        try:
            url = make_url(_VARIABLE.sub(lambda found: _variable(found, shown, environment), given))
        except (ArgumentError, ValueError):
            raise ConfigError(f"{shown}: cannot be read as a URL; give one {_EXAMPLE}, with %40 for @") from None
        if "@" in (url.host or ""):  # the end of a password, which would be shown
            raise ConfigError(f"{shown}: holds more than one @; write %40 for those of a user or a password")
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        asked = {key: url.query.get(key) for key in ("table", "query", "if_exists")}
        if any(isinstance(value, tuple) for value in asked.values()):
            raise ConfigError(f"{shown}: table, query or if_exists is given twice; give each once")
        named = {key: cast("str | None", value) for key, value in asked.items()}
        if (named["table"] is None) == (named["query"] is None):
            raise ConfigError(f"{shown}: give either ?table=NAME or ?query=SELECT..., {_EXAMPLE}")
        how = named["if_exists"] or "fail"
        if how not in _HOW:
            raise ConfigError(f"{shown}: if_exists={how}: unknown; give fail, append or replace")
        schema, _, table = (named["table"] or "").rpartition(".")
        return cls(
            url=url.difference_update_query(tuple(asked)),
            table=table or None,
            schema=schema or None,
            query=named["query"],
            if_exists=how,
        )

    def __repr__(self) -> str:
        """Show the place without a password, or anything else that is for the driver only."""
        host = "" if self.url.host is None else self.url.host
        port = "" if self.url.port is None else f":{self.url.port}"
        user = "" if self.url.username is None else f"{self.url.username}@"
        place = f"{self.url.get_backend_name()}://{user}{host}{port}/{self.url.database or ''}"
        schema = "" if self.schema is None else f"{self.schema}."
        return f"{place}?table={schema}{self.table}" if self.query is None else f"{place}?query=..."

    @property
    def name(self) -> str:
        """A short name for what is read: the table's, or that of the database."""
        return self.table or Path(self.url.database or "query").stem

    def hidden(self, text: str) -> str:
        """Return a driver's message on one line, without the password."""
        whole = text.replace(str(self.url.password), "***") if self.url.password else text
        return " ".join(whole.split())[:300]

    @contextmanager
    def connected(self, *, reading: bool) -> Iterator[Connection]:
        """Connect within a transaction, which ends with the block: rolled back after reading or an error.

        Raises:
            ConfigError: the driver is not installed.
            DataError: the database cannot be reached or does not let this user in, or a statement failed.
        """
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        engine = self._engine()
        self._refuse_missing_file(reading=reading)
        made = None if self._file is None or self._file.exists() else self._file
        try:
            with engine.connect() as connection:
                yield connection
                if reading:
                    connection.rollback()
                else:
                    connection.commit()
        except DBAPIError as error:
            raise DataError(f"{self}: {self.hidden(str(error.orig))}; {_remedy(str(error.orig))}") from None
        except SQLAlchemyError as error:
            raise DataError(f"{self}: {self.hidden(str(error))}; check the URL and the table") from None
        finally:
            engine.dispose()
            if made is not None and made.is_file() and made.stat().st_size == 0:  # SQLite's, as it began
                made.unlink()

    def _engine(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import NoSuchModuleError
        from sqlalchemy.pool import NullPool

        try:
            return create_engine(self.url, poolclass=NullPool, hide_parameters=True)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self}: its driver {error.name} is not installed; pip install 'difflm[sql]' brings the one for "
                "PostgreSQL, others have packages of their own"
            ) from None
        except NoSuchModuleError:
            kind = self.url.drivername
            raise ConfigError(f"{self}: nothing here speaks {kind}; install its dialect for SQLAlchemy") from None

    @property
    def _file(self) -> Path | None:
        """The file of SQLite's that is named; None where there is none."""
        name = self.url.database
        in_memory = not name or name == ":memory:" or name.startswith("file:")
        return None if self.url.get_backend_name() != "sqlite" or in_memory else Path(str(name))

    def _refuse_missing_file(self, *, reading: bool) -> None:
        """SQLite makes a file that is not there, which is wanted only to write to."""
        path = self._file
        if path is None:
            return
        if reading and not path.is_file():
            raise DataError(f"{self}: {path}: no such file; check the path (sqlite:///relative, sqlite:////absolute)")
        if not reading and not path.absolute().parent.is_dir():
            raise DataError(f"{self}: there is no folder {path.absolute().parent}; make it first")


def _variable(found: re.Match[str], shown: str, environment: Mapping[str, str]) -> str:
    from urllib.parse import quote

    value = environment.get(found.group(1))
    if not value:
        raise ConfigError(f"{shown}: the environment variable {found.group(1)} is not set; set it or write it out")
    return quote(value, safe="")


def _remedy(message: str) -> str:
    low = message.lower()
    if "password" in low or "authentication" in low:
        return "check user and password: in the URL, as ${NAME} of the environment, in PGPASSWORD or ~/.pgpass"
    if "not authorized" in low or "authorization denied" in low:
        return "a query may only read; give a SELECT"
    if "permission denied" in low or "readonly" in low or "read-only" in low:
        return "ask for the permission, or give another user"
    if "too big" in low:
        return "a cell is larger than the file, as if a view were made to fill the memory; read fewer columns"
    if any(word in low for word in ("connection", "connect", "host", "timeout", "unable to open")):
        return "check host, port and database, and that the server runs"
    return "check the URL, the table and the query"
