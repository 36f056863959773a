"""A shard counts once its account is written."""

from pathlib import Path

import pytest

from difflm.artifacts import ShardFolder, shard_ranges
from difflm.errors import StorageError


def write(path: Path) -> None:
    path.write_bytes(b"rows")


def test_ranges_cover_every_index_once() -> None:
    assert list(shard_ranges(5, 2)) == [
        ("000000000-000000002", 0, 2),
        ("000000002-000000004", 2, 4),
        ("000000004-000000005", 4, 5),
    ]
    assert list(shard_ranges(0, 2)) == []


def test_committed_shards_are_found_in_order(tmp_path: Path) -> None:
    shards = ShardFolder(tmp_path / "shards")
    assert shards.finished() == {}
    shards.commit("b", write, {"rows": 2})
    shards.commit("a", write, {"rows": 1})
    shards.commit("a", write, {"rows": 1})
    assert shards.finished() == {"a": {"rows": 1, "size": 4}, "b": {"rows": 2, "size": 4}}
    assert sorted(path.name for path in shards.folder.iterdir()) == [
        "part-a.json",
        "part-a.parquet",
        "part-b.json",
        "part-b.parquet",
    ]


def test_a_part_without_account_or_cut_short_does_not_count(tmp_path: Path) -> None:
    shards = ShardFolder(tmp_path)
    write(shards.part("a"))
    shards.commit("b", write, {})
    shards.part("b").write_bytes(b"ro")
    assert shards.finished() == {}


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"ro")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="no space left"):
        ShardFolder(tmp_path).commit("a", fail, {})
    assert list(tmp_path.iterdir()) == []
