"""Shipping: a folder arrives whole, once, under the hash of its contents."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import pytest

from difflm.artifacts.hashing import hash_folder
from difflm.runtime.shard_actor import ShippedFolder, unpack


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    folder = tmp_path / "bundle"
    (folder / "decoder").mkdir(parents=True)
    (folder / "bundle.json").write_text("{}", encoding="utf-8")
    (folder / "decoder" / "weights").write_bytes(b"123")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, arcname=".")
    return content.getvalue()


def test_it_is_unpacked_once(packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def get(reference: object) -> bytes:
        asked.append(reference)
        return packed

    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    shipped = ShippedFolder(digest=hash_folder(tmp_path / "bundle"), archive="reference")
    first = unpack(shipped)
    assert unpack(shipped) == first
    assert asked == ["reference"]
    assert hash_folder(first) == shipped.digest
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_the_hash_is_of_names_and_contents_and_not_of_the_place(tmp_path: Path, packed: bytes) -> None:
    before = hash_folder(tmp_path / "bundle")
    moved = (tmp_path / "bundle").rename(tmp_path / "elsewhere")
    assert hash_folder(moved) == before
    (moved / "decoder" / "weights").write_bytes(b"124")
    assert hash_folder(moved) != before
    (moved / "decoder" / "weights").write_bytes(b"123")
    (moved / "decoder" / "weights").rename(moved / "decoder" / "weight")
    assert hash_folder(moved) != before
