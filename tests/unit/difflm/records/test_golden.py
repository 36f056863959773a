"""Golden records: the schema and the lines of a small table, byte for byte; a change here is a change of format."""

from pathlib import Path

from difflm.records.files.reading import read_table
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "records"


def test_schema_and_lines_are_those_of_the_golden_files() -> None:
    table = read_table(GOLDEN / "mixed.csv")
    schema = infer_schema(table, target="label")
    assert schema.to_json() + "\n" == (GOLDEN / "schema.json").read_text(encoding="utf-8")
    lines = JsonRecordCodec(schema).encode_table(table)
    assert "\n".join([*lines, ""]) == (GOLDEN / "lines.jsonl").read_text(encoding="utf-8")
