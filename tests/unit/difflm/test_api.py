"""Generators in this process: rows by their address, frames as they came in, and errors before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import difflm
from difflm.api import Generator
from difflm.errors import BundleError, ConfigError, DataError, SchemaError, StorageError
from difflm.records.frames.frames import FrameTemplate, arrow_of, to_table
from difflm.synthesis.arguments import column_names
from difflm.synthesis.saved_sampling import read_sampling
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import untrained_stages
from difflm_jobs.api import _settings
from difflm_jobs.inputs.frame_files import TemporaryFolder

QUICK = SamplingConfig(steps=2, precision="float32")


def people() -> pd.DataFrame:
    rows = range(60)
    return pd.DataFrame(
        {
            "age": pd.array([20 + row % 41 if row % 10 else None for row in rows], dtype="Int64"),
            "city": pd.Categorical([("Rome", "Oslo", "Lima")[row % 3] for row in rows]),
            "since": pd.to_datetime([f"20{10 + row % 9}-0{1 + row % 9}-1{row % 9}" for row in rows]).tz_localize("UTC"),
            "member": [row % 2 == 0 for row in rows],
        }
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = to_table(arrow_of(people(), name="people"))
    return untrained_stages(tmp_path_factory.mktemp("stages"), table).bundle


@pytest.fixture(scope="module")
def generator(bundle: Path) -> Generator:
    return Generator(bundle, template=FrameTemplate.of(people()), sampling=QUICK)


def test_rows_have_the_columns_and_dtypes_of_the_given_frame(generator: Generator) -> None:
    rows = generator.sample(25, seed=3)
    assert isinstance(rows, pd.DataFrame)
    assert len(rows) == 25
    assert rows.dtypes.to_dict() == people().dtypes.to_dict()


def test_a_row_is_the_same_however_many_are_asked_for_and_however_they_come(generator: Generator) -> None:
    rows = generator.sample(25, seed=3)
    pd.testing.assert_frame_equal(generator.sample(7, seed=3), rows.head(7))
    batches = list(generator.batches(25, seed=3, batch_rows=4))
    assert [batch.num_rows for batch in batches] == [4, 4, 4, 4, 4, 4, 1]
    pieces = FrameTemplate.of(people()).frame(pa.Table.from_batches(batches))
    pd.testing.assert_frame_equal(pieces, rows)
    assert not generator.sample(25, seed=4).equals(rows)


def test_numbers_and_names_of_numpy_and_pandas_are_as_good_as_pythons_own(generator: Generator) -> None:
    rows: Any = generator.sample(np.int64(3), seed=np.uint32(5), columns=pd.Index(["age", "city"]))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(rows, generator.sample(3, seed=5, columns=["age", "city"]))


def test_the_random_state_of_torch_stays_the_callers(bundle: Path) -> None:
    before = torch.get_rng_state()
    Generator(bundle, sampling=QUICK).sample(2)
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_is_printed_while_a_bundle_is_opened(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Generator(bundle, sampling=QUICK).sample(2)
    assert capfd.readouterr() == ("", "")


def test_only_the_columns_that_are_wanted(generator: Generator) -> None:
    assert generator.sample(3, columns=["member", "age"]).columns.tolist() == ["member", "age"]


def test_conditions_and_equal_classes_hold_for_every_row(generator: Generator) -> None:
    rows = generator.sample(20, where="age >= 40 and city != 'Rome'")
    assert (rows["age"] >= 40).all()
    assert set(rows["city"]) <= {"Oslo", "Lima"}
    assert generator.sample(9, balance="city")["city"].value_counts().tolist() == [3, 3, 3]


def test_variations_and_ways_between_records(generator: Generator) -> None:
    given = people().dropna().head(2)
    assert len(generator.sample(6, like=given, strength=0.5)) == 6
    assert len(generator.sample(5, between=given)) == 5
    with pytest.raises(DataError, match=r"between: a way leads from one record to another; it has 1 rows"):
        generator.sample(5, between=given.head(1))


def test_gaps_are_filled_and_nothing_else_is_touched(generator: Generator) -> None:
    gaps = people().head(12)
    gaps.loc[3, "city"] = None
    filled = generator.impute(gaps)
    assert filled.dtypes.to_dict() == gaps.dtypes.to_dict()
    assert not filled.isna().to_numpy().any()
    known = gaps.notna()
    assert (filled.astype(object)[known] == gaps.astype(object)[known]).to_numpy()[known.to_numpy()].all()


def test_the_index_and_the_order_of_the_gaps_stay(generator: Generator) -> None:
    gaps = people().iloc[5:9, ::-1].set_axis(["d", "b", "b", "a"])
    gaps.iloc[2, 1] = pd.NaT
    filled = generator.impute(gaps)
    pd.testing.assert_index_equal(filled.index, gaps.index)
    assert filled.columns.tolist() == gaps.columns.tolist()
    assert filled["member"].tolist() == gaps["member"].tolist()


def test_bars_are_no_output(generator: Generator, capsys: pytest.CaptureFixture[str]) -> None:
    generator.sample(3, progress=True)
    assert capsys.readouterr().out == ""


def test_labels_that_are_numbers_are_taken_as_they_are() -> None:
    assert column_names([7, np.int64(8)], ["7", "8", "9"]) == ["7", "8"]  # type: ignore[list-item]


def test_the_kind_of_the_gaps_frame_comes_back(generator: Generator) -> None:
    gaps = pl.from_pandas(people().head(4))
    assert isinstance(generator.impute(gaps), pl.DataFrame)


def test_given_records_that_become_others_are_told(generator: Generator) -> None:
    given = people().dropna().head(2).assign(city="Atlantis")
    with pytest.warns(RuntimeWarning, match=r"^like: column 'city': 2 values were "):
        generator.sample(2, like=given)
    with pytest.warns(RuntimeWarning, match=r"^table: column 'city': 2 values were "):
        generator.encode(given)


def test_latents_have_a_row_per_record(generator: Generator) -> None:
    latents = generator.encode(people().head(5))
    assert latents.dtype == np.float32
    assert latents.shape[0] == 5
    assert np.isfinite(latents).all()


def test_a_saved_generator_is_loaded_with_its_kind_of_frame(generator: Generator, tmp_path: Path) -> None:
    where = generator.save(tmp_path / "people")
    again = difflm.load(where)
    assert again.schema == generator.schema
    pd.testing.assert_frame_equal(again.sample(9), generator.sample(9))  # drawn in as many steps, and of those dtypes
    with pytest.raises(ConfigError, match=r"people: is there already"):
        generator.save(where)


def test_a_saved_generator_trusts_nobody_and_a_damaged_one_is_named(bundle: Path, tmp_path: Path) -> None:
    trusting = SamplingConfig(steps=3, allow_local_base=True)
    where = Generator(bundle, sampling=trusting).save(tmp_path / "people")
    assert read_sampling(where) == SamplingConfig(steps=3)
    (where / "sampling.json").write_text('{"steps": 0}')
    with pytest.raises(BundleError, match=r"sampling\.json: not readable .*save the generator again"):
        difflm.load(where)
    (where / "schema.json").unlink()
    with pytest.raises(SchemaError, match=r"schema\.json: missing"):
        Generator(where)


def test_rows_of_a_file_are_pandas(bundle: Path) -> None:
    assert isinstance(Generator(bundle, sampling=QUICK).sample(2), pd.DataFrame)


def test_a_bundle_alone_has_no_report(generator: Generator) -> None:
    with pytest.raises(ConfigError, match=r"a bundle has no splits to be evaluated against; load the run"):
        _ = generator.report


def test_a_generator_says_what_it_is(generator: Generator) -> None:
    assert "4 columns, learned from 60 rows" in repr(generator)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ConfigError, r"n is 0; give a number of rows"),
        ({"n": 1.5}, ConfigError, r"n is 1\.5"),
        ({"n": 3, "seed": -1}, ConfigError, r"seed is -1"),
        ({"n": True}, ConfigError, r"n is True"),
        ({"n": np.array([1, 2])}, ConfigError, r"n is array"),
        ({"n": 3, "batch_rows": 2.5}, ConfigError, r"batch_rows is 2\.5; give a number of rows"),
        ({"n": 3, "columns": "age"}, ConfigError, r"columns is 'age'; give a list of names"),
        ({"n": 3, "columns": 5}, ConfigError, r"columns is 5"),
        ({"n": 3, "columns": []}, ConfigError, r"columns is empty"),
        ({"n": 3, "columns": ["age", "age"]}, ConfigError, r"columns: 'age' is there twice"),
        ({"n": 3, "where": 3}, ConfigError, r"where is 3; give a condition as text"),
        ({"n": 3, "balance": 3}, ConfigError, r"balance is 3; give the name of a column"),
        ({"n": 3, "like": people(), "strength": "a"}, ConfigError, r"strength is 'a'; give a number from 0"),
        ({"n": 3, "columns": ["height"]}, ConfigError, r"columns: there is no 'height'; columns are 'age', 'city'"),
        ({"n": 3, "where": "height > 3"}, ConfigError, "height"),
        ({"n": 3, "balance": "age"}, ConfigError, r"column 'age' is integer"),
        ({"n": 3, "like": people(), "between": people()}, ConfigError, r"like and between: give one of them"),
        ({"n": 3, "like": people(), "strength": 2.0}, ConfigError, r"strength is 2\.0; give a number from 0"),
        ({"n": 3, "like": people(), "where": "age > 30"}, ConfigError, "neither a condition"),
        ({"n": 3, "like": people().drop(columns="age")}, DataError, r"like: no column 'age'"),
        ({"n": 3, "like": {"age": [1]}}, DataError, r"like: a dict is no table"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_the_call(
    generator: Generator, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        generator.batches(**arguments)


def test_the_arguments_of_impute_are_checked_like_those_of_sample(generator: Generator) -> None:
    with pytest.raises(ConfigError, match=r"columns is 'age'; give a list"):
        generator.impute(people(), columns="age")
    with pytest.raises(ConfigError, match=r"seed is -1"):
        generator.impute(people(), seed=-1)


FIT: dict[str, Any] = {
    "decoder": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64},
    "decoder_fit": {"steps": 30, "copied_below": 0.999, "clean_share": 0.1},
    "autoencoder": {"steps": 10, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}},
    "prior": {"steps": np.int64(10), "width": 16, "blocks": 1},
    "sampling.steps": 2,
    "evaluation": dict.fromkeys(("detection", "fidelity", "utility", "membership", "projection")),
}


def test_fits_of_several_tables_in_one_folder_stay_apart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = pd.DataFrame({"age": [31, 45, 28] * 40, "city": ["Rome", "Oslo"] * 60})
    other = pl.DataFrame({"up": [True, False] * 60})
    before = torch.get_rng_state()
    one = difflm.fit(first, config=FIT, out=tmp_path / "run", progress=False)
    two = difflm.fit(other, config=FIT, out=tmp_path / "run", progress=False)
    assert torch.equal(before, torch.get_rng_state())
    assert isinstance(two.sample(2), pl.DataFrame)
    assert isinstance(difflm.load(tmp_path / "run").sample(2), pl.DataFrame)
    assert set(one.report.columns) == {"age", "city"}
    assert set(two.report.columns) == {"up"}
    again = difflm.fit(first, config=FIT, out=tmp_path / "run", progress=False)
    assert again.bundle == one.bundle
    assert set(again.report.columns) == {"age", "city"}
    loaded = difflm.load(tmp_path / "run")
    assert loaded.bundle == one.bundle
    pd.testing.assert_frame_equal(loaded.sample(5), one.sample(5))
    (tmp_path / "run" / "runs.jsonl").write_text('{"started": {"sta\n')
    assert difflm.load(tmp_path / "run").bundle == two.bundle  # the newest, where the last is not known
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"config": {"data": 3}}, ConfigError, r"config: data: expected an object; found 3"),
        ({"config": {"prior": 3, "prior.steps": 4}}, ConfigError, r"'prior\.steps': 'prior' is 3 elsewhere"),
        ({"config": {"prior.steps": object()}}, ConfigError, r"is a object; give text"),
        ({"config": [1]}, ConfigError, r"config: a list is none"),
        ({"config": {"prior.steps": np.int64(-4)}}, ConfigError, r"prior\.steps: expected greater"),
        ({"cluster": 3}, ConfigError, r"cluster is 3; give 'auto'"),
        ({"target": 3}, DataError, r"table: no target column '3'"),
        ({"target": "height"}, DataError, r"table: no target column 'height'; it has 'age', 'city', 'since', 'member'"),
    ],
)
def test_a_fit_that_cannot_be_leaves_no_folder(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        difflm.fit(people(), out=tmp_path / "run", progress=False, **arguments)
    assert not (tmp_path / "run").exists()


def test_tools_that_nothing_could_draw_are_refused_before_they_are_learned(tmp_path: Path) -> None:
    keys = ("category", "tool_name", "tool_description", "api_name", "api_description", "parameters")
    tools = pd.DataFrame([dict.fromkeys(keys, "[]")] * 30)
    with pytest.raises(ConfigError, match="parameters of tools are JSON"):
        difflm.fit(tools, kind="tools", config={"sampling.engine.constraint": "automaton"}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    tools_settings = _settings("tools.json", None, None, "run", "tools", None, ())
    assert tools_settings.experiment().sampling.engine.constraint == "llguidance"


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_where_the_run_should_lie_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "there").touch()
    for table in (people(), tmp_path / "people.csv"):
        people().to_csv(tmp_path / "people.csv", index=False)
        with pytest.raises(StorageError, match=r"out: .*there.*: cannot be made a folder"):
            difflm.fit(table, out=tmp_path / "there" / below, progress=False)


def test_the_folder_of_a_fit_without_one_goes_without_a_warning() -> None:
    folder = TemporaryFolder()
    path = folder.path
    assert path.is_dir()
    del folder
    assert not path.exists()


def test_an_unseen_value_is_named_with_its_row(generator: Generator) -> None:
    gaps = people().head(3)
    gaps["city"] = ["Rome", "Quito", None]
    with pytest.raises(DataError, match=r"table: row 1, column 'city': 'Quito' is nothing that the bundle can write"):
        generator.impute(gaps)


def test_nothing_to_load_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        difflm.load(tmp_path)


def test_the_door_knows_what_stands_behind_it_and_imports_nothing_before() -> None:
    code = (
        "import sys, difflm; before = set(sys.modules); assert not {'torch', 'numpy', 'pyarrow'} & before; "
        "names = dir(difflm); assert 'fit' in names and 'evaluate' in names, names; "
        "difflm.fit, difflm.load, difflm.evaluate, difflm.compare; assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match=r"no attribute 'train'; it has Generator"):
        _ = difflm.train
