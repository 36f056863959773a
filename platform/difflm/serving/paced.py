"""Files that are sent as fast as their client takes them, where it is known how much that is.

Between the application and the client there may be queues without a bound, as Serve has them. What stands at their end
tells how many bytes are through, by messages of a type of its own.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

PACED = b"x-difflm-paced"  # the header of a request whose client's progress is told
TAKEN = "difflm.taken"
_WINDOW = 2 * 2**20  # bytes on their way to the client


class PacedFile(FileResponse):
    """A file of which no more is on its way than a client takes in a moment."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, until the client goes away."""
        if all(name != PACED for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return
        sent = taken = 0
        news = asyncio.Event()

        async def listened() -> None:
            nonlocal taken
            while (message := await receive())["type"] != "http.disconnect":
                if message["type"] == TAKEN:
                    taken = message["bytes"]
                    news.set()

        async def paced(message: Message) -> None:
            nonlocal sent
            while sent - taken >= _WINDOW:
                news.clear()
                await news.wait()
            sent += len(message.get("body", b""))
            await send(message)

        listening = asyncio.ensure_future(listened())
        sending = asyncio.ensure_future(super().__call__(scope, receive, paced))
        try:
            await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (listening, sending):
                task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await task
