"""The engine loop: one thread that decodes the draws of all requests in one batch, which they join and leave.

A draw is the one that the offline job makes of the same seed, index and attempt: its noise and its uniform numbers are
its own, and `decoding` says how far its neighbours in the batch can matter (in float32 on a CPU: not at all).

Turns of prompting and decoding: when the few draws that wait get their latents, and when they wait for others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import joined_prompts
from difflm.serving.fair_queue import FairQueue, Ticket
from difflm.serving.mixed_constraint import MixedConstraint
from difflm.synthesis.decoding.engines import BuiltinEngine
from difflm.synthesis.decoding.loop import SlotTable
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.decoding.slot_model import SlotModel, slot_model
from difflm.synthesis.grammar.constraint import Constraint
from difflm.synthesis.synthesizer import Synthesizer

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
        """Time the making of prompts, within the block."""
        self._began = self._clock()
        try:
            yield
        finally:
            self._ended = self._clock()

    def due(self, waiting: int) -> bool:
        """Tell whether prompts are to be made for so many draws while records are under way."""
        return waiting >= GATHERED or self._clock() - self._ended >= self._ended - self._began


READ_AHEAD = 2  # prompts are made for all slots at a time, or for such a part of them while someone lacks a first row

_log = logging.getLogger(__name__)


class EngineLoop:
    """Serves a queue with the slots of one bundle until the queue is closed."""

    def __init__(self, plain: Synthesizer, queue: FairQueue) -> None:
        """`plain` draws any record of the bundle; the synthesizers of requests have its bundle and configuration."""
        self._queue, self._plain = queue, plain
        self._slots = plain.config.batch_size
        self._turns = PromptTurns()
        self._parts: dict[int, list[Decoded]] = {}  # candidates of draws that others are still awaited of
        self._constraint = MixedConstraint(whole=engine_of(plain).constraint, lookup=self._lookup)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are still served."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end, after the queue was closed."""
        self._thread.join()

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        """Take the prompts of the draws whose turn it is (a `PromptSource`)."""
        if not idle and not self._turns.due(self._queue.ready()):
            return None
        while tickets := self._queue.take(self._share(most), wait=idle):
            with self._turns.prompting():
                prompts = self._prompts(tickets)
            if prompts is not None:
                return prompts
        return None

    def _share(self, most: int) -> int:
        """Return how many prompts to make at a time.

        Many cost less each, but whoever waits for a first row waits for all of them.
        """
        return max(1, most // READ_AHEAD) if self._queue.newcomers else most

    def _run(self) -> None:
        try:
            with torch.no_grad():
                self._serve()
        except Exception:
            _log.exception("the engine broke; its replica is replaced")
        finally:
            self._queue.close()

    def _serve(self) -> None:
        decoder = self._plain.bundle.autoencoder.decoder
        model = slot_model(decoder, self._constraint.tokens_A)
        while (prompts := self.take(self._slots, idle=True)) is not None:
            self._batch(model, prompts, decoder)

    def _batch(self, model: SlotModel, prompts: Prompts, decoder: FrozenDecoder) -> None:
        """Decode until no record is under way and none waits."""
        table = SlotTable(
            model,
            self._constraint,
            prompts,
            self._plain.config.truncation(),
            decoder=decoder,
            corrections=engine_of(self._plain).corrections,
        )
        while True:
            lacking = min(self._queue.ready() - table.room, self._slots - len(table.addresses))
            if lacking > 0:
                table.grow(lacking)
            self._finish(table.refill(self, self._slots))
            if not table.busy:
                return
            table.drop_empty()
            self._finish(table.advance())
            gone = {number for number in table.numbers if self._queue.gone(number)}
            table.abandon(gone)
            for number in gone:
                self._parts.pop(number, None)

    def _finish(self, ended: list[Decoded]) -> None:
        whole: dict[int, list[tuple[Ticket, list[Decoded]]]] = {}
        for item in ended:
            number = item.address.index
            ticket = self._queue.ticket(number)
            group = self._parts.setdefault(number, [])
            group.append(replace(item, address=replace(ticket.address, candidate=item.address.candidate)))
            if len(group) == ticket.request.synthesizer.tries:
                whole.setdefault(id(ticket.request.synthesizer), []).append((ticket, self._parts.pop(number)))
        for groups in whole.values():
            self._choose([ticket for ticket, _ in groups], [group for _, group in groups])
        self._queue.deliver()

    def _choose(self, tickets: list[Ticket], groups: list[list[Decoded]]) -> None:
        """Read one candidate of every draw; the draws are of one plan."""
        candidates = tickets[0].request.synthesizer.candidates
        try:
            if candidates is None:
                items = [item for group in groups for item in group]
            else:
                seeds = [ticket.request.seed for ticket in tickets]
                items = candidates.chosen(groups, seeds, [ticket.request.temperature for ticket in tickets])
        except Exception:
            _log.exception("the candidates of a request could not be compared")
            self._fail(tickets)
            return
        for ticket, item in zip(tickets, items, strict=True):
            try:
                draw = ticket.request.synthesizer.parse(item)
            except Exception:
                _log.exception("a record of a request could not be read")
                self._fail([ticket])
            else:
                self._queue.finish(ticket.number, draw)

    def _fail(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self._queue.fail(ticket.request)
            self._queue.gone(ticket.number)

    def _lookup(self, number: int) -> tuple[Constraint, int]:
        ticket = self._queue.ticket(number)
        return engine_of(ticket.request.synthesizer).constraint, ticket.address.index

    def _prompts(self, tickets: list[Ticket]) -> Prompts | None:
        """Make the prompts of draws, those of one plan together; a plan that breaks costs its own requests only."""
        groups: dict[int, list[Ticket]] = {}
        for ticket in tickets:
            groups.setdefault(id(ticket.request.synthesizer), []).append(ticket)
        made = [(group, prompts) for group in groups.values() if (prompts := self._made(group)) is not None]
        if not made:
            return None
        numbers = [(group[0].request.synthesizer.tries, ticket) for group, _ in made for ticket in group]
        temperatures = [ticket.request.temperature for tries, ticket in numbers for _ in range(tries)]
        standard, device = self._plain.config.temperature, made[0][1].uniforms_NT.device
        corrected = [
            engine_of(group[0].request.synthesizer).corrections is not None
            for group, prompts in made
            for _ in prompts.addresses
        ]
        return Prompts(
            addresses=[
                Address(index=ticket.number, attempt=0, candidate=place)
                for tries, ticket in numbers
                for place in range(tries)
            ],
            prompt=joined_prompts([prompts.prompt for _, prompts in made]),
            uniforms_NT=torch.cat([prompts.uniforms_NT for _, prompts in made]),
            temperatures_N=torch.tensor(
                [standard if value is None else value for value in temperatures],
                dtype=torch.float64,
                device=device,
            ),
            corrected_N=torch.tensor(corrected, device=device),
            scored=any(prompts.scored for _, prompts in made),
        )

    def _made(self, tickets: list[Ticket]) -> Prompts | None:
        addresses = [ticket.address for ticket in tickets]
        try:
            return tickets[0].request.synthesizer.seeded_prompts(addresses, [each.request.seed for each in tickets])
        except Exception:
            _log.exception("the latents of a request could not be drawn")
            self._fail(tickets)
            return None


def engine_of(synthesizer: Synthesizer) -> BuiltinEngine:
    """Return a synthesizer's engine, which has to be the builtin one."""
    assert isinstance(synthesizer.engine, BuiltinEngine)
    return synthesizer.engine
