"""API keys: hashes on disk, nothing else, and limits of each."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from difflm.artifacts import write_json_atomic
from difflm.errors import ConfigError
from difflm.serving.config import HttpConfig, ReplicasConfig, ServeConfig, ServedConfig
from difflm.serving.limits import KeyConfig, KeyRing, KeysConfig, TokenBucket, add_key, hash_key, read_keys

SERVED = [ServedConfig(name="a", path="/a")]


def test_a_file_of_keys_holds_their_hashes_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    first = add_key(path, "first", requests_per_minute=None, rows_per_minute=10)
    second = add_key(path, "second", requests_per_minute=5, rows_per_minute=None)
    assert first != second
    assert len(first) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not {key for key in (first, second) if key in path.read_text()}
    keys = read_keys(path)
    assert [key.sha256 for key in keys] == [hash_key(first), hash_key(second)]
    ring = KeyRing(keys, lambda: 0.0)
    assert ring.owner(f"Bearer {second}") == "second"
    assert ring.owner(f"bearer  {first} ") == "first"
    for wrong in ("", second, f"Basic {second}", "Bearer", "Bearer \udcff", f"Bearer {second}x"):
        assert ring.owner(wrong) is None


def test_a_name_is_given_once_and_has_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_key(path, "a", requests_per_minute=None, rows_per_minute=None)
    with pytest.raises(ConfigError, match="there is a key 'a' already"):
        add_key(path, "a", requests_per_minute=None, rows_per_minute=None)
    with pytest.raises(ConfigError, match="name"):
        add_key(path, "../b", requests_per_minute=None, rows_per_minute=None)
    assert len(read_keys(path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "# who may ask\nkeys:\n- name: ann\n  sha256: {hash}  # until May\n",
        "# who may ask\nkeys:\n  - {{name: ann, sha256: {hash}}}  # until May",
        "# who may ask, until May\n",
    ],
)
def test_a_new_key_leaves_what_somebody_wrote(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(written := text.format(hash="0" * 64))
    add_key(path, "bob", requests_per_minute=None, rows_per_minute=5)
    assert path.read_text().startswith(written.rstrip())
    assert [key.name for key in read_keys(path)] == (["ann", "bob"] if "ann" in text else ["bob"])
    path.write_text("keys: []\n")
    add_key(path, "bob", requests_per_minute=None, rows_per_minute=5)
    assert [key.name for key in read_keys(path)] == ["bob"]


def test_keys_are_taken_back_and_given_while_a_server_runs(tmp_path: Path) -> None:
    """A key that had come into wrong hands was good until a restart."""
    now, path = 0.0, tmp_path / "keys.yaml"
    stolen = add_key(path, "ann", requests_per_minute=None, rows_per_minute=10)
    kept = add_key(path, "bob", requests_per_minute=2, rows_per_minute=None)
    ring = KeyRing(read_keys(path), lambda: now, file=path, every_s=10.0)
    assert ring.spend("bob", "requests", 2) == 0.0
    new = KeysConfig(keys=[KeyConfig(name="ann", sha256=hash_key("new")), read_keys(path)[1]])
    write_json_atomic(path, new.model_dump(mode="json"))  # JSON is YAML
    assert ring.owner(f"Bearer {stolen}") == "ann"
    now = 10.0
    assert ring.owner(f"Bearer {stolen}") is None
    assert ring.owner("Bearer new") == "ann"
    assert ring.owner(f"Bearer {kept}") == "bob"
    assert ring.spend("bob", "requests", 2) > 0.0, "what it used up is not given again"
    for content in (b"keys: [", None):
        now += 10.0
        path.unlink() if content is None else path.write_bytes(content)
        assert ring.owner("Bearer new") == "ann"


def test_a_bucket_fills_up_evenly_and_lets_a_large_amount_through_when_it_is_full() -> None:
    now = 0.0
    bucket = TokenBucket(60, lambda: now)
    assert bucket.take(60) == 0.0
    assert bucket.take(6) == pytest.approx(6.0)
    now = 6.0
    assert bucket.take(6) == 0.0
    now = 66.0
    assert bucket.take(100) == 0.0
    assert bucket.take(1) == pytest.approx(41.0)


def test_a_server_that_others_reach_has_keys_or_says_that_it_needs_none() -> None:
    with pytest.raises(ValueError, match="can be reached from elsewhere"):
        ServeConfig(bundles=SERVED, http=HttpConfig(host="0.0.0.0"))
    ServeConfig(bundles=SERVED, http=HttpConfig(host="0.0.0.0"), anonymous=True)
    ServeConfig(bundles=SERVED, http=HttpConfig(host="0.0.0.0"), keys_file="keys.yaml")


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="not unique"):
        ServeConfig(bundles=SERVED * 2)
    with pytest.raises(ValueError, match="go together"):
        HttpConfig(certificate_file="c.pem")
    with pytest.raises(ValueError, match="exceeds max_replicas"):
        ReplicasConfig(min_replicas=3, max_replicas=2)
