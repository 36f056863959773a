"""Record sets: what is asked for is recognised in a record, column by column."""

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import Allowed, IntervalSet, value_code
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import Record, Value
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.testing.tables import mixed_table

CODEC = JsonRecordCodec(infer_schema(mixed_table(80)))
SCHEMA = CODEC.schema
RECORDS = list(CODEC.records_of(CODEC.normalize_table(mixed_table(80)).table))


def _only(name: str, value: Value, *, null: bool) -> dict[str, Allowed]:
    code = value_code(SCHEMA.field(name), value)
    return {name: Allowed(codes=IntervalSet.points([] if code is None else [code]), null=null)}


def test_all_records_are_of_the_set_that_asks_for_nothing() -> None:
    assert [RecordSet().fault(index, record, SCHEMA) for index, record in enumerate(RECORDS)] == [None] * len(RECORDS)


def test_a_restriction_is_looked_at_in_every_kind_of_column() -> None:
    first = RECORDS[0]
    for name in set(SCHEMA.names) - {"note", "unit"}:  # which have one code for all values
        records = RecordSet(restriction=_only(name, first[name], null=False))
        for record in RECORDS:
            fault = records.fault(0, record, SCHEMA)
            assert (fault is None) == (record[name] == first[name])
            assert fault is None or fault.startswith(f"{name!r}: ")


def test_missing_is_a_value_of_its_own() -> None:
    missing = next(record for record in RECORDS if record["city"] is None)
    known = next(record for record in RECORDS if record["city"] is not None)
    only_missing = RecordSet(restriction=_only("city", None, null=True))
    only_known = RecordSet(restriction=_only("city", known["city"], null=False))
    assert only_missing.fault(0, missing, SCHEMA) is None
    assert only_known.fault(0, known, SCHEMA) is None
    assert only_missing.fault(0, known, SCHEMA) is not None
    assert only_known.fault(0, missing, SCHEMA) is not None


def test_given_cells_are_those_of_the_index() -> None:
    literals = [CODEC.value_literals(CODEC.table_of([record])) for record in RECORDS[:4]]
    records = RecordSet(cells=lambda index: {place: column[0] for place, column in enumerate(literals[index])})
    for index, record in enumerate(RECORDS[:4]):
        assert records.fault(index, record, SCHEMA) is None
        other: Record = {**record, "note": "another"}
        assert records.fault(index, other, SCHEMA) == f"'note': 'another' is not the given {literals[index][5][0][:60]}"
