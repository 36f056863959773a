"""Serve's own processes: what proxies and uvicorn answer by themselves, and where replicas listen.

A proxy calls `middlewares` when it starts, because RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

from __future__ import annotations

import importlib
from typing import Any

from starlette.middleware import Middleware

from difflm.runtime.cluster import LOOPBACK
from difflm.serving.problems import Problem, SafeHeaders, ToldProblems, problem_response

CALLBACK = "difflm.runtime.serve_processes:middlewares"

_PROTOCOLS = {"httptools_impl": "HttpToolsProtocol", "h11_impl": "H11Protocol"}  # of uvicorn, by its modules
_NO_HTTP = Problem(400, "invalid_http", "the request is no HTTP")
_LONG_HEAD = Problem(431, "headers", "the head of the request is too long")
_MAX_HEAD = 64 * 1024  # bytes of a request that are neither its body nor the first piece that arrives


def middlewares() -> list[Middleware]:
    """Prepare the process of a proxy, and return what stands around its application."""
    tell_invalid_requests()
    bound_heads()
    return [Middleware(SafeHeaders), Middleware(ToldProblems)]


def tell_invalid_requests() -> None:
    """Have uvicorn answer what is no HTTP as a problem; it knows no setting for that."""
    answer = _answer(_NO_HTTP, b"400 Bad Request")

    def told(protocol: Any, _: str) -> None:
        protocol.transport.write(answer)
        protocol.transport.close()

    for module, name in _PROTOCOLS.items():
        try:
            protocol = getattr(importlib.import_module(f"uvicorn.protocols.http.{module}"), name)
        except ImportError:  # uvicorn takes the parser that is installed
            continue
        protocol.send_400_response = told


def _answer(told: Problem, status: bytes) -> bytes:
    """Write a problem as a protocol sends it by itself."""
    problem = problem_response(told)
    headers = b"".join(b"%s: %s\r\n" % header for header in problem.raw_headers)
    return b"HTTP/1.1 " + status + b"\r\n" + headers + b"connection: close\r\n\r\n" + bytes(problem.body)


def bound_heads() -> None:
    """Have uvicorn's faster parser refuse what goes on and on without a body: headers, trailers, sizes of chunks. It
    keeps all of them, and knows no setting for that; the other parser has a limit.
    """
    try:
        protocol: Any = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    except ImportError:
        return
    if hasattr(protocol, "head_bytes"):
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


def listen_as_the_node_does() -> None:
    """Have this replica's server for calls between deployments listen on the loopback where all else of its node does.

    Serve lets it listen everywhere and knows no setting for that. Call it before the replica is ready.
    """
    ray_util: Any = importlib.import_module("ray.util")
    replica: Any = importlib.import_module("ray.serve._private.replica")
    add = getattr(replica, "add_port_to_grpc_server", None)
    if add is None or ray_util.get_node_ip_address() != LOOPBACK:
        return

    def added(server: Any, address: str) -> Any:
        return add(server, address.replace("[::]", LOOPBACK))

    replica.add_port_to_grpc_server = added
