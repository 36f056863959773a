"""The critic at work: whether a draw is kept.

critic.safetensors   trees (see `trees`), and `scale` and `offset`: how their sum becomes a chance

Shape legend: N rows, F fields.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save

from difflm.errors import MISFITS, ModelError, reason_of
from difflm.models.decoder_store import read_tensors
from difflm.records.kinds.codes import column_codes, value_code
from difflm.records.schema import CategoricalField, Record, RecordSchema, Value
from difflm.synthesis.critic.trees import Floats, Trees

CRITIC_NAME: Final = "critic.safetensors"
CRITIC: Final = "critic"
"""Why a draw is turned down; it is none of the rejected ones."""
LARGEST: Final = 2**100
"""Numbers beyond, of columns such as 1e200, are all the same to trees."""
CRITIC_TRIES: Final = 6
"""The last of so many draws of an index is kept whatever the critic says."""
_UNREADABLE: Final[tuple[type[Exception], ...]] = (*MISFITS, RuntimeError)


class RowNumbers:
    """Records and tables as numbers, the same of both: a column each, NaN where a value is missing."""

    def __init__(self, schema: RecordSchema) -> None:
        self._fields = schema.fields
        self._places: list[dict[str, int] | None] = [
            {value: place for place, value in enumerate(field.values)} if isinstance(field, CategoricalField) else None
            for field in schema.fields
        ]

    def of_record(self, record: Record) -> Floats:
        """Return a record's numbers, (F,)."""
        pairs = zip(self._fields, self._places, strict=True)
        return np.array([self._number(field, places, record[field.name]) for field, places in pairs], dtype=np.float32)

    @staticmethod
    def _number(field: Any, places: dict[str, int] | None, value: Value) -> float:
        if value is None:
            return math.nan
        return _within(value_code(field, value) if places is None else places[str(value)])

    def of_table(self, table: pa.Table) -> Floats:
        """Return the numbers of normalised rows, (N, F)."""
        columns = [
            np.array([_within(code) for code in column_codes(field, table.column(field.name))])
            for field in self._fields
        ]
        return np.stack(columns, axis=1).astype(np.float32)


def _within(code: int | None) -> float:
    """Return a code as a number that float32 holds, NaN for none."""
    return math.nan if code is None else float(max(-LARGEST, min(LARGEST, code)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """How likely a draw is kept: exp(`scale` times the sum of `trees`, plus `offset`), 1 at most."""

    trees: Trees
    scale: float
    offset: float
    numbers: RowNumbers

    def keeps(self, record: Record, *, index: int, attempt: int) -> bool:
        """Say whether a draw is kept; the same draw always is or is not. The last of its tries is in any case."""
        if attempt + 1 >= CRITIC_TRIES:
            return True
        row_F = self.numbers.of_record(record)
        chance = math.exp(min(0.0, self.scale * self.trees(row_F) + self.offset))
        # By what was drawn and where, which is as good as a random number and needs none.
        digest = hashlib.blake2b(row_F.tobytes() + f"{index}/{attempt}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < chance * 2**64

    def write(self, directory: Path) -> None:
        """Write it into a bundle."""
        # By way of bytes: safetensors writes files that only their owner may read.
        figures = torch.tensor([self.scale, self.offset], dtype=torch.float32)
        (directory / CRITIC_NAME).write_bytes(save({**self.trees.tensors(), "figures": figures}))


def read_critic(directory: Path, schema: RecordSchema) -> Critic | None:
    """Read the critic of a bundle, None where it has none.

    Raises:
        ModelError: it is not of this bundle's fields, or damaged; names the file.
    """
    path = directory / CRITIC_NAME
    if not path.is_file():
        return None
    tensors = read_tensors(path)
    try:
        scale, offset = map(float, tensors["figures"])
        trees = Trees.of_tensors(tensors, features=len(schema.fields))
    except _UNREADABLE as error:
        raise ModelError(f"{path}: no critic of this bundle ({reason_of(error)}); assemble the bundle again") from error
    if not (math.isfinite(scale) and math.isfinite(offset)):
        raise ModelError(f"{path}: no critic of this bundle (figures that are none); assemble the bundle again")
    return Critic(trees=trees, scale=scale, offset=offset, numbers=RowNumbers(schema))
