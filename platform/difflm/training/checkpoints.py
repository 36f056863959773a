"""What the loop says of a checkpoint, in loop.json, which is its last file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, FiniteFloat

from difflm.config import Config
from difflm.models.precision import Precision
from difflm.regular_files import read_file

_NAME = "loop.json"


class LoopFacts(Config):
    """Where training was, and what its best state was worth."""

    format_version: int
    step: int = Field(ge=0)
    best_step: int
    best_objective: FiniteFloat | None
    seconds: FiniteFloat
    precision: Precision | None = None

    @classmethod
    def read(cls, directory: Path) -> LoopFacts:
        """Read those of a checkpoint. Raises OSError, or ValueError where they are none."""
        return cls.model_validate_json(read_file(directory / _NAME))

    def write(self, directory: Path) -> None:
        """Write them, behind all other files."""
        (directory / _NAME).write_text(self.model_dump_json())


def checkpoint_precision(directory: Path) -> Precision | None:
    """Return what the training of a checkpoint computed in; None where its file does not say."""
    try:
        return LoopFacts.read(directory).precision
    except (OSError, ValueError):
        return None  # what is wrong with the checkpoint is said where it is read
