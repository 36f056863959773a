"""The real tables as a folder that evaluators find on any node: the schema, the training rows and the holdout."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from difflm.records.schema import RecordSchema

TRAIN, HOLDOUT = "train.parquet", "holdout.parquet"
SCHEMA = "schema.json"


def write_real(folder: Path, train: pa.Table, holdout: pa.Table | None, schema: RecordSchema) -> None:
    """Write the real tables, which have the schema's columns and types, into `folder`."""
    (folder / SCHEMA).write_text(schema.to_json(), encoding="utf-8")
    pq.write_table(train, folder / TRAIN)
    if holdout is not None:
        pq.write_table(holdout, folder / HOLDOUT)


def read_real(folder: Path) -> tuple[pa.Table, pa.Table | None]:
    """Read the training rows and the holdout, if there is one."""
    holdout = folder / HOLDOUT
    return pq.read_table(folder / TRAIN), pq.read_table(holdout) if holdout.exists() else None
