"""Large tables through `prepare`: 300 columns, a column of 10,000 levels, a million rows; seconds and peak memory.

Each table is written as CSV, and `difflm run TABLE --until prepare` reads it in a process of its own, on two threads:

    python tests/benchmarks/wide.py --out tests/benchmarks/results/wide.json

The bound is 60 s and 2 GiB for each.
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

SHAPES = {"columns": (20_000, 300, 12), "levels": (300_000, 6, 10_000), "rows": (1_000_000, 10, 12)}
"""Rows, columns and levels of the columns of categories."""
MAX_SECONDS, MAX_MIB = 60.0, 2048.0


def write_table(path: Path, rows: int, columns: int, levels: int) -> None:
    """Write a CSV with, by turns, a column of categories, of whole numbers, and of decimals."""
    random = np.random.default_rng(0)
    names = [f"c{column}" for column in range(columns)]
    with path.open("w", encoding="utf-8") as sink:
        sink.write(",".join(names) + "\n")
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            made: list[list[str]] = []
            for column in range(columns):
                if column % 3 == 0:
                    made.append([f"level {value}" for value in random.integers(0, levels, count)])
                elif column % 3 == 1:
                    made.append([str(value) for value in random.integers(0, 1000, count)])
                else:
                    made.append([f"{value:.2f}" for value in random.lognormal(3, 1, count)])
            sink.writelines(",".join(cells) + "\n" for cells in zip(*made, strict=True))


def measure(path: Path, runs: Path) -> dict[str, float]:
    """Run `prepare` on a table; the seconds of the process from start to exit, and its peak memory in MiB."""
    command = [sys.executable, "-m", "difflm_jobs", "run", str(path), "--until", "prepare", "--runs", str(runs)]
    started = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024, 0),
    }


def main() -> None:
    """Measure the shapes that are asked for; exit code 1 where one is beyond the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.shape or SHAPES:
            table = Path(folder) / f"{name}.csv"
            write_table(table, *SHAPES[name])
            if arguments.shape is None or len(arguments.shape) > 1:  # peaks of children are of the largest so far
                command = [sys.executable, __file__, "--shape", name]
                made = subprocess.run(command, check=False, capture_output=True, text=True)
                found |= json.loads(made.stdout)
            else:
                found[name] = measure(table, Path(folder) / "runs")
    print(json.dumps(found, indent=2))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    over = [name for name, used in found.items() if used["seconds"] > MAX_SECONDS or used["peak_mib"] > MAX_MIB]
    sys.exit(f"beyond {MAX_SECONDS:g} s or {MAX_MIB:g} MiB: {', '.join(over)}" if over else 0)


if __name__ == "__main__":
    main()
