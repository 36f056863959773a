"""One port, one server; and what a cluster on this machine leaves readable."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm.runtime.cluster import ClusterConfig, keep_token_private
from difflm_jobs.cli.serve import check_port


def test_a_port_that_another_server_would_share_is_taken() -> None:
    """Serve sets SO_REUSEPORT: a second server without keys answered half of the requests of one with keys."""
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        first.listen()
        port = first.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):
            with pytest.raises(ConfigError, match=f"port {port} of {host} is taken by another server; give --port"):
                check_port(host, port)
    check_port("127.0.0.1", port)


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot listen at 192"):
        check_port("192.0.2.77", 8000)


def test_only_its_user_reads_the_token_of_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    keep_token_private(path)
    made = path.read_text()
    assert len(made) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)  # as Ray makes it
    keep_token_private(path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (made, 0o600)


def test_nothing_is_exported_to_the_network_unless_asked_for() -> None:
    assert ClusterConfig().metrics is False
    assert ClusterConfig().dashboard is False
