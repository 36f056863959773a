"""Turns of prompting and decoding: when the few draws that wait get their latents, and when they wait for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GATHERED = 32  # draws; a latent costs almost as much alone as among so many, and much less among them


class PromptTurns:
    """After prompts were made, the records under way are decoded for as long as that took, unless many draws wait.

    Without turns, requests for single rows would each have their latents drawn alone while all others stand still.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._ended = clock()

    @contextmanager
    def prompting(self) -> Iterator[None]:
        """Around the making of prompts."""
        self._began = self._clock()
        try:
            yield
        finally:
            self._ended = self._clock()

    def due(self, waiting: int) -> bool:
        """Whether prompts are to be made for so many draws while records are under way."""
        return waiting >= GATHERED or self._clock() - self._ended >= self._ended - self._began
