"""What runs our own methods as those of others run: `python -m difflm_jobs.benchmark.own MODULE JOB.json`.

A module has `fit(train, job)` and `sample(model, job)`; tables are Arrow's, and `job.schema` is the table's.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm_jobs.benchmark.adapters.driver import Facts, end_with_parent

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.records.schema import RecordSchema

OWN_MODULES = ("cart", "icl", "difflm_run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked for; `started` is on the clock of `time.monotonic`, `folder` holds the files of the job."""

    method: str
    rows: int
    seed: int
    minutes: float
    settings: dict[str, Any]
    schema: RecordSchema
    config: dict[str, Any]
    folder: Path
    started: float
    notes: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        """Seconds until the job is killed."""
        return self.started + 60 * self.minutes - time.monotonic()


def main(module: str, path: str) -> None:
    """Fit, draw and write."""
    started = time.monotonic()
    end_with_parent()
    job_path = Path(path).resolve()
    given = json.loads(job_path.read_text(encoding="utf-8"))
    facts = Facts(job_path.with_name("facts.json"), started)
    facts.begin("fitting")
    import pyarrow.csv
    import pyarrow.parquet

    from difflm.records.schema import RecordSchema

    schema = RecordSchema.model_validate_json(job_path.with_name("schema.json").read_bytes())
    job = Job(
        **{key: given[key] for key in ("method", "rows", "seed", "minutes", "settings", "config")},
        schema=schema,
        folder=job_path.parent,
        started=started,
        notes=facts.values["notes"],
    )
    assert module in OWN_MODULES
    method = importlib.import_module(f"difflm_jobs.benchmark.{module}")
    model = method.fit(pyarrow.parquet.read_table(job_path.with_name("train.parquet")), job)
    facts.begin("sampling")
    rows: pa.Table = method.sample(model, job)
    if rows.num_rows == 0:
        raise ValueError("no usable row was made")
    if rows.num_rows < job.rows:
        job.notes.append(f"made {rows.num_rows:,} of {job.rows:,} rows")
    facts.values["rows"] = rows.num_rows
    pyarrow.csv.write_csv(rows, job_path.with_name("rows.csv"))
    facts.begin("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
