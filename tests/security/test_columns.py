"""Columns of strangers are of some kind, whatever their cells are; schemas of strangers print no endless cell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difflm.errors import BundleError, DataError, DiffLMError, SchemaError
from difflm.records.fields import IntegerField
from difflm.records.files.dialects import Dialect
from difflm.records.files.reading import ReadConfig
from difflm.records.files.source import SourceForm
from difflm.records.kinds.dress import read_cell
from difflm.records.kinds.inference import infer_schema
from difflm.records.normalizing import normalize_column
from difflm.records.schema import RecordSchema, SchemaConfig
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm_jobs.inputs.arff import read_source

NINES = "9" * 5000
CELLS: dict[str, Callable[[int], str]] = {
    "digits": lambda n: f"{NINES}{n}",
    "padded digits": lambda n: f"{n + 1:05000d}",
    "decimals": lambda n: f"0.{'9' * 40}{n}",
    "many decimals": lambda n: f"0.{NINES}{n}",
    "clock": lambda n: f"{NINES}:{n % 60:02d}:11",
    "money": lambda n: f"${NINES}{n}.50",
    "exponent": lambda n: f"1e{n}{NINES}",
    "mantissa": lambda n: f"1.{NINES}{n}e12",
    "date": lambda n: f"{NINES}-01-{n % 28 + 1:02d}",
    "fraction": lambda n: f"2020-01-01 00:00:00.{NINES}{n}",
    "unit": lambda n: f"{n} k{'g' * 5000}",
    "json": lambda n: f"[{NINES}{n}]",
    "nested": lambda n: "[" * 990 + str(n) + "]" * 990,
}
KINDS = [None, "ordinal", "number", "datetime", "code", "identifier", "text", "categorical", "python"]


def said_or_read(table: pa.Table, config: SchemaConfig) -> None:
    with suppress(DiffLMError):
        for field in infer_schema(table, config=config).fields:
            normalize_column(table.column(field.name), field)


@pytest.mark.parametrize("name", CELLS)
def test_cells_longer_than_any_number(name: str) -> None:
    table = pa.table({"a": [CELLS[name](n) for n in range(60)], "b": [*range(60)]})
    for kind in KINDS:
        said_or_read(table, SchemaConfig.model_validate({"kinds": {} if kind is None else {"a": kind}}))


parts = st.sampled_from(
    [*"0123456789", *"+-−.,:;/eE$€%()[]{}\"' _\u00a0²٣", "00", "99", NINES, "nan", "inf", "2020", "Jan", "kg", "true"]
)
cells = st.lists(parts, max_size=8).map("".join)


@given(seen=st.lists(cells, min_size=2, max_size=8), kind=st.sampled_from(KINDS))
@settings(max_examples=50, suppress_health_check=[*HealthCheck], deadline=None)
def test_columns_of_odd_cells(seen: list[str], kind: str | None) -> None:
    table = pa.table({"a": [seen[n % len(seen)] for n in range(40)], "b": [*range(40)]})
    said_or_read(table, SchemaConfig.model_validate({"kinds": {} if kind is None else {"a": kind}}))


def test_ordinal_numbers_of_any_length_are_in_their_order() -> None:
    seen = ["10", "9", f"1{NINES}", NINES, "x10", "x9", "007"]
    table = pa.table({"a": [seen[n % len(seen)] for n in range(70)], "b": [*range(70)]})
    (field, _) = infer_schema(table, config=SchemaConfig.model_validate({"kinds": {"a": "ordinal"}})).fields
    assert field.kind == "categorical"
    assert [*field.values] == ["007", "9", "10", NINES, f"1{NINES}", "x9", "x10"]


@pytest.mark.parametrize("cell", ["1e999", "-1e999", NINES, f"{NINES}.5"])
def test_a_cell_beyond_every_double_is_no_number(cell: str) -> None:
    field = IntegerField(
        name="a", nullable=False, missing_share=0.0, minimum=0, maximum=9, median=1, distinct=9, words=("n/d",)
    )
    assert read_cell(field, cell) is None


NUMBER = {
    "kind": "integer", "name": "a", "nullable": False, "missing_share": 0.0, "minimum": 0, "maximum": 9, "median": 1,
    "distinct": 9
}  # fmt: skip
E = {"when": "always", "below": -4, "above": 400, "mantissa": None, "pointed": False, "letter": "e", "plus": True}


@pytest.mark.parametrize(
    "field",
    [
        NUMBER | {"minimum": -(2**63) - 1},
        NUMBER | {"maximum": 10**400},
        NUMBER | {"points": [2**63]},
        NUMBER | {"dress": {"scientific": E | {"width": 10**9}}},
        NUMBER | {"dress": {"scientific": E | {"mantissa": 10**9, "width": 2}}},
        {"kind": "identifier", "name": "a", "digits": 10**9, "start": 1},
        {"kind": "identifier", "name": "a", "start": 10**4200, "step": 10**4200},
    ],
)
def test_a_schema_whose_cells_have_no_end_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=r"schema: fields\.0"):
        RecordSchema.from_json(json.dumps({"fields": [field], "row_count": 9, "format_version": 1}))


@pytest.mark.parametrize(
    "dialect",
    [
        {"places": {"a": 10**9}},
        {"places": {"a": -1}},
        {"encoding": "nope"},
        {"encoding": "base64"},
        {"encoding": "a\0"},
        {"quote": "="},
        {"delimiter": "\n"},
        {"delimiter": "é"},
    ],
)
def test_a_form_that_no_file_has_is_refused(dialect: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=r"source: dialect"):
        SourceForm.parsed_json(json.dumps({"dialect": dialect}), "source")
    Dialect(encoding="utf-16-le", delimiter="\x01")


@pytest.mark.parametrize("value", [[[]], "x", -1, 0, None, 10**400, True])
def test_a_prior_of_no_scale_is_refused_before_it_draws(value: Any, bundle: Path) -> None:
    for path in (bundle / "prior" / "prior.json", bundle / "conditional" / "conditional.json"):
        whole = path.read_text()
        path.write_text(json.dumps({**json.loads(whole), "sigma_data": value}))
        write_hashes(bundle)
        if value is True:  # as 1.0
            load_bundle(bundle)
        else:
            with pytest.raises(BundleError, match=f"{path.name} describes"):
                load_bundle(bundle)
        path.write_text(whole)


WIDE: dict[str, Callable[[], bytes]] = {
    "names.csv": lambda: b",".join(b"c%d" % n for n in range(500_000)) + b"\n" + b",".join([b"1"] * 500_000) + b"\n",
    "second.csv": lambda: b"a,b\n" + b"1," * 120_000 + b"\n",
    "quoted.csv": lambda: b'"a\n"' + b",1" * 120_000 + b"\n1,2\n",
    "rare.csv": lambda: b"\x01" * 2_000_000 + b"\n",
    "blanks.txt": lambda: b"".join(b"ab" + b" " * 400_000 + b"%d\n" % n for n in range(6)),
    "words.txt": lambda: b"a " * 500_000 + b"\n" + (b"1 " * 500_000 + b"\n") * 4,
    "keys.json": lambda: b"[{" + b",".join(b'"k%d":1' % n for n in range(500_000)) + b"}]",
    "names.arff": lambda: b"@attribute a numeric\n" * 300_000 + b"@data\n" + b"?," * 299_999 + b"?\n",
}


@pytest.mark.parametrize("name", WIDE)
def test_a_text_of_far_too_many_columns_takes_neither_time_nor_memory(name: str, tmp_path: Path) -> None:
    """They were all made, and some looked through once for each, before they were counted: 9 GB for 2 MB, or hours."""
    (tmp_path / name).write_bytes(WIDE[name]())
    began = time.process_time()
    with suppress(DataError):
        assert read_source(tmp_path / name, ReadConfig(), lambda notice: None).num_columns <= 3
    assert time.process_time() - began < 3.0
