"""Connections of Serve's proxies: how much of a head uvicorn takes, and how long it waits for its clients.

It knows no setting for any of it: everything here changes uvicorn's protocols in the process that calls it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from difflm.serving.problems import Problem, problem_response

_PROTOCOLS = {"httptools_impl": "HttpToolsProtocol", "h11_impl": "H11Protocol"}  # of uvicorn, by its modules
_NO_HTTP = Problem(400, "invalid_http", "the request is no HTTP")
_LONG_HEAD = Problem(431, "headers", "the head of the request is too long")
_OF_BODIES = (b"content-length", b"transfer-encoding")
_MAX_HEAD = 64 * 1024  # bytes of a request that are neither its body nor the first piece that arrives
_UPGRADE = Problem(400, "upgrade", "no other protocol is spoken here; ask without Upgrade where there is a body")
_SLOW_HEAD = Problem(408, "slow", "the head of the request took too long")
HEAD_S = 20.0  # until a client's request has a head, or its body an end where the answer is out already
STALLED_S = 60.0  # for which a client may take nothing of its answer
_LOOK_S = 5.0


def guard_connections() -> None:
    """Bound the heads and the time of connections, and answer what is no HTTP as a problem."""
    tell_invalid_requests()
    leave_trailers_out()
    refuse_upgrades()
    bound_heads()
    end_slow_connections()


def _protocols() -> Iterator[Any]:
    """Yield uvicorn's protocols; it takes the parser that is installed."""
    for module, name in _PROTOCOLS.items():
        try:
            yield getattr(importlib.import_module(f"uvicorn.protocols.http.{module}"), name)
        except ImportError:
            continue


def tell_invalid_requests() -> None:
    """Have uvicorn answer what is no HTTP as a problem, a wish for a WebSocket as any request."""
    answer = _answer(_NO_HTTP, b"400 Bad Request")

    def told(protocol: Any, _: str) -> None:
        if not protocol.transport.is_closing():
            protocol.transport.write(answer)
            protocol.transport.close()

    for protocol in _protocols():
        protocol.send_400_response = told
        protocol._should_upgrade_to_ws = lambda _: False


def leave_trailers_out() -> None:
    """Have uvicorn's faster parser leave out what comes behind a body. It adds it to the headers, where a key or a name
    would count that no proxy in front has seen.
    """
    protocol = _httptools()
    if protocol is None or hasattr(protocol, "head_read"):
        return
    begin, header, complete = protocol.on_message_begin, protocol.on_header, protocol.on_headers_complete
    protocol.head_read = False

    def on_message_begin(self: Any) -> None:
        self.head_read = False
        begin(self)

    def on_header(self: Any, name: bytes, value: bytes) -> None:
        if not self.head_read:
            header(self, name, value)

    def on_headers_complete(self: Any) -> None:
        self.head_read = True
        complete(self)

    protocol.on_message_begin, protocol.on_header = on_message_begin, on_header
    protocol.on_headers_complete = on_headers_complete


def refuse_upgrades() -> None:
    """Have uvicorn's faster parser refuse what has a body and asks for another protocol. It reads no such body, and
    takes what comes of it for the next request: of somebody else, where a proxy shares its connections among clients.
    """
    protocol = _httptools()
    if protocol is None or hasattr(protocol, "upgrades_refused"):
        return
    answer, complete = _answer(_UPGRADE, b"400 Bad Request"), protocol.on_headers_complete
    protocol.upgrades_refused = True

    def on_headers_complete(self: Any) -> None:
        if self.parser.should_upgrade() and any(name in _OF_BODIES for name, _ in self.headers):
            self.transport.write(answer)
            self.transport.close()
            raise ValueError("a body and an upgrade")  # nothing more is read
        complete(self)

    protocol.on_headers_complete = on_headers_complete


def _httptools() -> Any:
    """Return uvicorn's faster protocol; None where its parser is not installed."""
    try:
        return importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    except ImportError:
        return None


def _answer(told: Problem, status: bytes) -> bytes:
    """Write a problem as a protocol sends it by itself."""
    problem = problem_response(told)
    headers = {name: value for name, value in problem.raw_headers if name != b"connection"}
    lines = b"".join(b"%s: %s\r\n" % header for header in headers.items())
    return b"HTTP/1.1 " + status + b"\r\n" + lines + b"connection: close\r\n\r\n" + bytes(problem.body)


def bound_heads() -> None:
    """Have uvicorn's faster parser refuse what goes on and on without a body: headers, trailers, sizes of chunks. It
    keeps all of them; the other parser has a limit.
    """
    protocol = _httptools()
    if protocol is None or hasattr(protocol, "head_bytes"):
        return
    answer, received = _answer(_LONG_HEAD, b"431 Request Header Fields Too Large"), protocol.data_received
    protocol.head_bytes = 0

    def data_received(self: Any, data: bytes) -> None:
        self.head_bytes += len(data)
        received(self, data)
        if self.head_bytes > max(_MAX_HEAD, len(data)) and not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    protocol.data_received = data_received
    for name in ("on_headers_complete", "on_body", "on_message_complete"):
        setattr(protocol, name, _progress(getattr(protocol, name)))


def _progress(callback: Any) -> Any:
    def told(self: Any, *given: Any) -> None:
        self.head_bytes = 0
        callback(self, *given)

    return told


def end_slow_connections() -> None:
    """Have uvicorn end connections whose client keeps it waiting: without a request, with a head that never ends, or
    with an answer of which nothing is taken. Each of them would be held for ever, before any key is looked at.
    """
    for protocol in _protocols():
        if hasattr(protocol, "watch"):
            continue
        protocol.watch = None
        protocol.connection_made = _watched(protocol.connection_made)
        protocol.connection_lost = _left(protocol.connection_lost)
        protocol.resume_writing = _taken(protocol.resume_writing)


def _watched(made: Any) -> Any:
    def connection_made(self: Any, transport: Any) -> None:
        made(self, transport)
        self.watch = _Watch(self)

    return connection_made


def _left(lost: Any) -> Any:
    def connection_lost(self: Any, error: Exception | None) -> None:
        if self.watch is not None:
            self.watch.end()
        lost(self, error)

    return connection_lost


def _taken(resume: Any) -> Any:
    def resume_writing(self: Any) -> None:
        if self.watch is not None:
            self.watch.resumed += 1
        resume(self)

    return resume_writing


class _Watch:
    """Looks at a connection now and then, and ends it when the same has been waited for too long."""

    def __init__(self, protocol: Any) -> None:
        self.resumed = 0  # how often the client took so much of an answer that the next piece could be written
        self._protocol = protocol
        self._asked, self._taken = (object(), 0.0), (object(), 0.0)
        self._look()

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        protocol, loop = self._protocol, self._protocol.loop
        self._timer = loop.call_later(_LOOK_S, self._look)
        now, transport = loop.time(), protocol.transport
        unread = transport.get_write_buffer_size()
        self._taken = _since(self._taken, (self.resumed, unread), now)
        cycle = protocol.cycle
        under_way = cycle is not None and not cycle.response_complete
        idle = protocol.timeout_keep_alive_task is not None  # between two requests; uvicorn itself ends that
        self._asked = _since(self._asked, (cycle, under_way, idle), now)
        if unread and now - self._taken[1] >= STALLED_S:
            transport.abort()
        elif not under_way and not idle and now - self._asked[1] >= HEAD_S and not transport.is_closing():
            if getattr(protocol, "head_bytes", 0):
                transport.write(_answer(_SLOW_HEAD, b"408 Request Timeout"))
            transport.close()


def _since(before: tuple[object, float], state: object, now: float) -> tuple[object, float]:
    """Return a state and since when it is so."""
    return before if before[0] == state else (state, now)
