"""A cluster that does not start is one line with a remedy, whatever Ray raises."""

import os
import signal
import sys
import types
from typing import Any, NoReturn

import pytest

from difflm.errors import ClusterError
from difflm.runtime import cluster
from difflm.runtime.cluster import ClusterConfig, start_or_connect


@pytest.mark.parametrize("error", [Exception("The current node timed out\nduring startup."), ValueError("no room")])
def test_a_node_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**options: Any) -> NoReturn:
        raise error

    fake = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
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
    with pytest.raises(ClusterError):
        start_or_connect(ClusterConfig(address="local"))
    os.write(2, b" and this comes later")
    assert capfd.readouterr().err == "no space left and this comes later"
