"""Streaming evaluators: scores of synthetic rows that come in batches, in any order, on any number of workers.

A streaming evaluator is fitted to the real tables once. Then it takes batches (`update`), takes over what another one
has seen (`merge`), and says at any time what it found (`result`). Its memory depends on the real tables alone, never
on the number of synthetic rows, and it can be pickled. Any split of the rows into batches and any order of merging
give the result of one pass: counts exactly, moments to 1e-12.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.errors import EvaluationError
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import Columns, read_columns

NO_ROWS = "no synthetic row has been seen"


class StreamingEvaluator(Protocol):
    """One evaluator's running state. `rows` is how many synthetic rows it has seen."""

    @property
    def rows(self) -> int: ...

    def update(self, batch: Columns) -> None:
        """Take the rows of one batch, read by `read_columns` under the schema of the real tables; it may be empty."""
        ...

    def merge(self, other: Self) -> None:
        """Take over what `other` has seen; EvaluationError unless both are fitted to the same real tables."""
        ...

    def result(self) -> Evaluation:
        """Score all rows seen so far; undefined with a reason where there are none."""
        ...

    def fresh(self) -> Self:
        """Make an evaluator that is fitted to the same real tables and has seen no row."""
        ...


class StreamingSuite:
    """Several streaming evaluators that see the same batches; each batch is read once."""

    def __init__(self, schema: RecordSchema, evaluators: Iterable[StreamingEvaluator]) -> None:
        self.schema = schema
        self.evaluators = tuple(evaluators)

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self.evaluators[0].rows if self.evaluators else 0

    def update(self, batch: pa.Table | pa.RecordBatch) -> None:
        """Take a batch as it comes from a file.

        Raises:
            DataError: columns or values that do not fit the schema; the batch then counts nowhere.
        """
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        columns = read_columns(table, self.schema, "synthetic")
        for evaluator in self.evaluators:
            evaluator.update(columns)

    def merge(self, other: "StreamingSuite") -> None:
        """Take over what `other` has seen; EvaluationError unless it has the same evaluators on the same tables."""
        kinds, other_kinds = ([type(one).__name__ for one in suite.evaluators] for suite in (self, other))
        if kinds != other_kinds:
            raise EvaluationError(f"evaluators {kinds} and {other_kinds} cannot be merged; give both the same ones")
        for mine, theirs in zip(self.evaluators, other.evaluators, strict=True):
            mine.merge(theirs)

    def results(self) -> tuple[Evaluation, ...]:
        """Return one evaluation per evaluator, in their order."""
        return tuple(evaluator.result() for evaluator in self.evaluators)

    def fresh(self) -> "StreamingSuite":
        """Make the same evaluators without what they have seen."""
        return StreamingSuite(self.schema, [evaluator.fresh() for evaluator in self.evaluators])


def fingerprint(*parts: str | npt.NDArray[Any]) -> str:
    """Digest what an evaluator was fitted to."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def require_same(name: str, mine: str, theirs: str) -> None:
    """EvaluationError unless two evaluators called `name` have the same fingerprint."""
    if mine != theirs:
        raise EvaluationError(
            f"two {name!r} evaluators were fitted to different real tables or settings and cannot be merged; "
            "make both with fresh() of one"
        )
