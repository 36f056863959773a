"""Stores: the same behaviour on a disk and on an object store, and every trouble said in one line."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from difflm.artifacts.storage import Store, open_store
from difflm.errors import ConfigError, StorageError


@pytest.fixture(params=["disk", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('bucket')}/some/rows")
    path = tmp_path / "some" / "rows"
    return open_store(path.as_uri() if request.param == "file" else str(path))


def test_what_is_written_is_read(store: Store) -> None:
    assert store.read("a/x.json") is None
    assert store.sizes("a") == {}
    store.write("a/x.json", b"one")
    store.write("a/x.json", b"three")
    store.write("a/b/y", b"")
    assert store.read("a/x.json") == b"three"
    assert store.sizes("a") == {"x.json": 5}
    with store.open("a/x.json") as file:
        assert [file.read(3), file.read(3), file.read(3)] == [b"thr", b"ee", b""]
    assert open_store(store.url).read("a/x.json") == b"three"
    store.remove("a/x.json")
    store.remove("a/x.json")
    store.clear_temporaries("a")
    assert store.sizes("a") == {}


def test_events_are_kept_in_their_order(store: Store) -> None:
    for number in range(3):
        store.append("events", {"number": number})
    lines = (store.read("events.jsonl") or b"").split(b"\n")[:-1]
    files = [store.read(f"events/{name}") or b"" for name in sorted(store.sizes("events"))]
    assert [json.loads(event)["number"] for event in lines + files] == [0, 1, 2]


def test_settings_of_an_object_store_may_stand_in_its_url(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    name = bucket.removeprefix("s3://")
    store = open_store(f"s3://me:secret@{name}/rows?scheme=http&endpoint_override={endpoint}")
    store.write("x", b"1")
    assert store.read("x") == b"1"
    assert store.shown == f"s3://{name}/rows"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("foo://bucket/x", r"^foo://bucket/x: unknown scheme 'foo'; give a path or one of s3://, gs://, file://$"),
        ("s3:///x", r"^s3:///x: names no bucket; give s3://BUCKET/PREFIX$"),
        ("file://x/y", r"a file URL has three slashes"),
        ("file:///x/y?z=1", r"ends in more than a path; write \? as %3F"),
        ("file:///x%00y", r"is no path that a disk can have"),
        ("s3://a/x?region=us-east-1&bad=1", r"^s3://a/x: unknown setting 'bad'; the URL takes endp"),
    ],
)
def test_an_unusable_url_is_refused(location: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(location)


@pytest.mark.usefixtures("bucket")
def test_a_missing_bucket_is_named() -> None:
    with pytest.raises(StorageError, match=r"^s3://nowhere/x: there is no bucket 'nowhere'; make it"):
        open_store("s3://nowhere/x")


def test_an_endpoint_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(StorageError, match=r"^s3://bucket/x: .*check the URL"):
        open_store("s3://bucket/x")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="not a directory"):
        open_store(str(tmp_path / "file" / "rows")).write("x", b"1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StorageError, match="permission denied"):
        open_store(str(tmp_path / "rows")).write("x", b"1")
