"""Shards become one file, whole or not at all."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.errors import ConfigError, StorageError
from difflm_jobs.pipeline.mapping import export, file_format


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    first = pa.table({"name": ["a,b", 'c"d'], "x": [1.5, None], "ok": [True, None]})
    second = pa.table({"name": ["é"], "x": [2.0], "ok": [False]})
    pq.write_table(second, folder / "part-000000002-000000003.parquet")
    pq.write_table(first, folder / "part-000000000-000000002.parquet")
    return folder


def test_parts_are_joined_in_order(shards: Path, tmp_path: Path) -> None:
    assert export(shards, tmp_path / "out" / "x.csv") == 3
    text = (tmp_path / "out" / "x.csv").read_text(encoding="utf-8")
    assert text == 'name,x,ok\n"a,b",1.5,true\n"c""d",,\né,2.0,false\n'


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_points_to_is_written_and_the_link_stays(there: bool, shards: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "x.csv", tmp_path / "x.csv"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(target)
    export(shards, link)
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("name,x,ok")
    assert [path.name for path in target.parent.iterdir()] == ["x.csv"]


def test_pipes_and_devices_are_refused_and_stay(shards: Path, tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.csv", tmp_path / "null.csv"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for path in (pipe, link):
        with pytest.raises(ConfigError, match="is a pipe or a device"):
            export(shards, path)
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_every_format_can_be_read(shards: Path, tmp_path: Path) -> None:
    export(shards, tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a,b", 'c"d', "é"]
    export(shards, tmp_path / "x.arrow")
    assert pa.ipc.open_file(tmp_path / "x.arrow").read_all().column("x").to_pylist() == [1.5, None, 2.0]
    export(shards, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").column("x").to_pylist() == [1.5, None, 2.0]


def test_an_unknown_ending_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"x\.docx: unknown ending '\.docx'; give .*ends in .*, \.xlsx, \.ods"):
        file_format(Path("x.docx"))


def test_a_full_disk_leaves_nothing(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(StorageError, match="no space left"):
        export(shards, tmp_path / "x.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
