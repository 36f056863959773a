"""A large table is prepared as a small one is: the same files, whatever way its columns are held in memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from difflm.artifacts import ArtifactStore
from difflm.records.large import delimited, reading, rows
from difflm.records.protection.settings import ProtectConfig
from difflm.records.schema import SchemaConfig
from difflm_jobs.cli.inspection import Inspected, inspected
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.inputs.sources import DataConfig, FileSource
from difflm_jobs.pipeline.pipeline import execute, resolve
from difflm_jobs.pipeline.progress import LineReporter
from difflm_jobs.stages.prepare import Prepare

ROWS = 1_500


def table() -> pa.Table:
    """Make columns of all kinds, with gaps, words, rare values, rare ends, and relations between them."""
    random = np.random.default_rng(0)
    town = random.integers(0, 12, ROWS)
    town[:3] = 12  # a rare one
    price = np.round(random.lognormal(3, 1, ROWS), 2)
    days = random.integers(0, 700, ROWS)
    return pa.table(
        {
            "town": [f"town {place}" for place in town],
            "country": ["NA" if place % 3 else "DE" for place in town],
            "price": [None if place % 50 == 0 else value for place, value in enumerate(price)],
            "rate": [f"{value:.2f} %" if place % 40 else "n/d" for place, value in enumerate(price)],
            "count": np.where(np.arange(ROWS) % 30 == 0, -999, random.integers(0, 90, ROWS)),
            "date": [str(np.datetime64("2020-01-01") + day) for day in days],
            "code": [f"AB-{value:04d}" for value in random.integers(0, 9_999, ROWS)],
            "note": [f"seen by Anna in room {value}" for value in random.integers(0, 9_999, ROWS)],
            "yes": [("yes", "no")[value] for value in random.integers(0, 2, ROWS)],
            "id": np.arange(1, ROWS + 1),
            "same": ["x"] * ROWS,
            "class": [("a", "b", "c")[value] for value in random.integers(0, 3, ROWS)],
        }
    )


def large(patch: pytest.MonkeyPatch) -> None:
    """Let small tables be large ones, read in many pieces and written in several groups."""
    patch.setattr(reading, "LARGE", 0)
    patch.setattr(reading, "LARGE_CELLS", 0)
    patch.setattr(delimited, "_BLOCK", 2**12)
    patch.setattr(delimited, "_PIECE", 2**13)
    patch.setattr(rows, "_GROUP_ROWS", 500)


def prepared(path: Path, run: Path, protect: ProtectConfig) -> dict[str, Any]:
    store = ArtifactStore(run)
    data = DataConfig(train=FileSource(path=str(path)), target="class")
    steps = resolve([Prepare(data=data, schema=SchemaConfig(), seed=0, protect=protect)], store)
    reporter = LineReporter(Console(quiet=True))
    ((_, artifact),) = execute(steps, store, runtime=RuntimeConfig(), reporter=reporter, cluster=lambda: None)  # type: ignore[arg-type,return-value]
    found: dict[str, Any] = {"facts": artifact.manifest.facts}
    for file in sorted(artifact.path.glob("*.json")):
        found[file.name] = json.loads(file.read_text()) if file.name != "manifest.json" else None
    for file in sorted(artifact.path.glob("*.parquet")):
        found[file.name] = pq.read_table(file)
    return found


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("protect", [ProtectConfig(enabled=False), ProtectConfig()], ids=["off", "protected"])
def test_a_large_table_is_prepared_like_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protect: ProtectConfig, ending: str
) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        pa.csv.write_csv(table(), path)
    else:
        pq.write_table(table(), path)
    small = prepared(path, tmp_path / "small", protect)
    large(monkeypatch)
    written: list[Path] = []
    write = rows.Rows.write

    def watched(self: rows.Rows, to: Path) -> None:
        written.append(to)
        write(self, to)

    monkeypatch.setattr(rows.Rows, "write", watched)
    assert prepared(path, tmp_path / "large", protect) == small
    assert {to.name for to in written} == {name for name in small if name.endswith(".parquet")}


def test_a_file_of_rows_holds_no_value_of_other_rows(tmp_path: Path) -> None:
    values = pa.array(["of others", "own"])
    whole = pa.table({"a": pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0, 1, 1], pa.uint8()), values)])})
    rows.Rows(whole, np.array([1, 2])).write(tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").to_pydict() == {"a": ["own", "own"]}
    assert b"of others" not in (tmp_path / "t.parquet").read_bytes()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_large_table_is_inspected_like_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        pa.csv.write_csv(table(), path)
    else:
        pq.write_table(table(), path)

    def looked() -> Inspected:
        return inspected(path, target=None, overrides=[])

    small = looked()
    large(monkeypatch)
    assert looked() == small
