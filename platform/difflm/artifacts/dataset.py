"""A dataset: parts of fixed index ranges, an entry for each, the job they belong to, and a manifest at the end.

job.json               what the parts are made of, and the fingerprint of that; written first
data/part-A-B.FORMAT   the rows of indices A <= index < B, without those given up
entries/part-A-B.json  written after its part: without one, the part does not count
manifest.json          written last: without one, the dataset is not finished
evaluation.json        where the parts are evaluated: the scores of all rows; events.jsonl: how they went meanwhile

The parts lie in a folder of their own, so that Parquet readers can be given that folder. What is on disk is the truth:
no process remembers what is done. The same range always holds the same rows, so parts may be written twice.

Shards: an index range cut at fixed borders, and the gaps that a set of finished ranges leaves in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from difflm.artifacts.formats import Form, decode_table, encode_table
from difflm.artifacts.storage import Store
from difflm.errors import StorageError
from difflm.telemetry import JSON, json_bytes, parse_json

if TYPE_CHECKING:
    import pyarrow as pa

Range = tuple[int, int]
"""Indices start <= index < stop."""


def part_name(start: int, stop: int) -> str:
    """Return the name of the part that holds a range; names of less than 10**9 rows sort like ranges."""
    return f"part-{start:09d}-{stop:09d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A range of row indices, start <= index < stop, and a name for messages."""

    id: str
    start: int
    stop: int


def missing_ranges(finished: Iterable[Range], total: int, per_shard: int) -> Iterator[Range]:
    """List what is missing of 0 ... total - 1, in order, cut at the multiples of ``per_shard``.

    With nothing finished these are the shards of a fresh job. ``finished`` is in order and without overlaps.
    """
    position = 0
    for start, stop in (*finished, (total, total)):
        while position < min(start, total):
            end = min(start, total, (position // per_shard + 1) * per_shard)
            yield position, end
            position = end
        position = max(position, stop)


def runs_of(indices: Iterable[int]) -> Iterator[Range]:
    """Join ascending indices into the fewest ranges."""
    first = last = None
    for index in indices:
        if first is None or last is None:
            first = index
        elif index != last + 1:
            yield first, last + 1
            first = index
        last = index
    if first is not None and last is not None:
        yield first, last + 1


DATA, ENTRIES = "data", "entries"
JOB_NAME, DATASET_MANIFEST = "job.json", "manifest.json"
EVALUATION_NAME, EVENTS = "evaluation.json", "events"
_READERS = 8  # entries read at a time: an object store answers slowly, but many at once
_CHUNK = 1 << 20


class GivenUp(BaseModel):
    """Indices start <= index < stop that have no row, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int
    stop: int
    reason: str

    @model_validator(mode="after")
    def _some_indices(self) -> Self:
        if self.start >= self.stop:
            raise ValueError(f"indices {self.start} to {self.stop} are none")
        return self


class _Account(BaseModel):
    """What is read of a worker's figures; a worker may say more."""

    model_config = ConfigDict(strict=True)

    attempts: int = Field(default=0, ge=0, lt=2**63)
    rejections: dict[str, Annotated[int, Field(ge=0, lt=2**63)]] = {}
    precision: Literal["float32", "bfloat16"] | None = None


class ShardEntry(BaseModel):
    """What is known of one part: its range, its file, the indices without a row, and what drawing it took.

    ``file`` is None where not one index of the range could be worked on. ``account`` holds the worker's own figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    stop: int
    file: str | None
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    rows: int = Field(ge=0)
    given_up: tuple[GivenUp, ...] = ()
    account: dict[str, Any] = Field(default_factory=dict)

    @field_validator("account")
    @classmethod
    def _readable(cls, account: dict[str, Any]) -> dict[str, Any]:
        _Account.model_validate(account)
        json_bytes(account)  # with a number that is none, no manifest could be written at the end
        return account

    @model_validator(mode="after")
    def _every_index_once(self) -> Self:
        if self.start >= self.stop or any(run.start < self.start or run.stop > self.stop for run in self.given_up):
            raise ValueError(f"not a part of indices {self.start} to {self.stop}")
        if (self.file is None) != (self.sha256 is None):
            raise ValueError("a file and its hash go together")
        if self.file is not None and self.file.rpartition(".")[0] != f"{DATA}/{self.name}":
            raise ValueError(f"{self.file!r} is not the file of this part")
        if self.rows + self.missing != self.stop - self.start:
            raise ValueError(
                f"{self.rows} rows and {self.missing} given up are not the {self.stop - self.start} "
                f"indices {self.start} to {self.stop}"
            )
        return self

    @property
    def missing(self) -> int:
        """Indices without a row."""
        return sum(run.stop - run.start for run in self.given_up)

    @property
    def name(self) -> str:
        """The name of part and entry."""
        return part_name(self.start, self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The files of a dataset in a store; any process on any node may commit parts.

    `safe_csv` and `form` are those of `table_writer`.
    """

    store: Store
    format: str = "parquet"
    safe_csv: bool = False
    form: Form | None = None

    def commit(
        self, start: int, stop: int, table: pa.Table, *, given_up: Iterable[GivenUp] = (), account: dict[str, Any]
    ) -> ShardEntry:
        """Write the rows of a range, then its entry.

        Raises:
            StorageError: the disk is full or writing is not permitted; the part then does not count.
            ValueError: rows and indices given up are not as many as the range has.
        """
        content = encode_table(table, self.format, safe_csv=self.safe_csv, form=self.form)
        entry = ShardEntry(
            start=start,
            stop=stop,
            file=f"{DATA}/{part_name(start, stop)}.{self.format}",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            rows=len(table),
            given_up=tuple(given_up),
            account=account,
        )
        self.store.write(str(entry.file), content)
        self._write_entry(entry)
        return entry

    def give_up(self, start: int, stop: int, reason: str, *, account: dict[str, Any]) -> ShardEntry:
        """Record that a whole range has no rows, and why."""
        given_up = (GivenUp(start=start, stop=stop, reason=reason),)
        entry = ShardEntry(
            start=start, stop=stop, file=None, sha256=None, size=0, rows=0, given_up=given_up, account=account
        )
        self._write_entry(entry)
        return entry

    def _write_entry(self, entry: ShardEntry) -> None:
        self.store.write(f"{ENTRIES}/{entry.name}.json", entry.model_dump_json(indent=2).encode())

    def entries(self) -> list[ShardEntry]:
        """List the entries of all parts that count, in order and without overlaps.

        A part counts when its entry can be read and its file is there in full length. Of two parts that overlap (a
        process that was given up for dead may finish its range while others have begun on halves of it) the one that
        begins first counts, and the longer one of two that begin together.
        """
        sizes = self.store.sizes(DATA)
        names = sorted(self.store.sizes(ENTRIES))
        with ThreadPoolExecutor(_READERS) as pool:
            found = [entry for entry in pool.map(self._read_entry, names) if entry is not None]
        counted: list[ShardEntry] = []
        position = 0
        for entry in sorted(found, key=lambda entry: (entry.start, -entry.stop)):
            there = entry.file is None or sizes.get(entry.file.removeprefix(f"{DATA}/")) == entry.size
            if there and entry.start >= position:
                counted.append(entry)
                position = entry.stop
        return counted

    def sound_entries(self) -> list[ShardEntry]:
        """List the entries of all parts that count and whose files have the bytes that were committed.

        These are what a job goes on from. All parts are read; one that was damaged does not count, and is made again.
        """
        entries = self.entries()
        with ThreadPoolExecutor(_READERS) as pool:
            sound = [*pool.map(self._is_sound, entries)]
        return [entry for entry, fine in zip(entries, sound, strict=True) if fine]

    def _is_sound(self, entry: ShardEntry) -> bool:
        try:
            return entry.file is None or self._hash(entry.file) == entry.sha256
        except FileNotFoundError:
            return False

    def _read_entry(self, name: str) -> ShardEntry | None:
        try:
            return ShardEntry.model_validate_json(self.store.read(f"{ENTRIES}/{name}") or b"")
        except ValidationError:
            return None  # cut short by something that is not this program: the part is made again

    def refuse_gaps(self, entries: Sequence[ShardEntry], rows: int) -> None:
        """Raise StorageError where parts of indices 0 ... rows - 1 are not there any more."""
        for start, stop in missing_ranges([(entry.start, entry.stop) for entry in entries], rows, max(rows, 1)):
            raise StorageError(
                f"{self.store.shown}: the parts of rows {start:,} to {stop - 1:,} are gone; does another command write "
                "there too? Run this one again when that has ended"
            )

    def remove_others(self, entries: Sequence[ShardEntry]) -> None:
        """Remove parts and entries that are not among these: half-made and overlapping ones."""
        for folder, kept in (
            (ENTRIES, {f"{entry.name}.json" for entry in entries}),
            (DATA, {str(entry.file).removeprefix(f"{DATA}/") for entry in entries}),
        ):
            for name in set(self.store.sizes(folder)) - kept:
                self.store.remove(f"{folder}/{name}")
            self.store.clear_temporaries(folder)

    def read_part(self, start: int, stop: int, schema: pa.Schema) -> pa.Table:
        """Read the rows of a part that counts; `schema` is that of the tables which were committed.

        Raises:
            StorageError: it is not there, or cannot be reached.
        """
        name = f"{DATA}/{part_name(start, stop)}.{self.format}"
        content = self.store.read(name)
        if content is None:
            raise StorageError(
                f"{self.store.shown}/{name}: was committed and is not there; give the same command again"
            )
        own = None if self.form is None else self.form.parsed(content, self.format, schema)
        return decode_table(content, self.format, schema) if own is None else own

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read job.json or manifest.json; None where it is missing or not readable as a JSON object."""
        try:
            value = parse_json(self.store.read(name) or b"null")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def write_json(self, name: str, value: JSON) -> None:
        """Write job.json or manifest.json."""
        self.store.write(name, json_bytes(value, indent=2) + b"\n")

    def problems(self, entries: Sequence[ShardEntry], rows: int) -> Iterator[str]:
        """Name what differs between these entries and a dataset of indices 0 ... rows - 1: hashes, gaps, strangers."""
        position = 0
        for entry in entries:
            if entry.start != position:
                yield f"{self.store.shown}: indices {position} to {entry.start} are missing"
            position = entry.stop
            if entry.file is not None and self._hash(entry.file) != entry.sha256:
                yield f"{self.store.shown}/{entry.file}: changed since it was written"
        if position != rows:
            yield f"{self.store.shown}: ends at index {position}, not at {rows}"
        known = {str(entry.file).removeprefix(f"{DATA}/") for entry in entries}
        for name in sorted(set(self.store.sizes(DATA)) - known):
            yield f"{self.store.shown}/{DATA}/{name}: belongs to no entry"

    def _hash(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.store.open(name) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()
