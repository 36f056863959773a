"""What strangers do to a socket: each is answered or let go, and those beside them notice nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from difflm.client import Client
from difflm.serving.config import ServeConfig
from difflm.serving.limits import KeyConfig, KeyRing, hash_key
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service
from difflm.testing.processes import wait_until
from difflm.testing.servers import served

KEY = "difflm_known"
ASK = b"POST /v1/samples HTTP/1.1\r\nHost: server\r\n"
HEAD = ASK + b"Authorization: Bearer difflm_known\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PIECE = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
UPLOAD_S = 0.5


@pytest.fixture(scope="module")
def service(config: ServeConfig, backend: LocalBackend) -> Service:
    limits = config.limits.model_copy(update={"upload_s": UPLOAD_S})
    ring = KeyRing([KeyConfig(name="known", sha256=hash_key(KEY))], lambda: 0.0)
    return Service(config.model_copy(update={"limits": limits}), backend, ring=ring)


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with served(service) as url:
        yield url


def connected(address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(address).port or 0), timeout=60)


def answer_to(stranger: socket.socket) -> bytes:
    """All that comes until the server ends the connection, or the first piece of a connection that it keeps."""
    received = b""
    while b'"error"' not in received and (piece := stranger.recv(65536)):
        received += piece
    return received


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        (ASK + b"Content-Length: 9\r\n\r\n", b"401", b"authorization"),
        (HEAD.replace(b"known", b"other") + b"Content-Length: 9\r\n\r\n", b"401", b"authorization"),
        (HEAD + b"Content-Length: 104857600\r\n\r\n", b"413", b"body"),
        (CHUNKED + 3 * PIECE, b"413", b"body"),
        (HEAD + b'Content-Length: 10\r\n\r\n{"n": "\xff"}', b"400", b"body"),
    ],
)
def test_a_body_that_is_too_large_or_nobodys_is_refused_before_it_is_read(
    address: str, sent: bytes, status: bytes, field: bytes
) -> None:
    with connected(address) as stranger:
        stranger.sendall(sent)
        received = answer_to(stranger)
    assert received.startswith(b"HTTP/1.1 " + status)
    assert b'"field":"' + field + b'"' in received


@pytest.mark.parametrize("sent", [HEAD + b"Content-Length: 9\r\n\r\n{", CHUNKED + b"1\r\n{\r\n"])
def test_a_body_that_never_ends_loses_its_connection(address: str, sent: bytes) -> None:
    with connected(address) as stranger:
        stranger.sendall(sent)
        received = b""
        while piece := stranger.recv(65536):  # until the server hangs up; the socket's own timeout fails the test
            received += piece
    assert received.startswith(b"HTTP/1.1 408")
    assert b'"field":"body"' in received


def test_those_who_never_end_their_request_or_hang_up_leave_nothing_behind(address: str, service: Service) -> None:
    slow = [connected(address) for _ in range(50)]
    for stranger in slow:
        stranger.sendall(HEAD)  # the head itself never ends
    for sent in (
        HEAD,
        CHUNKED + b"1\r\n{\r\n",
        HEAD + b'Content-Length: 12\r\n\r\n{"n": 200000',
        b"\x00\xff nonsense\r\n\r\n",
    ):
        with connected(address) as stranger:
            stranger.sendall(sent)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(65536):
                pass
    with Client(address, key=KEY) as client:
        assert len(client.sample(3, seed=1)) <= 3
    for stranger in slow:
        stranger.close()
    wait_until(lambda: b"difflm_outstanding_rows 0.0" in service.metrics.text(), what="nothing under way", timeout_s=30)
