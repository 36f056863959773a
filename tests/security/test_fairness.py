"""One key against all others: places, rows, turns and jobs are shared, and what is refused costs nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.serving.backend import VERSION_DIGITS
from difflm.serving.fair_queue import FairQueue, RowRequest
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.jobs import jobs as jobs_module
from difflm.serving.limits import Admission, KeyConfig, KeyRing, TokenBucket, Traffic, add_key, hash_key, read_keys
from difflm.serving.problems import Problem
from difflm.serving.shares import Shares, Turns

NOTHING = hashlib.sha256().hexdigest()[:VERSION_DIGITS]  # the version of a folder without files
REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = ("greedy", "modest", "quiet")


def test_work_that_is_no_row_goes_round_the_owners() -> None:
    """Sixty requests to be read, or records to be encoded, stood before the one of another key."""
    done: list[str] = []

    async def act() -> None:
        turns, opened = Turns(2), asyncio.Event()

        async def work(owner: str) -> None:
            await opened.wait()
            done.append(owner)

        alice = [asyncio.create_task(turns.run("alice", lambda: work("alice"))) for _ in range(60)]
        await asyncio.sleep(0)
        bob = asyncio.create_task(turns.run("bob", lambda: work("bob")))
        gone = asyncio.create_task(turns.thread("carol", lambda: done.append("carol")))
        await asyncio.sleep(0)
        gone.cancel()
        opened.set()
        await asyncio.gather(*alice, bob)
        assert await turns.thread("bob", lambda: 7) == 7

    asyncio.run(act())
    assert done.index("bob") <= 4
    assert done.count("alice") == 60
    assert "carol" not in done


def test_a_place_is_free_again_only_when_its_work_has_ended() -> None:
    """Requests that were given up left their threads behind, and took further ones."""

    async def act() -> int:
        turns, opened, most, now = Turns(2), asyncio.Event(), 0, 0

        async def work() -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await opened.wait()
            now -= 1

        for _ in range(20):
            task = asyncio.create_task(turns.run("alice", work))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
        last = asyncio.create_task(turns.run("alice", work))
        await asyncio.sleep(0)
        opened.set()
        await last
        return most

    assert asyncio.run(act()) == 2


def test_requests_of_one_key_leave_places_for_the_others() -> None:
    traffic = Traffic(most=24, owners=KEYS)
    with ExitStack() as stack:
        taken = 0
        with pytest.raises(Problem, match="of this key"):
            while True:
                stack.enter_context(traffic.one("greedy"))
                taken += 1
        assert taken == 12
        for owner in ("modest", "quiet"):
            for _ in range(4):
                stack.enter_context(traffic.one(owner))


def test_rows_of_one_key_leave_room_for_the_others() -> None:
    admission = Admission(1000, told=lambda _: None, owners=KEYS)
    with ExitStack() as stack:
        with pytest.raises(Problem, match="which keys share"):
            while True:
                stack.enter_context(admission.hold(100, "greedy"))
        stack.enter_context(admission.hold(100, "modest"))
        stack.enter_context(admission.hold(100, "quiet"))


def test_who_is_alone_may_have_all_of_it() -> None:
    assert Shares(100, KEYS).take("greedy", 100)
    assert Shares(100).take("anybody", 100)
    alone = Shares(10)
    assert all(alone.take("anybody", 1) for _ in range(10))
    assert not alone.take("anybody", 1)


@given(
    most=st.integers(1, 50),
    owners=st.integers(2, 5),
    asked=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 10)), max_size=60),
)
def test_nothing_is_given_twice_and_small_wishes_within_a_share_are_met(
    most: int, owners: int, asked: list[tuple[int, int]]
) -> None:
    names = [f"k{place}" for place in range(owners)]
    shares = Shares(most, names)
    whole = False  # whether somebody took more than half while nothing was held
    for place, amount in asked:
        owner = names[place % owners]
        fits = shares.fits(owner, amount)
        alone = shares.total == 0
        if not whole and shares.held(owner) + amount <= most // (2 * owners):
            assert fits
        assert shares.take(owner, amount) is fits
        whole = whole or (fits and alone and amount > most // 2)
        assert shares.total <= most
    assert shares.total == sum(map(shares.held, names))


@dataclass(frozen=True)
class Attempts:
    attempts: int = 1


class Drawing:
    config, tries = Attempts(), 1


def request(owner: str, rows: int) -> RowRequest:
    drawing: Any = Drawing()
    made = RowRequest(synthesizer=drawing, start=0, stop=rows, seed=0, deliver=lambda _: None, owner=owner)
    made.first_at = 0.0
    return made


def test_draws_go_round_the_keys_not_round_their_requests() -> None:
    queue = FairQueue(max_rows=10_000, opening=8)
    for _ in range(50):
        queue.submit(request("greedy", 100))
    queue.submit(request("modest", 10))
    drawn = [ticket.request.owner for ticket in queue.take(20, wait=False)]
    assert drawn.count("modest") == 10


def test_a_place_is_free_when_its_rows_are_handed_out() -> None:
    queue = FairQueue(max_rows=100, opening=8)
    long = request("a", 100)
    queue.submit(long)
    queue.handed_out(long, 60)
    queue.submit(request("b", 60))
    assert queue.held_rows == 100
    queue.release(long)
    queue.handed_out(long, 40)
    assert queue.held_rows == 60


def test_what_was_refused_is_not_paid_for() -> None:
    bucket = TokenBucket(100, lambda: 0.0)
    assert bucket.take(10_000) == 0.0, "an amount that never fits may be taken from a full one"
    assert bucket.take(1) > 5_000
    bucket.put_back(10_000)
    assert bucket.take(1) == 0.0
    ring = KeyRing([KeyConfig(name="a", sha256="0" * 64, rows_per_minute=100)], lambda: 0.0)
    assert ring.spend("a", "rows", 100) == 0.0
    ring.refund("a", "rows", 100)
    ring.refund("nobody", "rows", 100)
    assert ring.spend("a", "rows", 100) == 0.0


PROGRAM = """
import pathlib, sys
given = sys.argv[1:]
out = pathlib.Path(given[given.index("--out") + 1])
with open(sys.argv[0] + ".log", "a") as log:
    log.write(given[given.index("--rows") + 1] + "\\n")
if given[given.index("--rows") + 1] == "1":
    while not out.parent.parent.joinpath("go").exists():
        pass
out.write_text("")
"""


def spec(owner: str, n: int) -> JobSpec:
    return JobSpec(
        owner=owner, bundle="b", version=NOTHING, folder="/b", n=n, seed=7, where=None, sampling="{}", format="jsonl"
    )


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(jobs_module, "COMMAND", (sys.executable, "-S", str(path)))
    return path


async def finished(jobs: Jobs, *names: tuple[str, str]) -> None:
    async with asyncio.timeout(60):
        while any(jobs.view(name, owner).state in ("queued", "running") for name, owner in names):
            await asyncio.sleep(0.01)


def test_jobs_go_round_the_keys_and_one_key_does_not_take_all_room(tmp_path: Path, program: Path) -> None:
    async def act() -> list[str]:
        jobs = Jobs(tmp_path / "jobs", most=12, owners=KEYS)
        await jobs.start()
        names = [("greedy", jobs.submit(spec("greedy", 1)).id)]
        names += [("greedy", jobs.submit(spec("greedy", n)).id) for n in (2, 3, 4, 5, 6)]
        with pytest.raises(Problem, match="of this key"):
            jobs.submit(spec("greedy", 7))
        names.append(("modest", jobs.submit(spec("modest", 100)).id))
        (tmp_path / "jobs" / "go").touch()
        await finished(jobs, *[(name, owner) for owner, name in names])
        await jobs.stop()
        return Path(f"{program}.log").read_text().split()

    order = asyncio.run(act())
    assert set(order) == {"1", "2", "3", "4", "5", "6", "100"}
    assert order.index("100") <= 2


def test_two_servers_on_one_folder_run_a_job_once(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_AGAIN_S", 0.05)

    async def act() -> None:
        first, second = (Jobs(tmp_path / "jobs", most=5) for _ in range(2))
        await first.start()
        name = first.submit(spec("a", 1)).id
        other = first.submit(spec("a", 2)).id
        await second.start()
        while not Path(f"{program}.log").exists():
            await asyncio.sleep(0.01)
        while second.view(other, "a").state != "finished":  # it is not held up by the one that it cannot have
            await asyncio.sleep(0.01)
        (tmp_path / "jobs" / "go").touch()
        await finished(first, (name, "a"), (other, "a"))
        await finished(second, (name, "a"), (other, "a"))
        await first.stop()
        await second.stop()

    asyncio.run(asyncio.wait_for(act(), 60))
    assert sorted(Path(f"{program}.log").read_text().split()) == ["1", "2"]


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path, start = tmp_path / "keys.yaml", threading.Barrier(12)

    def make(number: int) -> str:
        start.wait()
        return add_key(path, f"k{number}", requests_per_minute=None, rows_per_minute=None)

    with ThreadPoolExecutor(12) as pool:
        made = [*pool.map(make, range(12))]
    assert {key.sha256 for key in read_keys(path)} == set(map(hash_key, made))


def test_keys_made_by_several_processes_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    code = (
        "import sys; from pathlib import Path; from difflm.serving.limits import add_key\n"
        "for n in range(10): add_key(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', requests_per_minute=None, "
        "rows_per_minute=None)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)], env=_environment())
        for number in range(2)
    ]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert len(read_keys(path)) == 20


def _environment() -> dict[str, str]:
    roots = [str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
