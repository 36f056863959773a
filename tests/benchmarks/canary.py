"""Many draws of a bundle, searched for planted values.

    python tests/benchmarks/canary.py RUN VALUE [VALUE ...]    # of a run that is there
    python tests/benchmarks/canary.py RUN --plant [--protect off]

Fit a table in which one row has values of its own, then name them here: a category, a number, a date as 1871-03-09; or
let --plant make such a table and fit it into RUN, with a small model and few steps. Prints how many rows were drawn and
where a value was found, and ends with 1 if one was; what --plant finds is recorded in results/canary.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from provenance import provenance

import difflm
from difflm.testing.canary import Canary

RESULT = Path(__file__).parent / "results" / "canary.json"
OWN = ("train.parquet", "validation.parquet", "test.parquet", "input")


PLANTED = {"diagnosis": "Morbus Quackenbush", "visit": 98765432, "fee": 7654321.25, "day": date(1871, 3, 9)}
SMALL: dict[str, Any] = {
    "decoder": {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 128},
    "decoder_fit": {"steps": 300, "batch_size": 64},
    "autoencoder": {"steps": 30, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}},
    "prior": {"steps": 50, "width": 16, "blocks": 1},
    "rows": 1000,
    "evaluation": dict.fromkeys(["detection", "fidelity", "utility", "membership", "attacks", "projection"]),
}


def plant(run: Path, protect: str, rows: int = 2000) -> None:
    """Fit a table in which one row has values that no other has."""
    draw = random.Random(3)
    table = [
        {
            "visit": draw.randint(100, 190),
            "fee": round(draw.gauss(80, 9), 2),
            "day": str(date(2019, 1, 1) + timedelta(days=draw.randint(0, 400))),
            "diagnosis": draw.choice(["cold", "flu", "sprain"]),
        }
        for _ in range(rows)
    ]
    for place in (17, 18):  # one of the two at least is in the training split, whichever seed splits
        table[place] = {name: str(value) if name == "day" else value for name, value in PLANTED.items()}
    config = {**SMALL, "protect": protect}
    difflm.fit(pa.Table.from_pylist(table), config=config, out=run, progress=False)


def value_of(text: str) -> str | int | float | date:
    """Read a planted value: a date, a number or a text."""
    for read in (date.fromisoformat, int, float):
        with suppress(ValueError):
            return read(text)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("values", nargs="*")
    parser.add_argument("--plant", action="store_true")
    parser.add_argument("--protect", default="on", choices=["on", "off"])
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    if given.plant:
        plant(given.run, given.protect)
    values = {**PLANTED} if given.plant else {text: value_of(text) for text in given.values}
    canary = Canary(values=values)
    files = [path for path in given.run.rglob("*") if path.is_file() and not {path.name, path.parent.name} & {*OWN}]
    found = canary.found_in_files(files)
    generator, drawn = difflm.load(given.run), 0
    for batch in generator.batches(given.rows, seed=1):
        drawn += batch.num_rows
        names = canary.found_in_table(pa.Table.from_batches([batch]))
        if names:
            found.setdefault("draws", set()).update(names)
    listed = {place: sorted(names) for place, names in found.items()}
    record = {"command": " ".join(sys.argv), **provenance(), "protect": given.protect if given.plant else "as fitted"}
    record |= {"files": len(files), "rows": drawn, "found": listed}
    print(json.dumps(record))
    if given.plant and given.protect == "on":
        RESULT.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
