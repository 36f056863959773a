"""The data section: which table, its target, how it is read and split."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from difflm.config import Config
from difflm.records.reading import ReadConfig
from difflm_jobs.record_kinds import Kind
from difflm_jobs.sources import Source


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

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.test is None and self.validation + self.test_share >= 1:
            raise ValueError(
                f"validation {self.validation} and test_share {self.test_share} leave nothing to train on; "
                "their sum must be below 1"
            )
        return self
