"""The fair queue: turns, shares, deadlines and what is handed out when."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.errors import OverloadError
from difflm.serving.fair_queue import CHUNK_ROWS, Chunk, FairQueue, RowRequest
from difflm.synthesis.draws import Draw

SYNTHESIZER: Any = SimpleNamespace(attempts=3, tries=1)


@dataclass
class Desk:
    """A queue with a clock that is set by hand."""

    opening: int = 4
    max_rows: int = 100_000
    now: float = 0.0
    got: dict[int, list[Chunk]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = FairQueue(max_rows=self.max_rows, opening=self.opening, clock=lambda: self.now)

    def ask(self, rows: int, *, start: int = 0, deadline: float | None = None) -> RowRequest:
        chunks: list[Chunk] = []
        request = RowRequest(
            synthesizer=SYNTHESIZER, start=start, stop=start + rows, seed=0, deliver=chunks.append, deadline=deadline
        )
        self.queue.submit(request)
        self.got[id(request)] = chunks
        return request

    def draw(self, most: int, *, valid: bool = True) -> list[RowRequest]:
        """Draw so many at once and finish them all; whose they were."""
        tickets = self.queue.take(most, wait=False)
        for ticket in tickets:
            record = {"i": ticket.address.index} if valid else None
            made = Draw(index=ticket.address.index, attempt=ticket.address.attempt, record=record)
            self.queue.finish(ticket.number, made)
        return [ticket.request for ticket in tickets]

    def rows(self, request: RowRequest) -> list[int]:
        return [index for chunk in self.got[id(request)] for index, _ in chunk.rows]


def test_one_row_has_its_turn_next_beside_ten_thousand() -> None:
    desk = Desk()
    large = desk.ask(10_000)
    desk.draw(4)
    desk.queue.deliver()
    desk.draw(500)
    small = desk.ask(1)
    assert desk.draw(2) == [large, small] or desk.draw(2) == [small, large]


def test_requests_share_places_equally() -> None:
    desk = Desk(opening=1000)
    requests = [desk.ask(1000), desk.ask(1000), desk.ask(30)]
    drawn = desk.draw(90)
    assert [drawn.count(request) for request in requests] == [30, 30, 30]
    drawn = desk.draw(100)
    assert [drawn.count(request) for request in requests] == [50, 50, 0]


def test_a_request_begins_with_few_draws_until_its_first_row_is_there() -> None:
    desk = Desk(opening=4)
    desk.ask(100)
    tickets = desk.queue.take(50, wait=False)
    assert len(tickets) == 4
    assert desk.queue.take(50, wait=False) == []
    desk.queue.finish(tickets[2].number, Draw(index=2, attempt=0, record={}))
    desk.queue.deliver()
    assert desk.queue.take(50, wait=False) == []  # a row behind the first cannot be handed out
    desk.queue.finish(tickets[0].number, Draw(index=0, attempt=0, record=None, reason="keys"))
    (again,) = desk.queue.take(50, wait=False)
    desk.queue.finish(again.number, Draw(index=0, attempt=1, record={}))
    desk.queue.deliver()
    assert len(desk.queue.take(50, wait=False)) == 50


def test_rows_are_handed_out_in_the_order_of_their_indices() -> None:
    desk = Desk(opening=8)
    request = desk.ask(4, start=7)
    tickets = desk.queue.take(8, wait=False)
    for place in (3, 1, 0, 2):
        ticket = tickets[place]
        desk.queue.finish(ticket.number, Draw(index=ticket.address.index, attempt=0, record={}))
        desk.queue.deliver()
    chunks = desk.got[id(request)]
    assert desk.rows(request) == [7, 8, 9, 10]
    assert [index for index, _ in chunks[0].rows] == [7, 8]
    assert chunks[-1].done
    assert not chunks[0].done


def test_the_longer_a_request_runs_the_longer_its_rows_wait_for_others() -> None:
    desk = Desk(opening=1)
    request = desk.ask(500)

    def chunks_after(seconds: float) -> int:
        desk.now += seconds
        desk.draw(1)
        desk.queue.deliver()
        return len(desk.got[id(request)])

    assert chunks_after(0.0) == 1  # a first row waits for nothing
    assert [chunks_after(0.04), chunks_after(0.02)] == [1, 2]
    chunks_after(60.0)
    assert [chunks_after(0.4), chunks_after(0.2)] == [3, 4]
    desk.draw(CHUNK_ROWS)
    desk.queue.deliver()
    assert len(desk.got[id(request)][-1].rows) == CHUNK_ROWS


def test_a_rejected_draw_is_tried_again_and_given_up_in_the_end() -> None:
    desk = Desk()
    request = desk.ask(1)
    for attempt in range(3):
        (ticket,) = desk.queue.take(5, wait=False)
        assert ticket.address.attempt == attempt
        desk.queue.finish(ticket.number, Draw(index=0, attempt=attempt, record=None, reason="keys"))
    desk.queue.deliver()
    (chunk,) = desk.got[id(request)]
    assert (chunk.rows, chunk.given_up, chunk.done) == ([], [0], True)


def test_a_deadline_ends_a_request_with_what_is_there() -> None:
    desk = Desk(opening=4)
    request = desk.ask(10, deadline=5.0)
    desk.draw(2)
    desk.now = 5.0
    desk.queue.deliver()
    (chunk,) = desk.got[id(request)]
    assert (len(chunk.rows), chunk.done, chunk.failure) == (2, False, "deadline")
    assert desk.draw(10) == []


def test_what_nobody_waits_for_is_not_drawn_and_its_places_are_free() -> None:
    desk = Desk(opening=8)
    request = desk.ask(20)
    under_way = desk.queue.take(8, wait=False)
    desk.queue.release(request)
    assert desk.queue.take(8, wait=False) == []
    assert all(desk.queue.gone(ticket.number) for ticket in under_way)
    assert desk.queue.held_rows == desk.queue.unfinished_rows == 0


def test_more_rows_than_there_is_room_for_are_refused_until_some_are_released() -> None:
    desk = Desk(max_rows=10)
    first = desk.ask(8)
    with pytest.raises(OverloadError, match="8 rows are under way and 3 more would exceed 10"):
        desk.ask(3)
    desk.ask(2)
    desk.queue.release(first)
    desk.ask(3)


def test_rows_are_held_until_they_are_released_not_until_they_are_drawn() -> None:
    desk = Desk(max_rows=10, opening=10)
    request = desk.ask(10)
    desk.draw(10)
    desk.queue.deliver()
    assert desk.got[id(request)][-1].done
    assert desk.queue.unfinished_rows == 0
    with pytest.raises(OverloadError):
        desk.ask(1)


def test_closing_ends_every_request() -> None:
    desk = Desk()
    request = desk.ask(3)
    desk.queue.close()
    assert desk.got[id(request)][-1].failure == "engine"
    assert desk.queue.take(3, wait=True) == []
    with pytest.raises(OverloadError):
        desk.ask(1)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=20),
)
def test_every_index_is_handed_out_once_and_in_order(sizes: list[int], steps: list[tuple[int, bool]]) -> None:
    desk = Desk(opening=3)
    requests = [desk.ask(size, start=10) for size in sizes]
    for most, valid in [*steps, *[(50, True)] * 12]:
        desk.now += 1.0
        desk.draw(most, valid=valid)
        desk.queue.deliver()
    for request, size in zip(requests, sizes, strict=True):
        chunks = desk.got[id(request)]
        found = desk.rows(request) + [index for chunk in chunks for index in chunk.given_up]
        assert sorted(found) == list(range(10, 10 + size))
        assert desk.rows(request) == sorted(desk.rows(request))
        assert [chunk.done for chunk in chunks].count(True) == 1
        assert chunks[-1].done
