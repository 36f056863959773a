"""API keys: hashes on disk, nothing else, and limits of each."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm.serving.config import HttpConfig, ReplicasConfig, ServeConfig, ServedConfig
from difflm.serving.limits import KeyRing, TokenBucket, add_key, hash_key, read_keys

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
