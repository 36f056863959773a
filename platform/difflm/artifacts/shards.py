"""Shards: the parts of a large output, each with its own account, so that a killed stage keeps what is done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflm.artifacts.atomic import remove_temporaries, storage_errors, temporary_sibling, write_json_atomic
from difflm.telemetry import JSON

_PART, _ACCOUNT = "part-", ".json"


def shard_ranges(total: int, per_shard: int) -> Iterator[tuple[str, int, int]]:
    """The shards of indices 0 ... total - 1 as (id, start, stop); the id names the range."""
    for start in range(0, total, per_shard):
        stop = min(start + per_shard, total)
        yield f"{start:09d}-{stop:09d}", start, stop


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """A folder of `part-<id>.parquet` files; a part counts once its account `part-<id>.json` stands beside it.

    Any process may commit parts, also the same part twice: both writes hold the same rows, and each is atomic.
    """

    folder: Path

    def part(self, shard_id: str) -> Path:
        """Where the rows of a shard lie, or would lie."""
        return self.folder / f"{_PART}{shard_id}.parquet"

    def commit(self, shard_id: str, write: Callable[[Path], None], account: Mapping[str, JSON]) -> None:
        """Let `write` fill a temporary file, give it its name, and write its account last.

        Raises:
            StorageError: the disk is full or writing is not permitted; the shard then does not count.
        """
        part = self.part(shard_id)
        with storage_errors(part):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = temporary_sibling(part)
            try:
                write(temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                size = temporary.stat().st_size
                temporary.replace(part)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        write_json_atomic(part.with_suffix(_ACCOUNT), {**account, "size": size})

    def finished(self) -> dict[str, dict[str, Any]]:
        """The accounts of all committed shards, by id, in order; a part that is missing or cut short does not count."""
        accounts: dict[str, dict[str, Any]] = {}
        for path in sorted(self.folder.glob(f"{_PART}*{_ACCOUNT}")):
            shard_id = path.name.removeprefix(_PART).removesuffix(_ACCOUNT)
            account = json.loads(path.read_bytes())
            part = self.part(shard_id)
            if part.is_file() and part.stat().st_size == account["size"]:
                accounts[shard_id] = account
        return accounts

    def clear_temporaries(self) -> None:
        """Remove what killed workers left half-written; call it only while none is running."""
        remove_temporaries(self.folder)
