"""Sources are found, or the error says which key, which file and what to do."""

from pathlib import Path

import pytest

from difflm.config import Config, validate
from difflm.errors import ConfigError, DataError
from difflm_jobs.inputs.sources import FileSource, PackagedSource, Source, locate


class Holder(Config):
    train: Source


def test_a_plain_text_is_a_file() -> None:
    assert validate(Holder, {"train": "a.csv"}, "x.yaml").train == FileSource(path="a.csv")


def test_a_kind_with_a_typo_names_the_kinds() -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml: train\.kind: expected one of 'file', 'packaged'; found 'fiel'"):
        validate(Holder, {"train": {"kind": "fiel", "path": "a.csv"}}, "x.yaml")


def test_environment_variables_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert locate(FileSource(path="${HERE}/a.csv"), "data.train", {"HERE": str(tmp_path)}) == tmp_path / "a.csv"


def test_a_variable_that_is_not_set_names_the_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        locate(FileSource(path="${DIFFLM_DATA}/adult/train.csv.gz"), "data.train", {})
    assert str(caught.value) == (
        "data.train: '${DIFFLM_DATA}/adult/train.csv.gz' needs the environment variable DIFFLM_DATA, which is not set; "
        "set DIFFLM_DATA to the folder that holds adult/train.csv.gz, or give --set data.train=PATH"
    )


def test_a_missing_file_and_a_folder_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.test: .*none\.csv: no such file; .*--set data\.test=PATH"):
        locate(FileSource(path=str(tmp_path / "none.csv")), "data.test")
    with pytest.raises(DataError, match="is a folder"):
        locate(FileSource(path=str(tmp_path)), "data.train")


def test_a_resource_of_a_package() -> None:
    assert locate(PackagedSource(package="difflm", resource="py.typed"), "data.train").name == "py.typed"
    with pytest.raises(DataError, match="the package 'no_such_package' is not installed"):
        locate(PackagedSource(package="no_such_package", resource="x.csv"), "data.train")
    with pytest.raises(DataError, match=r"'difflm' has no file 'x\.csv'"):
        locate(PackagedSource(package="difflm", resource="x.csv"), "data.train")
