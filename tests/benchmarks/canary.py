"""Many draws of a bundle, searched for planted values: `python tests/benchmarks/canary.py RUN VALUE [VALUE ...]`.

Fit a table in which one row has values of its own, then name them here: a category, a number, a date as 1871-03-09.
Prints how many rows were drawn and where a value was found; ends with 1 if one was.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
from provenance import provenance

import difflm
from difflm.testing.canary import Canary

OWN = ("train.parquet", "validation.parquet", "test.parquet", "input")


def value_of(text: str) -> str | int | float | date:
    """Read a planted value: a date, a number or a text."""
    for read in (date.fromisoformat, int, float):
        with suppress(ValueError):
            return read(text)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("values", nargs="+")
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    canary = Canary(values={text: value_of(text) for text in given.values})
    files = [path for path in given.run.rglob("*") if path.is_file() and not {path.name, path.parent.name} & {*OWN}]
    found = canary.found_in_files(files)
    generator, drawn = difflm.load(given.run), 0
    for batch in generator.batches(given.rows, seed=1):
        drawn += batch.num_rows
        names = canary.found_in_table(pa.Table.from_batches([batch]))
        if names:
            found.setdefault("draws", set()).update(names)
    listed = {place: sorted(names) for place, names in found.items()}
    print(json.dumps({**provenance(), "files": len(files), "rows": drawn, "found": listed}))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
