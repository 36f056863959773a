"""A cluster that does not start is one line with a remedy, whatever Ray raises."""

import os
import signal
import sys
import types
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest

from difflm.errors import ClusterError
from difflm.runtime import cluster
from difflm.runtime.cluster import ClusterConfig, start_or_connect

NICENESS = "RAY_worker_niceness"


@pytest.mark.parametrize("error", [Exception("The current node timed out\nduring startup."), ValueError("no room")])
def test_a_node_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**options: Any) -> NoReturn:
        raise error

    fake = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
    monkeypatch.setattr(cluster, "_loopback", lambda ray: nullcontext())
    with pytest.raises(ClusterError, match=r"^Ray could not be started on this machine") as raised:
        start_or_connect(ClusterConfig(address="local"))
    assert "\n" not in str(raised.value)


def test_the_programs_own_sigterm_handler_outlives_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(*_: object) -> None: ...

    def init(**options: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as ray.init does
        raise ValueError("no room")

    fake = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
    monkeypatch.setattr(cluster, "_loopback", lambda ray: nullcontext())
    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(ClusterError):
            start_or_connect(ClusterConfig(address="local"))
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_what_ray_says_of_its_log_level_is_kept_off_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def init(**options: Any) -> NoReturn:
        os.write(2, b"[I 7] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL to 3\n")
        os.write(2, b"no space left")
        raise ValueError("no room")

    fake = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
    monkeypatch.setattr(cluster, "_loopback", lambda ray: nullcontext())
    with pytest.raises(ClusterError):
        start_or_connect(ClusterConfig(address="local"))
    os.write(2, b" and this comes later")
    assert capfd.readouterr().err == "no space left and this comes later"


@pytest.mark.parametrize(("own", "niceness"), [(None, "0"), ("7", "7")])
def test_workers_compete_for_processors_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, own: str | None, niceness: str
) -> None:
    def init(**options: Any) -> NoReturn:
        seen.append((os.environ[NICENESS], os.environ["OMP_WAIT_POLICY"], options["num_cpus"]))
        raise ValueError("no room")

    seen: list[tuple[str, str, int]] = []
    for name in cluster._DEFAULTS:  # whatever is set is put back afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if own is not None:
        monkeypatch.setenv(NICENESS, own)
    fake = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
    monkeypatch.setattr(cluster, "_loopback", lambda ray: nullcontext())
    monkeypatch.setattr(cluster, "usable_processors", lambda: 5)
    with pytest.raises(ClusterError):
        start_or_connect(ClusterConfig(address="local"))
    assert seen == [(niceness, "passive", 5)]


def write_group(root: Path, quotas: dict[str, str], own: str = "0::/a/b\n") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    for name, quota in quotas.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(quota)
    return root


@pytest.mark.parametrize(
    ("quotas", "usable"),
    [
        ({}, 8),
        ({"a/b": "max 100000\n"}, 8),
        ({"a/b": "250000 100000\n"}, 3),
        ({"a/b": "max 100000\n", "a": "200000 100000\n"}, 2),
        ({"": "50000 100000\n"}, 1),
        ({"a/b": "1600000 100000\n"}, 8),
    ],
)
def test_a_quota_of_processor_time_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quotas: dict[str, str], usable: int
) -> None:
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert cluster.usable_processors(write_group(tmp_path, quotas)) == usable


def test_without_control_groups_the_affinity_mask_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda pid: {0, 3})
    assert cluster.usable_processors(tmp_path) == 2
    assert cluster.usable_processors(write_group(tmp_path, {}, own="2:cpu:/\n")) == 2
