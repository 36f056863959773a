"""Answers: what became of each question, kept in a log that only grows, so that a killed run asks nothing twice.

The cache of answers: readable replies by the hash of their question, shared by all runs of one person.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from difflm.artifacts.atomic import storage_errors
from difflm.errors import DataError, StorageError
from difflm.lifetime import lock_folder
from difflm.regular_files import read_file
from difflm.telemetry import MAX_LOG, append_event, read_events, truncate_events
from difflm_evaluators.judge.questions import Question

QuestionId = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of one question: `values` when a reply could be read, else `unanswered_because` and `detail`.

    `mode` is the form of output that the server was asked for. Tokens and dollars are those of every request made for
    the question, 0 for an answer from the cache; `uncertain_requests` of them ended without a word about their tokens
    and are charged at the most they can have cost.
    """

    key: str
    item: str
    variant: str
    repeat: int
    values: Mapping[str, Any] | None
    unanswered_because: str | None = None
    detail: str = ""
    mode: str = ""
    cached: bool = False
    requests: int = 0
    uncertain_requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AnswerLog:
    """`answers.jsonl`: one line per question that came to an end; the last line of a key counts."""

    path: Path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder for this process alone within: two would ask everything twice, and mend each other's lines.

        Raises:
            StorageError: another process has it, or it cannot be made.
        """
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            refusal = "another command judges there at this moment; wait for its end, or give another folder with --out"
            lock_folder(folder, f"{self.path.parent}: {refusal}")
            yield
        finally:
            os.close(folder)

    def open(self) -> list[Answer]:
        """Read all lines so far, oldest first, after mending a last one that was cut short.

        Raises:
            DataError: a line is no answer.
            StorageError: the folder cannot be written.
        """
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lines: list[dict[str, Any]] = list(read_events(self.path))
                answers = [_checked(line) for line in lines]
                if _is_cut_short(self.path):
                    truncate_events(self.path, lambda _: True)
                return answers
            except (ValueError, TypeError) as error:
                reason = " ".join(str(error).split())[:200]
                message = f"{self.path}: not a log of a judge's answers ({reason}); give another folder with --out"
                raise DataError(message) from error

    def append(self, answer: Answer) -> None:
        """Write one line at once; StorageError when the disk is full."""
        with storage_errors(self.path):
            append_event(self.path, asdict(answer))


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers by question; a question that never came to an end has none."""

    by_question: Mapping[QuestionId, Answer] = field(default_factory=dict)

    def values(self, item: str, variant: str, repeat: int) -> Mapping[str, Any] | None:
        """Look up what was answered; None where nothing was."""
        answer = self.by_question.get((item, variant, repeat))
        return None if answer is None else answer.values

    @classmethod
    def of(cls, questions: Iterable[tuple[str, Question]], by_key: Mapping[str, Answer]) -> Answers:
        """Hand the answers, found by key, to all questions that have this key."""
        found = {(q.item, q.variant, q.repeat): by_key[key] for key, q in questions if key in by_key}
        return cls(found)


_ANSWERS = TypeAdapter(Answer)
_BEGINNING = b'{"key": "'  # of a line; what is cut short and begins otherwise is somebody else's
_MOST_TOKENS = 2**53  # what sums and prices of are exact


def _is_cut_short(path: Path) -> bool:
    """Tell whether a log ends within a line; ValueError where that is none of an answer."""
    last = read_file(path, most=MAX_LOG).rpartition(b"\n")[2] if path.exists() else b""
    if last and not (last.startswith(_BEGINNING) or _BEGINNING.startswith(last)):
        raise ValueError("its last line is none")
    return bool(last)


def _checked(line: dict[str, Any]) -> Answer:
    """Return the answer of a line; ValueError or TypeError where it is none."""
    Answer(**line)  # TypeError for other keys
    found = _ANSWERS.validate_python(line)
    if max(found.requests, found.uncertain_requests, found.input_tokens, found.output_tokens) > _MOST_TOKENS:
        raise ValueError("it counts more tokens than there are")
    return found


_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"


class Cache(Protocol):
    """Answers that were given before."""

    def get(self, key: str) -> Mapping[str, Any] | None: ...

    def put(self, key: str, values: Mapping[str, Any]) -> None: ...


class NoCache:
    """Remembers nothing."""

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Nothing."""
        del key
        return None

    def put(self, key: str, values: Mapping[str, Any]) -> None:
        """Forget it."""
        del key, values


class DiskCache:
    """A SQLite file that several processes may use at a time. It holds hashes and answers, never a question."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; StorageError when that cannot be done."""
        self._path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if tables - {"answers"}:
                    raise sqlite3.DatabaseError(f"it is a database of something else, with {min(tables)!r}")
                connection.execute(_TABLE)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Look up the answer to a question; None where there is none."""
        with self._errors(), self._connection() as connection:
            row = connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        values: Mapping[str, Any] | None = None if row is None else json.loads(row[0])
        return values

    def put(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep an answer."""
        with self._errors(), self._connection() as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(values)))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # A connection of its own for each access: requests take seconds, this a millisecond, and nothing stays open.
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self._path}: the cache of answers cannot be used ({error}); give another with --cache"
            ) from error


def default_cache_path(environment: Mapping[str, str] = os.environ) -> Path:
    """`difflm/judge.sqlite` in the user's folder for caches."""
    given = environment.get("XDG_CACHE_HOME", "")
    folder = Path(given) if given else Path.home() / ".cache"
    return folder / "difflm" / "judge.sqlite"
