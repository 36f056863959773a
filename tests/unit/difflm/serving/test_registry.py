"""What a server says of a bundle before it is asked to draw from it."""

import asyncio
from pathlib import Path

import pytest

from difflm.records.fields import IdentifierField
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema
from difflm.serving.backend import BundleRef
from difflm.serving.config import ServeConfig, ServedConfig, is_loopback
from difflm.serving.problems import Problem
from difflm.serving.registry import Registry, ServedBundle, _read, _shared


def served(schema: RecordSchema) -> ServedBundle:
    ref = BundleRef(name="tiny", folder=str(Path("tiny")), version="v1")
    return ServedBundle(ref=ref, schema=schema, codec=JsonRecordCodec(schema), quality=None)


def test_rows_for_which_there_are_no_names_are_refused_before_the_engine_sees_them() -> None:
    field = IdentifierField(name="id", shapes=(("u", "0123456789", "0123456789"),))
    bundle = served(RecordSchema(fields=(field,), row_count=10))
    bundle.check_names(start=90, n=10)
    for start, n, at in ((999_999_990, 1, "start"), (0, 101, "n")):
        with pytest.raises(Problem, match="there are 100 different names of its form") as caught:
            bundle.check_names(start=start, n=n)
        assert (caught.value.status, caught.value.field) == (422, at)


def test_a_report_tells_no_words_of_records_and_no_exact_number_of_real_rows() -> None:
    details = {"unknown_words": {"real_test": [["kowalczyk", 2]]}}
    told = _shared(
        {
            "rows": {"synthetic": 1234, "train": 32_561, "test": 0},
            "evaluations": [{"name": "language", "scores": [], "details": details}],
        }
    )
    assert told["rows"] == {"synthetic": 1234, "train": 30_000, "test": 0}
    assert told["evaluations"] == [{"name": "language", "scores": [], "details": {}}]


def test_a_bundle_that_breaks_whatever_loads_it_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    """Only errors that were foreseen were: those behind it in the list were never looked at."""
    field = IdentifierField(name="id", shapes=(("u", "0123456789"),))
    for name in ("odd", "fine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text('{"format_version": 1}')
        (tmp_path / name / "schema.json").write_text(RecordSchema(fields=(field,), row_count=10).to_json())
    bundles = [ServedConfig(name=name, path=str(tmp_path / name)) for name in ("odd", "fine")]

    async def load(bundle: BundleRef) -> None:
        if bundle.name == "odd":
            raise RuntimeError("of a library")

    registry = Registry(ServeConfig(bundles=bundles), load)
    asyncio.run(registry.refresh())
    assert registry.get("fine").ref.name == "fine"
    assert registry.faults == {"odd": "of a library"}
    assert not registry.ready


def test_a_bundle_of_which_any_file_is_another_one_is_served_anew(tmp_path: Path) -> None:
    """The time of bundle.json alone was looked at, which copies keep."""
    (tmp_path / "bundle.json").write_text('{"format_version": 1}')
    schema = RecordSchema(fields=(IdentifierField(name="id", shapes=(("u", "0123456789"),)),), row_count=10)
    (tmp_path / "schema.json").write_text(schema.to_json())
    loaded: list[str] = []

    async def load(bundle: BundleRef) -> None:
        loaded.append(bundle.version)

    registry = Registry(ServeConfig(bundles=[ServedConfig(name="b", path=str(tmp_path))]), load)
    asyncio.run(registry.refresh())
    asyncio.run(registry.refresh())
    (tmp_path / "schema.json").write_text(schema.model_copy(update={"row_count": 200}).to_json())
    asyncio.run(registry.refresh())
    assert len(set(loaded)) == len(loaded) == 2
    assert registry.get("b").ref.version == loaded[1]


def test_scores_that_no_answer_can_hold_are_none(tmp_path: Path) -> None:
    """Half a surrogate pair was a fault of the server's, each time that somebody asked."""
    path = tmp_path / "scores.json"
    for text in ('{"title": "\\ud800"}', '{"title": NaN}', "[]"):
        path.write_text(text)
        assert _read(path) is None
    path.write_text('{"title": "x"}')
    assert _read(path) is not None


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.evil.example", False), ("0.0.0.0", False)],
)
def test_a_name_that_looks_like_this_machine_is_not_it(host: str, own: bool) -> None:
    assert is_loopback(host) is own
