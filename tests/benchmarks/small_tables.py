"""Tables of dozens to a few hundred rows: how much of them is copied, and how long a run takes; recorded.

    python tests/benchmarks/small_tables.py                                    # 30 and 200 rows, default settings
    python tests/benchmarks/small_tables.py --rows 200 --set prior.steps=1000  # other settings; nothing is recorded

The table is a mixed one of five columns (`difflm.testing.tables.small_table`). Synthetic rows are scored against its
training split, and so are fresh rows of the same population: what a perfect generator would reach.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import pyarrow.csv
import pyarrow.parquet as pq
import typer
from provenance import provenance

from difflm.records.kinds.columns import conform_table
from difflm.records.schema import RecordSchema, read_schema
from difflm.testing.tables import small_table
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table

RESULT = Path(__file__).parent / "results" / "small_tables.json"
FRESH_ROWS, FRESH_SEED = 500, 1
SHOWN = ("shape_error", "trend_error", "exact_copy_share", "dcr_share")


def main(
    rows: Annotated[list[int] | None, typer.Option(help="sizes of the table")] = None,
    draws: Annotated[int, typer.Option(help="synthetic rows that are scored")] = 400,
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm run")] = None,
) -> None:
    """Run every size through the command line."""
    measured = [one_table(count, draws, set_ or []) for count in rows or (30, 200)]
    record = {"command": "python tests/benchmarks/small_tables.py", **provenance(), "tables": measured}
    print(json.dumps(record, indent=2))
    if rows is None and not set_:
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


def one_table(count: int, draws: int, overrides: list[str]) -> dict[str, Any]:
    """Scores of the synthetic rows and of fresh ones, and the seconds of the whole run, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        table, runs = Path(folder) / "table.csv", Path(folder) / "runs"
        pyarrow.csv.write_csv(small_table(count), table)
        changes = [part for text in overrides for part in ("--set", text)]
        call = [sys.executable, "-m", "difflm_jobs", "run", str(table), "--name", "small", "--target", "label"]
        started = time.perf_counter()
        subprocess.run([*call, "--runs", str(runs), "--set", f"rows={draws}", *changes], check=True)
        seconds = time.perf_counter() - started
        lines = (runs / "small" / "runs.jsonl").read_text().splitlines()
        stages = {
            stage["stage"]: runs / "small" / "artifacts" / stage["artifact"]
            for stage in json.loads(lines[-1])["stages"]
        }
        schema = read_schema(stages["prepare"])
        train = pq.read_table(stages["prepare"] / "train.parquet")
        synthetic = pq.read_table(stages["synthesize"] / "shards")
        fresh = conform_table(small_table(2 * FRESH_ROWS, seed=FRESH_SEED), schema)
        held_out, others = fresh.slice(0, FRESH_ROWS), fresh.slice(FRESH_ROWS)
        real = RealSplits(train=conform_table(train, schema), test=held_out)
        return {
            "rows": count,
            "training_rows": len(train),
            "overrides": overrides,
            "seconds": round(seconds, 1),
            "synthetic": scores(synthetic, real, schema),
            "fresh": scores(others, real, schema),
        }


def scores(table: Any, real: RealSplits, schema: RecordSchema) -> dict[str, float | None]:
    """The scores that tell copying from learning."""
    report = evaluate_table(table, real, schema, EvaluationConfig(utility=None))
    found = {score.name: score.value for score in report.scores}
    return {name: None if found.get(name) is None else round(float(found[name] or 0.0), 4) for name in SHOWN}


if __name__ == "__main__":
    typer.run(main)
