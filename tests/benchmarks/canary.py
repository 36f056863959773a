"""Many draws of a bundle, searched for planted values.

    python tests/benchmarks/canary.py RUN VALUE [VALUE ...]    # of a run that is there
    python tests/benchmarks/canary.py RUN --plant [--kind tools] [--protect off]

Fit a table in which one row has values of its own, then name them here: a category, a number, a date as 1871-03-09; or
let --plant make such a table (or tools, or code, with a secret in two of their texts) and fit it into RUN, with a small
model and few steps. Prints how many rows were drawn and where a value was found, and ends with 1 if one was; what
--plant finds is recorded in results/canary.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from provenance import provenance

import difflm
from difflm.testing.canary import SECRETS, Canary, texts_with_secrets

RESULT = Path(__file__).parent / "results" / "canary.json"
OWN = ("train.parquet", "validation.parquet", "test.parquet", "input")
"""Where a run holds the rows themselves for itself, until it is purged; of texts also those that models learn."""

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
    generator = difflm.fit(pa.Table.from_pylist(table), config=config, out=run, progress=False)
    assert generator.report.score("exact_copy_share").value == 0.0  # the report is made, and searched, too


TEXTS: dict[str, Any] = {
    **SMALL,
    "decoder": {**SMALL["decoder"], "vocabulary_size": 600, "value_tokens": 32},
    "decoder_fit": {**SMALL["decoder_fit"], "group_by_length": True, "copied_below": 0.9999},
    "autoencoder": {"steps": 30, "encoder": {"kind": "compact", "hidden_size": 16, "layers": 1, "heads": 2}},
    "sampling": {"steps": 4, "text_tokens": 48, "attempts": 20},
}


def plant_texts(run: Path, kind: str, protect: str, records: int = 1500) -> None:
    """Fit tools or functions, in two of which is a secret."""
    run.parent.mkdir(parents=True, exist_ok=True)
    file = run.parent / f"{run.name}-{kind}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in texts_with_secrets(kind, records)), encoding="utf-8")
    generator = difflm.fit(file, config={**TEXTS, "protect": protect}, out=run, progress=False, kind=kind)
    assert generator.report.scores


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
    parser.add_argument("--kind", default="table", choices=["table", "tools", "code"])
    parser.add_argument("--protect", default="on", choices=["on", "off"])
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    values: Mapping[str, Any] = {text: value_of(text) for text in given.values}
    if given.plant and given.kind == "table":
        plant(given.run, given.protect)
        values = PLANTED
    elif given.plant:
        plant_texts(given.run, given.kind, given.protect)
        values = SECRETS.values
    canary = Canary(values=values)
    own = {*OWN, *(["fitted.parquet"] if given.kind != "table" else [])}
    files = [path for path in given.run.rglob("*") if path.is_file() and not {path.name, path.parent.name} & own]
    found = canary.found_in_files(files)
    generator, drawn = difflm.load(given.run), 0
    for batch in generator.batches(given.rows, seed=1):
        drawn += batch.num_rows
        names = canary.found_in_table(pa.Table.from_batches([batch]))
        if names:
            found.setdefault("draws", set()).update(names)
    listed = {
        str(Path(place).relative_to(given.run)) if place != "draws" else place: sorted(found[place]) for place in found
    }
    record = {
        "command": " ".join(["tests/benchmarks/canary.py RUN", *sys.argv[2:]]),
        **provenance(),
        "protect": given.protect if given.plant else "as fitted",
    }
    record |= {"files": len(files), "rows": drawn, "found": listed}
    print(json.dumps(record))
    if given.plant and given.protect == "on":
        known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        RESULT.write_text(json.dumps({**known, given.kind: record}, indent=1) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
