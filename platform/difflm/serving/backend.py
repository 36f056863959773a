"""The seam between the HTTP interface and what draws rows: the same for a bundle in this process and for replicas."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from difflm.artifacts.hashing import hash_folder
from difflm.errors import BundleError
from difflm.serving.fair_queue import Chunk
from difflm.synthesis.plans.request import PlanRequest

VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRef:
    """A bundle of one version: its folder and the hash of its files."""

    name: str
    folder: str
    version: str


def bundle_ref(name: str, folder: Path) -> BundleRef:
    """Identify the bundle in a folder as it is now; all of its files are read."""
    return BundleRef(name=name, folder=str(folder), version=hash_folder(folder)[:VERSION_DIGITS])


def refuse_replaced(ref: BundleRef) -> None:
    """Refuse a folder in which another version lies by now: its rows would be taken for those of the one meant.

    Raises:
        BundleError: one does.
    """
    if bundle_ref(ref.name, Path(ref.folder)).version != ref.version:
        raise BundleError(f"{ref.folder}: another version took the place of {ref.version}; ask for rows of that one")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsWanted:
    """Records of indices `start` to `stop` - 1; `given` is the table that the plan is about, if it is about one."""

    bundle: BundleRef
    start: int
    stop: int
    seed: int
    deadline_s: float
    temperature: float | None = None
    plan: PlanRequest = field(default_factory=PlanRequest)
    given: pa.Table | None = None
    owner: str = ""  # the key that asks: keys take turns


class RowsBackend(Protocol):
    """Draws rows and encodes records. Every method raises the errors of `DiffLMError`."""

    def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        """Yield chunks of rows in the order of their indices; the last one is `done` or has a `failure`.

        Closing the generator early gives its places to others.

        Raises:
            OverloadError: there is too much under way.
        """
        ...

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        """Return the latent means (Z numbers each) of the records of a normalised table."""
        ...

    async def load(self, bundle: BundleRef) -> None:
        """Have a bundle in memory."""
        ...
