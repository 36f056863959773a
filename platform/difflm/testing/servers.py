"""Servers of a service in a thread of this process, for tests that speak HTTP over a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from difflm.serving.app import create_app
from difflm.serving.service import Service


@contextmanager
def served(service: Service) -> Iterator[str]:
    """The address of a server, ending in a slash, whose bundles are loaded."""
    options = uvicorn.Config(
        create_app(service), ws="none", log_level="error", timeout_graceful_shutdown=1, loop="asyncio"
    )
    running = uvicorn.Server(options)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            asyncio.run(service.registry.refresh())
            running.run(sockets=[listener])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            running.should_exit = True
            thread.join()
