"""Shares: how much of something bounded each key may hold, so that no key leaves the others nothing; and turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


class Shares:
    """`most` units for some owners. Half of them are set aside in equal shares, the rest goes to whoever comes first;
    nobody gets more than half beside others. Where there is one owner, or nothing is held, all of it may be taken.
    """

    def __init__(self, most: int, owners: Iterable[str] = ()) -> None:
        self.most = most
        self._owners = frozenset(owners)
        self._share = most // (2 * len(self._owners)) if len(self._owners) > 1 else 0
        self._held: Counter[str] = Counter()
        self.total = 0

    def held(self, owner: str) -> int:
        """Return what an owner holds."""
        return self._held[owner]

    def fits(self, owner: str, amount: int) -> bool:
        """Tell whether an owner may take so much now."""
        if self.total + amount > self.most:
            return False
        own = self._held[owner]
        if len(self._owners) <= 1 or self.total == 0 or own + amount <= self._share:
            return True
        if own and own + amount > self.most // 2:
            return False
        others = sum(max(0, self._share - self._held[other]) for other in self._owners if other != owner)
        return self.total + amount + others <= self.most

    def take(self, owner: str, amount: int) -> bool:
        """Take so much for an owner, or nothing; says which."""
        if not self.fits(owner, amount):
            return False
        self.add(owner, amount)
        return True

    def add(self, owner: str, amount: int) -> None:
        """Count so much more, or with a negative amount less, whether it fits or not."""
        self._held[owner] += amount
        self.total += amount
        if not self._held[owner]:
            del self._held[owner]


class Turns:
    """Places for work that is no row, such as reading a request: owners that wait for one take turns."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # by owner, the one whose turn it is first

    async def run(self, owner: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do some work of an owner when it is its turn; the place is free again when the work has ended, also where
        nobody waits for it any more.
        """
        await self._enter(owner)
        under_way = asyncio.ensure_future(work())
        under_way.add_done_callback(self._ended)
        return await asyncio.shield(under_way)

    async def thread(self, owner: str, call: Callable[[], T]) -> T:
        """Make a call in a thread when it is the owner's turn."""
        return await self.run(owner, lambda: asyncio.to_thread(call))

    async def _enter(self, owner: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(owner, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was given away a moment before
                self._next()
            raise

    def _ended(self, work: asyncio.Future[T]) -> None:
        if not work.cancelled():
            work.exception()  # whoever waits is told; where nobody does, it is no error
        self._next()

    def _next(self) -> None:
        """Give a place to the next owner, which then goes behind the others."""
        while self._lines:
            owner = next(iter(self._lines))
            line = self._lines.pop(owner)
            place = line.popleft()
            if line:
                self._lines[owner] = line
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
