"""Serve's own processes: what proxies and uvicorn answer by themselves, and where replicas listen.

A proxy calls `middlewares` when it starts, because RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

from __future__ import annotations

import importlib
from typing import Any

from starlette.middleware import Middleware

from difflm.runtime.cluster import LOOPBACK
from difflm.runtime.proxy_connections import guard_connections
from difflm.runtime.proxy_requests import BoundedBodies, KnownHeaders, PacedDownloads
from difflm.serving.problems import SafeHeaders, ToldProblems

CALLBACK = "difflm.runtime.serve_processes:middlewares"


def middlewares() -> list[Middleware]:
    """Prepare the process of a proxy, and return what stands around its application."""
    guard_connections()
    return [
        Middleware(PacedDownloads),
        Middleware(BoundedBodies),
        Middleware(KnownHeaders),
        Middleware(SafeHeaders),
        Middleware(ToldProblems),
    ]


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
