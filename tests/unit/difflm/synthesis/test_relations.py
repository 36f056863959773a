"""Relations in synthetic rows of a tiny bundle: in every row, with conditions, balance, constraints and given cells."""

import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.api import Generator
from difflm.errors import ConfigError
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.mining import mine_relations
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.plans.request import PlanRequest
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import untrained_stages
from difflm.testing.related import CITIES, faults, related_table

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=64, attempts=60)
TABLE = related_table(200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    relations = mine_relations(TABLE, TABLE, infer_schema(TABLE)).relations
    assert len(relations.kept) == 5
    return untrained_stages(tmp_path_factory.mktemp("related"), TABLE, relations=relations).bundle


@pytest.fixture(scope="module")
def opened(folder: Path) -> OpenBundle:
    return OpenBundle(folder, SAMPLING)


def _drawn(opened: OpenBundle, rows: int = 40, **request: object) -> list[dict[str, str]]:
    wanted = PlanRequest.model_validate(request)
    wanted.check(opened.bundle.folder, opened.bundle.schema)
    drawn, account = opened.synthesizer(wanted).draw_valid(range(rows), seed=3)
    assert set(account.rejections) <= {"relation", "condition"}
    assert len(drawn) == rows
    found = [{name: str(value) for name, value in record.items()} for _, record in drawn]
    assert [fault for row in found for fault in faults(row)] == []
    return found


def test_every_row_keeps_the_relations_and_what_breaks_one_is_counted(opened: OpenBundle) -> None:
    synthesizer = opened.synthesizer()
    drawn, account = synthesizer.draw_valid(range(60), seed=1)
    assert [fault for _, record in drawn for fault in faults({k: str(v) for k, v in record.items()})] == []
    assert len(drawn) == 60
    assert account.rejections["relation"] >= 5  # low <= high cannot be computed
    draws = synthesizer.draw(range(20), seed=1, attempt=0)
    assert {draw.reason for draw in draws} == {None, "relation"}
    told = {str(draw.detail).partition(":")[0] for draw in draws if draw.reason}
    assert told <= {"low < high", "nights == end - start", "total == n * unit"}
    again = synthesizer.draw(list(range(20))[::-1], seed=1, attempt=0)
    assert again[::-1] == draws


def test_conditions_hold_together_with_relations(opened: OpenBundle) -> None:
    for row in _drawn(opened, where="state == 'Hesse' and high <= 400"):
        assert row["state"] == "Hesse"
        assert int(row["high"]) <= 400


def test_a_condition_that_relations_rule_out_is_refused(opened: OpenBundle) -> None:
    request = PlanRequest(where="state == 'Hesse' and city == 'Bremen'")
    with pytest.raises(ConfigError, match=r"it leaves no value of '(state|city)', as determines\(city, state\) holds"):
        request.check(opened.bundle.folder, opened.bundle.schema)


def test_balanced_columns_keep_the_relations(opened: OpenBundle) -> None:
    rows = _drawn(opened, rows=12, balance="city")
    assert len({row["city"] for row in rows[:5]}) == len(CITIES)


def test_constraints_are_kept_beside_the_relations(opened: OpenBundle) -> None:
    for row in _drawn(opened, constraints=("n <= 3", "low < high", "start >= '2020-01-01'")):
        assert int(row["n"]) <= 3
        assert int(row["low"]) < int(row["high"])
        assert row["start"] >= "2020-01-01"


@pytest.mark.parametrize(
    ("where", "constraint"),
    [
        ("n <= 2", "n > 2 + 1"),
        ("n > 5", "n <= 3"),
        ("start > '2022-01-01'", "start <= '2020-01-01'"),
    ],
)
def test_conditions_that_constraints_rule_out_are_refused(opened: OpenBundle, where: str, constraint: str) -> None:
    """Every draw was rejected for it, one after the other."""
    folder, schema = opened.bundle.folder, opened.bundle.schema
    with pytest.raises(ConfigError, match=r"condition .*it leaves no value of|no row can satisfy it"):
        PlanRequest(where=where, constraints=(constraint,)).check(folder, schema)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (("high < low",), "cannot both hold"),
        (("n > 8",), "no row can satisfy it"),
        (("prise < 3",), "there is no column 'prise'"),
        (("fixed(city, state)",), "learned from training rows"),
    ],
)
def test_constraints_that_cannot_be_kept_are_refused_before_anything_is_drawn(
    opened: OpenBundle, constraints: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        PlanRequest(constraints=constraints).check(opened.bundle.folder, opened.bundle.schema)


def test_missing_cells_are_filled_in_as_the_given_ones_demand(opened: OpenBundle) -> None:
    schema = opened.bundle.schema
    whole = opened.bundle.codec.normalize_table(TABLE.slice(0, 24)).table
    gaps = whole
    for place, name in enumerate(schema.names):
        kind = whole.schema.field(name)
        cells = [None if (row + place) % 6 == 0 else cell for row, cell in enumerate(whole.column(name).to_pylist())]
        gaps = gaps.set_column(place, kind, pa.array(cells, kind.type))
    for row, original in zip(_imputed(opened, gaps), gaps.to_pylist(), strict=True):
        for name, cell in original.items():
            assert cell is None or row[name] == str(cell)


def _imputed(opened: OpenBundle, gaps: pa.Table) -> list[dict[str, str]]:
    request = PlanRequest.model_validate({"given": {"use": {"kind": "impute"}, "sha256": ""}})
    drawn, _ = opened.synthesizer(request, gaps).draw_valid(range(len(gaps)), seed=2)
    assert len(drawn) == len(gaps)
    found = [{name: str(value) for name, value in record.items()} for _, record in drawn]
    assert [fault for row in found for fault in faults(row)] == []
    return found


def test_given_rows_that_break_a_relation_stay_and_are_named(folder: Path) -> None:
    generator = Generator(folder, sampling=SAMPLING)
    table = related_table(4, seed=5).to_pandas()
    table.loc[1, ["start", "end"]] = ["2021-05-05", "2021-05-01"]
    table.loc[1, "low"] = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filled = generator.impute(table)
    told = [str(warning.message) for warning in caught]
    assert [text.partition(" among the given cells of 1 rows, the first is row 1; ")[0] for text in told] == [
        "table: nights == end - start does not hold",
        "table: start <= end does not hold",
    ]
    assert filled.loc[1, "end"] == "2021-05-01"
    assert int(filled.loc[1, "low"]) <= int(filled.loc[1, "high"])


def test_from_python(folder: Path) -> None:
    generator = Generator(folder, sampling=SAMPLING)
    rows = generator.sample(10, seed=1, constraints=["n <= 2"])
    assert rows["n"].astype(int).max() <= 2
    with pytest.raises(ConfigError, match="constraints is 'n <= 2'; give a list of texts"):
        generator.sample(10, constraints="n <= 2")
