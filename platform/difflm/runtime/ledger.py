"""The ledger of a shard map: which pieces of a shard are left, what became of the others, and when to give one up.

It lives in a process of its own beside the driver, so that it outlasts the processes that do the work. A shard is one
piece at first. When its process dies too often, or it raises too often, the piece is cut in halves, and so on down to
the one index that does it, which is given up with the reason while all others are kept. The process of a cut piece may
die once only before it is cut again; the whole shard and a single index are given more tries, since a process may also
die by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from difflm.telemetry import JSON

Account: TypeAlias = dict[str, JSON]
DIED = "its process died every time (killed, out of memory or crashed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A range of indices of a shard, start <= index < stop."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a process is to do next: work on ``piece``, hand in the ``accounts`` of the shard, or end the map with an
    ``error`` (the name of its class), its ``reason`` and the ``attempts`` it took.
    """

    action: Literal["work", "finished", "stop"]
    piece: Piece | None = None
    accounts: tuple[Account, ...] = ()
    error: str = "ClusterError"
    reason: str = ""
    attempts: int = 0


@dataclass(slots=True, kw_only=True)
class _Shard:
    whole: Piece
    left: list[Piece]
    failures: dict[Piece, int] = field(default_factory=dict)
    running: Piece | None = None
    accounts: list[Account] = field(default_factory=list)
    loads: int = 0
    in_a_row: int = 0


class ShardLedger:
    """Hands out pieces. One process at a time works on a shard: a call for a shard with a piece under way says that the
    process it was given to is gone.

    ``attempts`` is how often a piece that raises is tried, ``max_failures`` how often a process may die on a shard and
    again on a single index, ``max_given_up`` how many indices of the map may be given up (with 0 nothing is cut).
    """

    def __init__(self, *, attempts: int, max_failures: int, max_given_up: int) -> None:
        self._attempts = attempts
        self._max_failures = max_failures
        self._max_given_up = max_given_up
        self._shards: dict[str, _Shard] = {}
        self._given_up = 0

    def load(self, shard_id: str, start: int, stop: int) -> Order | None:
        """Announce that a process builds its worker before it takes this shard; an order to stop when that has killed
        it too often, else None.
        """
        shard = self._shard(shard_id, start, stop)
        shard.loads += 1
        if shard.loads > self._max_failures + 1:
            reason = f"while it was loading, {DIED}; use fewer actors or more memory"
            return Order(action="stop", reason=reason, attempts=shard.loads - 1)
        return None

    def take(self, shard_id: str, start: int, stop: int) -> Order:
        """Hand out the next piece of a shard, its accounts when none is left, or an order to stop."""
        shard = self._shard(shard_id, start, stop)
        shard.loads = 0
        if shard.running is not None:
            stopped = self._fail(shard, "ClusterError", DIED, more_tries=self._tries_after_death(shard, shard.running))
            if stopped is not None:
                return stopped
        if not shard.left:
            return Order(action="finished", accounts=tuple(shard.accounts))
        shard.running = shard.left.pop()
        return Order(action="work", piece=shard.running)

    def finish(self, shard_id: str, account: Account) -> None:
        """Note that the piece under way is done."""
        shard = self._shards[shard_id]
        if shard.running is not None:
            shard.accounts.append(account)
        shard.running, shard.in_a_row = None, 0

    def fail(self, shard_id: str, error: str, reason: str) -> Order | None:
        """Note that the piece under way raised an error of this class; return an order to stop, or None to go on."""
        return self._fail(self._shards[shard_id], error, reason, more_tries=self._attempts - 1)

    def _shard(self, shard_id: str, start: int, stop: int) -> _Shard:
        whole = Piece(start=start, stop=stop)
        return self._shards.setdefault(shard_id, _Shard(whole=whole, left=[whole]))

    def _tries_after_death(self, shard: _Shard, piece: Piece) -> int:
        return self._max_failures if piece == shard.whole or piece.stop - piece.start == 1 else 0

    def _fail(self, shard: _Shard, error: str, reason: str, *, more_tries: int) -> Order | None:
        """Give the piece under way back, cut it, or give it up."""
        piece, shard.running = shard.running, None
        if piece is None:
            return None
        shard.failures[piece] = failures = shard.failures.get(piece, 0) + 1
        shard.in_a_row += 1
        if failures <= more_tries:
            shard.left.append(piece)
            return None
        if self._max_given_up == 0 or shard.in_a_row > self._most_in_a_row(shard):
            return Order(action="stop", error=error, reason=reason, attempts=failures)
        if piece.stop - piece.start > 1:
            middle = (piece.start + piece.stop) // 2
            shard.left += [Piece(start=middle, stop=piece.stop), Piece(start=piece.start, stop=middle)]
            return None
        self._given_up += 1
        if self._given_up > self._max_given_up:
            reason = f"{reason}, on more than {self._max_given_up} indices (pool.max_given_up)"
            return Order(action="stop", error=error, reason=reason, attempts=failures)
        said = reason if reason == DIED else f"{error}: {reason}"
        shard.accounts.append({"start": piece.start, "stop": piece.stop, "given_up": said})
        return None

    def _most_in_a_row(self, shard: _Shard) -> int:
        """Count the failures without anything done in between that cutting down to a few bad indices can need."""
        return (shard.whole.stop - shard.whole.start).bit_length() * self._attempts + 4 * (self._max_failures + 1)
