"""Shares: how much of something bounded each key may hold, so that no key leaves the others nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


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
