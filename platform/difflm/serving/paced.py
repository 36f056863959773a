"""Files that are sent as fast as their client takes them, where it is known how much that is.

Between the application and the client there may be queues without a bound, as Serve has them. What stands at their end
tells how many bytes are through, by messages of a type of its own.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

PACED = b"x-difflm-paced"  # the header of a request whose client's progress is told
TAKEN = "difflm.taken"
_WINDOW = 2 * 2**20  # bytes on their way to the client
_PATIENCE_S = 0.2
"""Without news for so long, a piece goes on its way all the same: news may be lost, and a client that takes nothing is
left by whoever serves it long before such pieces are many.
"""

_log = logging.getLogger(__name__)


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
            try:
                while (message := await receive())["type"] != "http.disconnect":
                    if message["type"] == TAKEN:
                        taken = message["bytes"]
                        news.set()
            except Exception:  # the file is sent without news
                _log.exception("nothing more is told of a client's progress")
                await sending

        async def paced(message: Message) -> None:
            nonlocal sent
            if sent - taken >= _WINDOW:
                news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), _PATIENCE_S)
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
