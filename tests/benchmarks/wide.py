"""Large tables through `inspect` and `prepare`: 300 columns, columns of 10,000 levels, a million rows.

Each table is written as CSV, and `difflm inspect TABLE` and `difflm run TABLE --until prepare` read it, each in a
process of its own, on two threads; seconds and peak memory:

    python tests/benchmarks/wide.py --out tests/benchmarks/results/wide.json

The bound is 60 s and 2 GiB for each. `--shape all` is all three at once, 2 GB of CSV; `tenth` is the same with a tenth
of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from provenance import provenance

VERBS = ("inspect", "prepare")
SHAPES = {
    "columns": (20_000, 300, 12),
    "levels": (300_000, 6, 10_000),
    "rows": (1_000_000, 10, 12),
    "tenth": (100_000, 300, 10_000),
    "all": (1_000_000, 300, 10_000),
}
"""Rows, columns and levels of the columns of categories."""
USUAL = ("columns", "levels", "rows")
_BLOCK = 20_000
MAX_SECONDS, MAX_MIB = 60.0, 2048.0


def write_table(path: Path, rows: int, columns: int, levels: int) -> None:
    """Write a CSV with, by turns, a column of categories, of whole numbers, and of decimals.

    Columns of one kind are the same pool of values, each begun at another place, so that a gigabyte takes seconds.
    """
    random = np.random.default_rng(0)
    pools = [
        pa.array([f"level {value}" for value in range(levels)]).take(pa.array(random.integers(0, levels, rows))),
        pa.array(random.integers(0, 1000, rows)),
        pa.array(np.round(random.lognormal(3, 1, rows), 2)),
    ]
    begins = random.integers(0, rows, columns)
    schema = pa.schema([(f"c{column}", pools[column % 3].type) for column in range(columns)])
    options = pa.csv.WriteOptions(quoting_style="none")
    with pa.csv.CSVWriter(path, schema, write_options=options) as sink:
        for start in range(0, rows, _BLOCK):
            places = np.arange(start, min(start + _BLOCK, rows))
            made = [pools[column % 3].take(pa.array((places + begin) % rows)) for column, begin in enumerate(begins)]
            sink.write_table(pa.Table.from_arrays(made, schema=schema))


def measure(path: Path, verb: str) -> dict[str, float]:
    """Run a verb on a table; the seconds of the process from start to exit, and its peak memory in MiB."""
    arguments = ["run", str(path), "--until", "prepare", "--runs", str(path.parent / "runs")]
    command = [sys.executable, "-m", "difflm_jobs", *(arguments if verb == "prepare" else ["inspect", str(path)])]
    started = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024, 0),
    }


def _write(found: dict[str, dict[str, float]], out: Path | None) -> None:
    names = dict.fromkeys(key.partition(",")[0] for key in found)
    shapes = {name: dict(zip(("rows", "columns", "levels"), SHAPES[name], strict=True)) for name in names}
    command = " ".join(["python tests/benchmarks/wide.py", *(f"--shape {name}" for name in names)])
    text = json.dumps({"command": command, **provenance(), "shapes": shapes, "measured": found}, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Measure the shapes that are asked for; exit code 1 where one is beyond the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="measure one verb on this table")
    parser.add_argument("--verb", choices=VERBS, default="prepare")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(json.dumps(measure(arguments.table, arguments.verb)))
        return
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.shape or USUAL:
            table = Path(folder) / f"{name}.csv"
            write_table(table, *SHAPES[name])
            for verb in VERBS:  # peaks of children are of the largest so far, so each has a process of its own
                command = [sys.executable, __file__, "--table", str(table), "--verb", verb]
                made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[f"{name}, {verb}"] = json.loads(made.stdout)
                _write(found, arguments.out)  # a run of all of them takes long, and may be ended
    over = [name for name, used in found.items() if used["seconds"] > MAX_SECONDS or used["peak_mib"] > MAX_MIB]
    sys.exit(f"beyond {MAX_SECONDS:g} s or {MAX_MIB:g} MiB: {', '.join(over)}" if over else 0)


if __name__ == "__main__":
    main()
