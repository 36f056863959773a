"""The shard actor: a process that keeps a worker between shards, and does what the ledger orders.

Errors leave it as rows: an exception would end the whole map in a long traceback.

Shipping: a folder of the driver's machine brought to every node once, through Ray's object store.

The nodes of a cluster need not share a disk with the driver. The folder is packed once, lies once in the object store
of each node that asks for it, and is unpacked there by the first process; its name is the hash of its contents, so that
later jobs find it.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import stat
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.artifacts.dataset import Shard
from difflm.artifacts.hashing import hash_folder
from difflm.config import Config
from difflm.errors import DiffLMError, RunError, StorageError, UserError
from difflm.runtime.cluster import ClusterContext
from difflm.runtime.ledger import Order, Piece
from difflm.runtime.process import error_class
from difflm.telemetry import JSON, peak_rss_mib


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedFolder:
    """A packed folder: the hash of its contents, and the reference to its archive."""

    digest: str
    archive: Any


def ship(folder: Path) -> ShippedFolder:
    """Pack a folder into the object store of the running cluster."""
    import ray

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, arcname=".")
    return ShippedFolder(digest=hash_folder(folder), archive=ray.put(packed.getvalue()))


def reachable(folders: Mapping[str, Path], context: ClusterContext) -> dict[str, str | ShippedFolder]:
    """Give folders as arguments of actors: paths where all actors run on this machine, else what `unpacked` unpacks."""
    return {name: str(path.resolve()) if context.local else ship(path) for name, path in folders.items()}


def unpacked(value: Any) -> Any:
    """Return an argument as an actor's own code wants it: the path of a shipped folder; anything else as it is."""
    return str(unpack(value)) if isinstance(value, ShippedFolder) else value


def unpack(shipped: ShippedFolder) -> Path:
    """Unpack a shipped folder on this node, at most once, and whole or not at all; return its path.

    Raises:
        StorageError: the node's temporary folder is full or cannot be written.
    """
    import ray

    target = Path(tempfile.gettempdir()) / f"difflm-{os.getuid()}" / shipped.digest[:32]
    with storage_errors(target):
        _own(target.parent)
        if target.is_dir():
            return target
        temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(6)}")
        try:
            with tarfile.open(fileobj=io.BytesIO(ray.get(shipped.archive))) as archive:
                archive.extractall(temporary, filter="data")
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # another process was quicker
                raise
        finally:
            remove_tree(temporary)
    return target


def _own(folder: Path) -> None:
    """Make a folder that nobody else may write to. Everybody may make one of its name beforehand, to have a model of
    theirs loaded.

    Raises:
        StorageError: somebody else did.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageError(f"{folder}: others may write there; remove it, or set TMPDIR to a folder of your own")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSummary:
    """What a map did: shards finished, wall seconds, and the peak resident memory of every actor process by pid."""

    shards: int
    seconds: float
    first_result_seconds: float
    peak_rss_mib: dict[int, float]


class ShardWorker(Protocol):
    """A class of an installed package; one instance lives in each actor and keeps its model between shards."""

    def __init__(self, args: dict[str, Any]) -> None:
        """Take JSON-like arguments; loading a model belongs here."""
        ...

    def run(self, shard: Shard) -> dict[str, JSON]:
        """Write the output of a shard, or of a piece of one, by rename, and return its account. Running it again must
        give the same file.
        """
        ...


class ActorPoolConfig(Config):
    """The processes of a shard map."""

    min_actors: int | None = Field(
        default=None, ge=1, description="Actors to start with, more come while there is work; none: all at once."
    )
    max_actors: int | None = Field(default=None, ge=1, description="Most actors; none: as many as fit on the cluster.")
    cpus_per_actor: int = Field(default=1, ge=1, description="CPUs, and torch threads, of each actor.")
    gpus_per_actor: float = Field(default=0.0, ge=0.0, description="GPUs of each actor; a fraction shares one.")
    attempts: int = Field(default=2, ge=1, description="How often a shard that raises is tried before it is cut.")
    max_failures: int = Field(default=3, ge=0, description="How often a process may die on a shard before it is cut.")
    max_given_up: int = Field(
        default=16, ge=0, description="Indices given up because they kill or break their process, before the map ends."
    )


def raise_failure(row: Mapping[str, Any]) -> None:
    """Raise the error that a row of `ShardRunner` is about, naming its shard."""
    kind = error_class(row["error"])
    text = row["reason"] if kind is not None else f"{row['error']}: {row['reason']}"
    raise (kind or RunError)(f"shard {row['shard']} failed after {row['attempts']} attempts: {text}")


# torch's matrix products on CPUs keep a compiled kernel of nearly 1 MB for each of the last 1,024 shapes, and decoding
# has another number of tokens in every round. With 128 of them it is as fast, in half the memory.
KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}


class LedgerCall(Protocol):
    """Calls a method of the map's `ShardLedger`, wherever that lives."""

    def __call__(self, method: str, *args: Any) -> Any: ...


class ShardRunner:
    """Keeps a worker between shards and does what the ledger orders; errors come back as rows."""

    def __init__(self, actor: type[ShardWorker], args: Mapping[str, Any], *, attempts: int, ledger: LedgerCall) -> None:
        self._actor = actor
        self._args = args
        self._attempts = attempts
        self._ledger = ledger
        self._worker: ShardWorker | None = None

    def rows(self, shard: Shard) -> list[dict[str, JSON]]:
        """Work on a shard, and give an account of each of its pieces, or one row about the error that ends the map."""
        while True:
            stopped = self._load(shard)
            if stopped is None:
                order: Order = self._ledger("take", shard.id, shard.start, shard.stop)
                if order.action == "finished":
                    return [{**account, "shard": shard.id} for account in order.accounts]
                stopped = self._work(shard.id, order.piece) if order.piece is not None else order
            if stopped is not None:
                facts: dict[str, JSON] = {"error": stopped.error, "reason": stopped.reason}
                return [{**facts, "attempts": stopped.attempts, "shard": shard.id}]

    def _load(self, shard: Shard) -> Order | None:
        """Build the worker where there is none; an order to stop when that cannot be done."""
        if self._worker is not None:
            return None
        refused: Order | None = self._ledger("load", shard.id, shard.start, shard.stop)
        if refused is not None:
            return refused
        attempt = 0
        while self._worker is None:
            attempt += 1
            try:
                self._worker = self._actor({name: unpacked(value) for name, value in self._args.items()})
            except Exception as error:  # the boundary of a process: whatever it is travels as a row
                if isinstance(error, UserError) or attempt == self._attempts:
                    return _stop(error, attempt)
        return None

    def _work(self, shard_id: str, piece: Piece) -> Order | None:
        """Work on a piece and tell the ledger how that went; an order to stop, or None."""
        assert self._worker is not None
        started = time.monotonic()
        try:
            account = dict(self._worker.run(Shard(id=shard_id, start=piece.start, stop=piece.stop)))
        except UserError as error:  # a full disk is full for every index
            return _stop(error, 1)
        except Exception as error:  # the boundary of a process: whatever it is travels as a row
            if not isinstance(error, DiffLMError):
                self._worker = None  # what it holds may be broken, too
            failed: Order | None = self._ledger("fail", shard_id, type(error).__name__, _text(error))
            return failed
        facts = {"start": piece.start, "stop": piece.stop, "seconds": time.monotonic() - started}
        self._ledger("finish", shard_id, {**account, **facts, "pid": os.getpid(), "peak_rss_mib": peak_rss_mib()})
        return None


class ActorCall:
    """The callable class that Ray Data instantiates in each actor."""

    def __init__(self, actor: type[ShardWorker], args: dict[str, Any], resources: ActorPoolConfig, ledger: Any) -> None:
        os.environ["OMP_NUM_THREADS"] = str(resources.cpus_per_actor)
        for name, capacity in KERNEL_CACHES.items():  # read at the first product
            os.environ.setdefault(name, capacity)
        if not resources.gpus_per_actor:  # Ray hides none here, and all actors would take the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._ledger = ledger
        self._runner = ShardRunner(actor, args, attempts=resources.attempts, ledger=self._tell)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        columns = zip(batch["id"], batch["start"], batch["stop"], strict=True)
        shards = [Shard(id=str(name), start=int(start), stop=int(stop)) for name, start, stop in columns]
        return {"json": [json.dumps(row) for shard in shards for row in self._runner.rows(shard)]}

    def _tell(self, method: str, *args: Any) -> Any:
        import ray

        return ray.get(getattr(self._ledger, method).remote(*args))


def _stop(error: Exception, attempts: int) -> Order:
    return Order(action="stop", error=type(error).__name__, reason=_text(error), attempts=attempts)


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
