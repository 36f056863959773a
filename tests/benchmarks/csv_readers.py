"""How long a large CSV takes to be read as text: `read_table`, and below it pyarrow, DuckDB and pandas alone.

    pip install duckdb
    python tests/benchmarks/csv_readers.py --rows 1000000

Each in a process of its own, three times by turns; the fastest counts. DuckDB gets one thread, as all others do.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import typer
from provenance import provenance


def by_difflm(path: str) -> int:
    from difflm.records.files.reading import read_table

    return int(read_table(path).num_rows)


def by_pyarrow(path: str) -> int:
    names = pa.csv.open_csv(path).schema.names
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return int(pa.csv.read_csv(path, pa.csv.ReadOptions(use_threads=False), convert_options=convert).num_rows)


def by_duckdb(path: str) -> int:
    import duckdb

    connection = duckdb.connect(config={"threads": "1"})
    found = connection.sql(f"SELECT * FROM read_csv('{path}', all_varchar=true, header=true)").to_arrow_table()
    return int(found.num_rows)


def by_pandas(path: str) -> int:
    import pandas as pd

    return len(pd.read_csv(path, dtype=str, keep_default_na=False))


READERS = {"difflm": by_difflm, "pyarrow": by_pyarrow, "duckdb": by_duckdb, "pandas": by_pandas}


def main(
    rows: Annotated[int, typer.Option(help="of the file, which has 10 columns")] = 1_000_000,
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
    path: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure all readers on a file that is made for it, and print a record."""
    if one is not None:
        timed(one, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.csv"
        write(file, rows)
        command = [sys.executable, __file__, "--path", str(file), "--one"]
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in READERS}
        for _ in range(3):
            for name, results in measured.items():
                done = subprocess.run([*command, name], capture_output=True, text=True, check=True)
                results.append(json.loads(done.stdout))
        best = {name: min(results, key=lambda result: result["cpu_s"]) for name, results in measured.items()}
        size = round(file.stat().st_size / 2**20)
    print(json.dumps({**provenance(), "rows": rows, "file_mib": size, "readers": best}, indent=2))


def timed(name: str, path: str) -> None:
    """Read the file once, after one of two rows that loads the libraries."""
    small = Path(path).with_name(f"{name}.csv")
    small.write_text("a,b\n1,2\n3,4\n")
    READERS[name](str(small))
    wall, cpu = time.perf_counter(), time.process_time()
    READERS[name](path)
    result = {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**result, "peak_mib": round(peak)}))


def write(path: Path, rows: int) -> None:
    """Write whole numbers, decimals, categories, dates and short texts."""
    random = np.random.default_rng(0)
    cities = np.array(["Rome", "Oslo", "Lima", "New York", "São Paulo"])
    columns: dict[str, Any] = {f"n{place}": random.integers(0, 10**place, rows) for place in (2, 4, 6)}
    columns |= {f"d{place}": random.normal(size=rows).round(place) for place in (2, 4)}
    columns |= {f"c{place}": cities[random.integers(0, len(cities), rows)] for place in range(2)}
    columns["day"] = np.datetime64("2020-01-01") + random.integers(0, 2000, rows)
    columns["text"] = [f"item {number:05d}, boxed" for number in random.integers(0, 10**5, rows)]
    columns["id"] = np.arange(rows)
    pa.csv.write_csv(pa.table(columns), path)


if __name__ == "__main__":
    typer.run(main)
