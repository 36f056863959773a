"""The critic at work: whether a draw is kept.

critic.safetensors   trees (see `trees`) over columns and `pairs` of them, and `figures`: scale and offset, by which
                     their sum becomes a chance

Shape legend: F fields.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save

from difflm.errors import MISFITS, ModelError, reason_of
from difflm.models.decoder_store import read_tensors
from difflm.records.schema import Record, RecordSchema
from difflm.synthesis.critic.features import Pairs, RowNumbers
from difflm.synthesis.critic.trees import Trees

CRITIC_NAME: Final = "critic.safetensors"
CRITIC: Final = "critic"
"""Why a draw is turned down; it is none of the rejected ones."""
CRITIC_TRIES: Final = 6
"""The last of so many draws of an index is kept whatever the critic says."""
_UNREADABLE: Final[tuple[type[Exception], ...]] = (*MISFITS, RuntimeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """How likely a draw is kept: exp(`scale` times the sum of `trees`, plus `offset`), 1 at most."""

    trees: Trees
    pairs: Pairs
    scale: float
    offset: float
    numbers: RowNumbers

    def keeps(self, record: Record, *, index: int, attempt: int) -> bool:
        """Say whether a draw is kept; the same draw always is or is not. The last of its tries is in any case."""
        if attempt + 1 >= CRITIC_TRIES:
            return True
        row_F = self.numbers.of_record(record)
        chance = math.exp(min(0.0, self.scale * self.trees(self.pairs(row_F)) + self.offset))
        # By what was drawn and where, which is as good as a random number and needs none.
        digest = hashlib.blake2b(row_F.tobytes() + f"{index}/{attempt}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < chance * 2**64

    def write(self, directory: Path) -> None:
        """Write it into a bundle."""
        # By way of bytes: safetensors writes files that only their owner may read.
        figures = torch.tensor([self.scale, self.offset], dtype=torch.float32)
        (directory / CRITIC_NAME).write_bytes(
            save({**self.trees.tensors(), **self.pairs.tensors(), "figures": figures})
        )


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
        pairs = Pairs.of_tensors(tensors, fields=len(schema.fields)) if "pairs" in tensors else Pairs.of([])
        trees = Trees.of_tensors(tensors, features=len(schema.fields) + len(pairs))
    except _UNREADABLE as error:
        raise ModelError(f"{path}: no critic of this bundle ({reason_of(error)}); assemble the bundle again") from error
    if not (math.isfinite(scale) and math.isfinite(offset)):
        raise ModelError(f"{path}: no critic of this bundle (figures that are none); assemble the bundle again")
    return Critic(trees=trees, pairs=pairs, scale=scale, offset=offset, numbers=RowNumbers(schema))
