"""Samples of a few dozen or hundred rows of real tables: how much of them is copied, or why they are refused.

    python tests/benchmarks/small_samples.py [--table adult ...] [--rows 200 --rows 30] [--set A.B=C]

Each sample of the training rows is fitted in this process, as `difflm.fit` does it, with protection on. Its synthetic
rows, and all real test rows, are looked for among the sampled rows: copies, and nearer to them than to other rows. A
sample that is refused is recorded with the reason.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from provenance import provenance

import difflm
from difflm.config import apply_overrides
from difflm.errors import DiffLMError
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.row_keys import KnownRows, printed_columns
from difflm_evaluators.privacy.attacks import AttacksConfig, evaluate_attacks
from difflm_jobs.benchmark.tables import read_benchmark_table

RESULT = Path(__file__).parent / "results" / "small_samples.json"
QUICK = {"detection": None, "fidelity": None, "utility": None, "membership": None, "projection": None, "attacks": None}


def main(
    table: Annotated[list[str] | None, typer.Option(help="presets")] = None,
    rows: Annotated[list[int] | None, typer.Option(help="sizes of the samples")] = None,
    draws: Annotated[int, typer.Option(help="synthetic rows")] = 1000,
    set_: Annotated[list[str] | None, typer.Option("--set", help="settings of the fit")] = None,
    runs: Annotated[Path, typer.Option(help="folder of the fits")] = Path("runs/small"),
    out: Annotated[Path, typer.Option(help="where the record goes; other samples in it stay")] = RESULT,
) -> None:
    """Fit every sample and write the record after each."""
    record: dict[str, Any] = {"command": " ".join(sys.argv), **provenance(), "samples": []}
    known = json.loads(out.read_text())["samples"] if out.is_file() else []
    settings = apply_overrides({"rows": draws, "evaluation": QUICK}, set_ or [])
    for name in table or ("adult", "shoppers"):
        for count in rows or (200, 30):
            found = one_sample(name, count, settings, runs)
            print(json.dumps(found), flush=True)
            known = [each for each in known if (each["table"], each["rows"]) != (name, count)] + [found]
            record["samples"] = sorted(known, key=lambda each: (-each["rows"], each["table"]))
            out.write_text(json.dumps(record, indent=1) + "\n")


def one_sample(name: str, count: int, settings: dict[str, Any], runs: Path) -> dict[str, Any]:
    """Fit so many rows of a table, and look for them among what is drawn."""
    given = read_benchmark_table(name, target=None, train_rows=count)
    folder, started = runs / f"{name}-{count}", time.perf_counter()
    try:
        generator = difflm.fit(given.train, given.spec.target, config=settings, out=folder, progress=False)
    except DiffLMError as error:
        return {"table": name, "rows": count, "refused": str(error).split(": ", 1)[1]}  # without the path
    own = generator.report.score("exact_copy_share")  # makes the rows of the run, which the screen looks at
    seconds = round(time.perf_counter() - started, 1)
    synthetic = pq.read_table(next(path.parent for path in folder.glob("**/shards/*.parquet")))
    tables = (synthetic.select(given.train.column_names), given.train, given.test)
    columns = [printed_columns(read_columns(each, given.schema, "a"), given.schema) for each in tables]
    known = KnownRows(columns[1], given.schema)
    copied, by_chance = (float(np.mean(known.holds(each))) for each in (columns[0], columns[2]))
    attacked = evaluate_attacks(*columns, AttacksConfig(attacks=500))
    return {
        "table": name,
        "rows": count,
        "seconds": seconds,
        "synthetic_rows": synthetic.num_rows,
        "test_rows": given.test.num_rows,
        "exact_copies_of_its_training_split_percent": own.value,
        "exact_copies_percent": 100 * copied,
        "test_rows_that_are_copies_percent": 100 * by_chance,
        "risks": {score.name: {"value": score.value, "interval": score.interval} for score in attacked.scores},
    }


if __name__ == "__main__":
    typer.run(main)
