"""The fair queue: which request the next free places of a running batch go to.

Keys take turns, one draw each, and so do the requests of a key: one row is not behind ten thousand, and nobody gets
more by asking more often. Until a request has its first row it draws its first `opening` rows only: a large one begins
with few, whose rounds are short, and its first row comes soon.

One lock guards it all: requests come and go on the server's side, draws are taken and finished by the engine's thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from difflm.errors import OverloadError
from difflm.records.schema import Record
from difflm.synthesis.decoding.requests import Address
from difflm.synthesis.draws import Draw
from difflm.synthesis.synthesizer import Synthesizer

# A chunk on its way to the client takes time from the engine, so finished rows wait for others; not long while a
# request is young, when somebody watches for its first rows.
CHUNK_ROWS = 256
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 0.5
WAIT_SHARE = 0.1  # of the time since the request's first rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows of a request in the order of their indices, the indices in between that have none, and whether it ends.

    `failure` says why a request ends before its last row: its deadline has passed, or the engine broke.
    """

    rows: list[tuple[int, Record]]
    given_up: list[int]
    done: bool = False
    failure: Literal["deadline", "engine"] | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class RowRequest:
    """Records of indices `start` to `stop` - 1, and what became of them so far.

    `deadline` is a time of the queue's clock. `deliver` is called in the engine's thread and must not wait.
    """

    synthesizer: Synthesizer
    start: int
    stop: int
    seed: int
    deliver: Callable[[Chunk], None]
    owner: str = ""
    temperature: float | None = None
    deadline: float | None = None
    fresh: int = field(init=False)
    again: deque[Address] = field(init=False, default_factory=deque)
    resolved: dict[int, Record | None] = field(init=False, default_factory=dict)
    delivered: int = field(init=False)
    first_at: float | None = field(init=False, default=None)
    delivered_at: float = field(init=False, default=0.0)
    ended: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.fresh = self.delivered = self.start

    @property
    def begun(self) -> bool:
        """Whether its first row was handed out; rows behind it may be finished before."""
        return self.first_at is not None

    @property
    def waiting(self) -> int:
        """Draws that could begin now."""
        return 0 if self.ended else self.stop - self.fresh + len(self.again)

    @property
    def unresolved(self) -> int:
        return 0 if self.ended else self.stop - self.delivered - len(self.resolved)

    def waited(self, now: float) -> bool:
        """Tell whether what is finished has waited long enough; the first rows do not wait."""
        if self.first_at is None:
            return True
        wait_s = WAIT_SHARE * (now - self.first_at)
        return now - self.delivered_at >= min(max(wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S)

    def next_draw(self) -> Address:
        if self.again:
            return self.again.popleft()
        self.fresh += 1
        return Address(index=self.fresh - 1, attempt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A draw under way: the number that the batch knows it by, whose it is, and its address there."""

    number: int
    request: RowRequest
    address: Address


class FairQueue:
    """Requests under way, at most `max_rows` rows of them, and their draws."""

    def __init__(self, *, max_rows: int, opening: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_rows, self.opening, self._clock = max_rows, opening, clock
        self._changed = threading.Condition()
        self._lines: dict[str, deque[RowRequest]] = {}  # by owner, the one whose turn it is first
        self._held: dict[int, int] = {}  # rows by request that are not handed out
        self._tickets: dict[int, Ticket] = {}
        self._numbers = count()
        self._closed = False

    def submit(self, request: RowRequest) -> None:
        """Let a request take part.

        Raises:
            OverloadError: its rows do not fit beside those that are held.
        """
        rows = request.stop - request.start
        with self._changed:
            held = sum(self._held.values())
            if self._closed or held + rows > self.max_rows:
                raise OverloadError(f"{held} rows are under way and {rows} more would exceed {self.max_rows}")
            self._held[id(request)] = rows
            self._lines.setdefault(request.owner, deque()).append(request)
            self._changed.notify()

    def release(self, request: RowRequest) -> None:
        """Forget a request: nobody waits for what it still lacks, and what it had is taken away."""
        with self._changed:
            request.ended = True
            self._held.pop(id(request), None)
            self._leave(request)

    def handed_out(self, request: RowRequest, rows: int) -> None:
        """Free the places of rows that the client has."""
        with self._changed:
            if id(request) in self._held:
                self._held[id(request)] -= rows

    def take(self, most: int, *, wait: bool) -> list[Ticket]:
        """Take the next draws by turns, until they have `most` candidates or more; none once the queue is closed, or
        when none waits now.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._ready() > 0)
            taken, candidates = list[Ticket](), 0
            while candidates < most and not self._closed and (request := self._next()) is not None:
                ticket = Ticket(number=next(self._numbers), request=request, address=request.next_draw())
                self._tickets[ticket.number] = ticket
                taken.append(ticket)
                candidates += request.synthesizer.tries
            return taken

    def ready(self) -> int:
        """Count the candidates of the draws that `take` would give now."""
        with self._changed:
            return self._ready()

    @property
    def newcomers(self) -> bool:
        """Whether a request lacks its first row."""
        with self._changed:
            return any(not request.begun for request in self._requests())

    def ticket(self, number: int) -> Ticket:
        """Return the draw under way of this number."""
        return self._tickets[number]

    def gone(self, number: int) -> bool:
        """Tell whether nobody waits for a draw any more; it is forgotten then."""
        with self._changed:
            if not self._tickets[number].request.ended:
                return False
            del self._tickets[number]
            return True

    def finish(self, number: int, draw: Draw) -> None:
        """Take what became of a draw; one without a record is tried again until its attempts are spent."""
        with self._changed:
            ticket = self._tickets.pop(number)
            request, address = ticket.request, ticket.address
            if draw.record is None and address.attempt + 1 < request.synthesizer.attempts:
                request.again.append(Address(index=address.index, attempt=address.attempt + 1))
            else:
                request.resolved[address.index] = draw.record

    def deliver(self) -> None:
        """Hand out what is finished, and end requests whose deadline has passed."""
        now = self._clock()
        with self._changed:
            for request in self._requests():
                chunk = self._chunk(request, now)
                if chunk is not None:
                    self._hand_out(request, chunk, now)

    def fail(self, request: RowRequest) -> None:
        """End a request that the engine cannot serve."""
        with self._changed:
            if not request.ended:
                self._hand_out(request, Chunk(rows=[], given_up=[], failure="engine"), self._clock())

    def close(self) -> None:
        """End every request and let `take` return."""
        with self._changed:
            self._closed = True
            for request in self._requests():
                self._hand_out(request, Chunk(rows=[], given_up=[], failure="engine"), self._clock())
            self._changed.notify_all()

    @property
    def held_rows(self) -> int:
        """Rows of all requests that are not handed out."""
        with self._changed:
            return sum(self._held.values())

    @property
    def unfinished_rows(self) -> int:
        """Rows that are still to be made."""
        with self._changed:
            return sum(request.unresolved for request in self._requests())

    @property
    def requests(self) -> int:
        """Requests that are not released."""
        with self._changed:
            return len(self._held)

    def _room(self, request: RowRequest) -> int:
        opened = request.fresh - request.start
        most = request.waiting if request.begun else max(0, self.opening - opened) + len(request.again)
        return min(request.waiting, most)

    def _ready(self) -> int:
        return sum(self._room(request) * request.synthesizer.tries for request in self._requests())

    def _requests(self) -> list[RowRequest]:
        return [request for line in self._lines.values() for request in line]

    def _leave(self, request: RowRequest) -> None:
        line = self._lines.get(request.owner)
        if line is not None and request in line:
            line.remove(request)
            if not line:
                del self._lines[request.owner]

    def _next(self) -> RowRequest | None:
        """Pick the request whose turn it is; it goes to the end of its owner's line, the owner behind the others."""
        for owner, line in [*self._lines.items()]:
            for _ in range(len(line)):
                request = line[0]
                line.rotate(-1)
                if self._room(request) > 0:
                    self._lines[owner] = self._lines.pop(owner)
                    return request
        return None

    def _chunk(self, request: RowRequest, now: float) -> Chunk | None:
        """Collect what can be handed out in order; None while it is too little to bother."""
        ready = 0
        while request.delivered + ready in request.resolved:
            ready += 1
        done = request.delivered + ready == request.stop
        late = request.deadline is not None and now >= request.deadline and not done
        if not (done or late or (ready and (ready >= CHUNK_ROWS or request.waited(now)))):
            return None
        rows: list[tuple[int, Record]] = []
        given_up: list[int] = []
        for index in range(request.delivered, request.delivered + ready):
            record = request.resolved.pop(index)
            if record is None:
                given_up.append(index)
            else:
                rows.append((index, record))
        request.delivered += ready
        return Chunk(rows=rows, given_up=given_up, done=done, failure="deadline" if late else None)

    def _hand_out(self, request: RowRequest, chunk: Chunk, now: float) -> None:
        if request.first_at is None:
            request.first_at = now
        request.delivered_at = now
        if chunk.done or chunk.failure is not None:
            request.ended = True
            self._leave(request)
        request.deliver(chunk)
