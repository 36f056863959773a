"""Jobs: run one by one by the command line, seen by their owners alone, gone on with after a restart."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from difflm.errors import StorageError
from difflm.lifetime import end_process
from difflm.serving.answers import JobView
from difflm.serving.backend import VERSION_DIGITS
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.jobs import folder as folder_module
from difflm.serving.jobs import jobs as jobs_module
from difflm.serving.problems import Problem

NOTHING = hashlib.sha256().hexdigest()[:VERSION_DIGITS]  # the version of a folder without files
PROGRAM = """
import json, os, pathlib, sys, time
given = sys.argv[1:]
out = pathlib.Path(given[given.index("--out") + 1])
if "--rows 99" in " ".join(given):
    out.with_name("begun").touch()
    time.sleep(600)
if "--rows 13" in " ".join(given):
    print("error: no room left on", out.parent, file=sys.stderr)
    sys.exit(2)
if "--rows 14" in " ".join(given):
    os.kill(os.getpid(), 9)
if "--rows 15" in " ".join(given):
    sys.exit(3)
part = out.with_name("part")
part.write_text(json.dumps(given))
part.rename(out)  # rows appear whole
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs are kept; what runs them writes its own arguments as rows."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr(jobs_module, "COMMAND", (sys.executable, str(program)))
    return tmp_path / "jobs"


def spec(n: int, *, owner: str = "alice", where: str | None = None, constraints: Sequence[str] = ()) -> JobSpec:
    return JobSpec(
        owner=owner, bundle="b", version=NOTHING, folder="/bundles/b", n=n, seed=7, where=where,
        sampling='{"steps": 3}', format="jsonl", constraints=tuple(constraints),
    )  # fmt: skip


def with_jobs(folder: Path, act: Callable[[Jobs], Coroutine[Any, Any, Any]], *, most: int = 5) -> Any:
    async def acted() -> Any:
        jobs = Jobs(folder, most=most, settings=["a.b=c"])
        await jobs.start()
        try:
            return await act(jobs)
        finally:
            await jobs.stop()

    return asyncio.run(acted())


async def ended(jobs: Jobs, name: str) -> JobView:
    async with asyncio.timeout(60):
        while (view := jobs.view(name, "alice")).state in ("queued", "running"):
            await asyncio.sleep(0.01)
    return view


def test_a_job_runs_the_command_line_and_its_rows_can_be_had(folder: Path) -> None:
    async def act(jobs: Jobs) -> tuple[JobView, JobView, Path]:
        begun = jobs.submit(spec(20, where="age > 3", constraints=["start <= end", "-n < 3"]))
        with pytest.raises(Problem) as caught:
            jobs.data(begun.id, "alice")
        assert caught.value.status == 409
        view = await ended(jobs, begun.id)
        return begun, view, jobs.data(begun.id, "alice")

    begun, view, data = with_jobs(folder, act)
    assert (begun.state, view.state, view.rows_done) == ("queued", "finished", 20)
    assert view.data == f"/v1/jobs/{begun.id}/data"
    assert len(begun.id) == 32
    assert json.loads(data.read_text()) == [
        "/bundles/b", "--rows", "20", "--seed", "7", "--out", str(data),
        "--set", 'sampling={"steps": 3}', "--set", "a.b=c", "--where=age > 3", "--constraint=start <= end",
        "--constraint=-n < 3",
    ]  # fmt: skip


@pytest.mark.parametrize("after_a_restart", [False, True])
@pytest.mark.parametrize("damage", ["appended", "cut", "gone", "link", "pipe", "folder", "note"])
def test_rows_that_are_not_those_that_were_written_are_handed_out_to_nobody(
    folder: Path, tmp_path: Path, damage: str, after_a_restart: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the server")

    def harm(data: Path) -> None:
        written = data.read_bytes()
        if damage == "note":
            data.with_name("rows.json").write_text("{")
            return
        data.unlink()
        match damage:
            case "appended":
                data.write_bytes(written + b"more")
            case "cut":
                data.write_bytes(written[:5])
            case "link":
                data.symlink_to(secret)
            case "pipe":
                os.mkfifo(data)
            case "folder":
                data.mkdir()

    async def refused(jobs: Jobs, name: str) -> None:
        view = jobs.view(name, "alice")
        assert view.state == "failed"
        assert view.error is not None
        assert "again" in view.error
        with pytest.raises(Problem, match="the job is failed"):
            jobs.data(name, "alice")

    async def made(jobs: Jobs) -> str:
        name = jobs.submit(spec(20)).id
        await ended(jobs, name)
        harm(jobs.data(name, "alice"))
        if not after_a_restart:
            await refused(jobs, name)
        return name

    name = with_jobs(folder, made)
    if after_a_restart:
        with_jobs(folder, lambda jobs: refused(jobs, name))


def test_what_fails_says_why_without_the_servers_paths(folder: Path) -> None:
    async def act(jobs: Jobs) -> JobView:
        return await ended(jobs, jobs.submit(spec(13)).id)

    view = with_jobs(folder, act)
    assert view.state == "failed"
    assert view.error is not None
    assert view.error.startswith("no room left on")
    assert str(folder) not in view.error


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (14, "its process was killed, as happens where a machine runs out of memory; ask again, or for fewer rows"),
        (15, "its process ended with code 3 and said nothing; ask again"),
    ],
)
def test_what_ends_without_a_word_says_how(folder: Path, n: int, said: str) -> None:
    async def act(jobs: Jobs) -> JobView:
        return await ended(jobs, jobs.submit(spec(n)).id)

    view = with_jobs(folder, act)
    assert (view.state, view.error) == ("failed", said)


def test_what_cannot_be_begun_has_failed_and_those_behind_it_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(jobs: Jobs) -> list[str]:
        works = jobs_module.COMMAND
        monkeypatch.setattr(jobs_module, "COMMAND", (str(folder / "no-such-program"),))
        first = await ended(jobs, jobs.submit(spec(2)).id)
        monkeypatch.setattr(jobs_module, "COMMAND", works)
        return [first.state, (await ended(jobs, jobs.submit(spec(2)).id)).state]

    assert with_jobs(folder, act) == ["failed", "finished"]


def full_disk(path: Path, *_: Any, **__: Any) -> None:
    raise StorageError(f"{path}: no space left for writing")


@pytest.mark.parametrize("works", [False, True], ids=["its program", "its error"])
def test_a_failure_that_cannot_be_written_down_costs_that_job_only_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """A disk that was full once ended the work on jobs for all keys, until the server was started again."""

    async def act(jobs: Jobs) -> list[str]:
        command = jobs_module.COMMAND
        if not works:
            monkeypatch.setattr(jobs_module, "COMMAND", (str(folder / "no-such-program"),))
        with monkeypatch.context() as full:
            full.setattr(jobs_module, "write_bytes_atomic", full_disk)
            failed = jobs.submit(spec(13)).id
            while jobs._unfinished:  # until it is given up for now
                await asyncio.sleep(0.01)
        monkeypatch.setattr(jobs_module, "COMMAND", command)
        states = [jobs.view(failed, "alice").state, (await ended(jobs, jobs.submit(spec(2)).id)).state]
        return [*states, (await ended(jobs, failed)).state]

    monkeypatch.setattr(jobs_module, "_LATER_S", 1.0)
    assert with_jobs(folder, act) == ["queued", "finished", "failed"]


def test_looking_for_jobs_goes_on_after_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, once, and what other servers took on or cancelled was never seen again."""
    monkeypatch.setattr(jobs_module, "_AGAIN_S", 0.02)

    async def act(jobs: Jobs) -> str:
        looked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def broken(*_: Any) -> Any:
            loop.call_soon_threadsafe(looked.set)
            raise OSError(errno.EMFILE, "too many open files")

        with monkeypatch.context() as full:
            full.setattr(jobs._files, "unknown", broken)
            await looked.wait()
        other = Jobs(folder, most=5)
        name = other.submit(spec(2)).id
        async with asyncio.timeout(30):
            while name not in jobs._specs:
                await asyncio.sleep(0.01)
        return (await ended(jobs, name)).state

    assert with_jobs(folder, act) == "finished"


def test_stopping_ends_also_where_an_error_cannot_be_written_down(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(jobs: Jobs) -> None:
        began = folder / jobs.submit(spec(99)).id / "begun"
        while not began.exists():
            await asyncio.sleep(0.01)

        monkeypatch.setattr(jobs_module, "write_bytes_atomic", full_disk)
        end = jobs_module.end_process

        async def ended_badly(process: Any) -> None:
            await end(process)
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(jobs_module, "end_process", ended_badly)

    asyncio.run(asyncio.wait_for(_acted(folder, act), 60))


async def _acted(folder: Path, act: Callable[[Jobs], Coroutine[Any, Any, None]]) -> None:
    jobs = Jobs(folder, most=5)
    await jobs.start()
    await act(jobs)
    await jobs.stop()


def test_a_job_that_cannot_be_written_down_is_refused_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(jobs: Jobs) -> Problem:
        monkeypatch.setattr(folder_module, "write_json_atomic", full_disk)
        with pytest.raises(Problem) as caught:
            jobs.submit(spec(2))
        return caught.value

    problem = with_jobs(folder, act)
    assert (problem.status, problem.code) == (503, "unavailable")
    assert str(folder) not in problem.message
    assert [*folder.iterdir()] == []


def test_a_job_is_its_owners_alone_and_no_name_is_a_path(folder: Path) -> None:
    async def act(jobs: Jobs) -> None:
        name = jobs.submit(spec(2)).id
        for wrong, owner in ((name, "bob"), ("../jobs/" + name, "alice"), ("", "alice"), (".", "alice")):
            with pytest.raises(Problem) as caught:
                jobs.view(wrong, owner)
            assert caught.value.status == 404

    with_jobs(folder, act)


def test_unfinished_jobs_are_bounded_and_go_on_after_a_restart(folder: Path) -> None:
    async def fill(jobs: Jobs) -> list[str]:
        names = [jobs.submit(spec(n)).id for n in (2, 3)]
        with pytest.raises(Problem) as caught:
            jobs.submit(spec(4))
        assert caught.value.status == 429
        return names

    async def finish(jobs: Jobs) -> list[str]:
        return [(await ended(jobs, name)).state for name in names]

    names = with_jobs(folder, fill, most=2)
    assert with_jobs(folder, finish) == ["finished", "finished"]


def test_a_cancelled_job_ends_and_leaves_nothing_while_those_behind_it_go_on(folder: Path) -> None:
    async def act(jobs: Jobs) -> list[str]:
        running, waiting, last = [jobs.submit(spec(n)).id for n in (99, 99, 2)]
        async with asyncio.timeout(60):
            while not (folder / running / "begun").exists():
                await asyncio.sleep(0.01)
        with pytest.raises(Problem) as caught:
            await jobs.cancel(running, "bob")
        assert caught.value.status == 404
        for name in (waiting, running):
            await jobs.cancel(name, "alice")
            with pytest.raises(Problem):
                jobs.view(name, "alice")
        assert (await ended(jobs, last)).state == "finished"
        await jobs.cancel(last, "alice")
        return [path.name for path in folder.iterdir()]

    assert with_jobs(folder, act, most=3) == []


def test_what_another_server_was_asked_for_is_seen_and_run_where_that_one_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was read at the start alone: such a job waited for the next one."""
    monkeypatch.setattr(jobs_module, "_AGAIN_S", 0.02)

    async def act(new: Jobs) -> str:
        old = Jobs(folder, most=5)
        await old.start()
        old._tasks[0].cancel()  # busy with others until it ends
        name = old.submit(spec(2)).id
        assert new.view(name, "alice").id == name
        with pytest.raises(Problem):
            new.view(name, "bob")
        unseen = old.submit(spec(3)).id
        async with asyncio.timeout(60):
            while unseen not in new._specs:
                await asyncio.sleep(0.01)
        await old.stop()
        return (await ended(new, name)).state

    assert with_jobs(folder, act) == "finished"


def test_a_job_that_is_cancelled_at_another_server_ends_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process went on, and its folder came back with the rows."""
    monkeypatch.setattr(jobs_module, "_AGAIN_S", 0.02)
    withdrawn = asyncio.Event()

    async def act(runs: Jobs) -> None:
        name = runs.submit(spec(99)).id

        async def write_on(process: asyncio.subprocess.Process) -> None:
            """End the process late: it makes the folder anew once the other server has taken it away."""
            await withdrawn.wait()
            (folder / name).mkdir(exist_ok=True)
            await end_process(process)

        monkeypatch.setattr(jobs_module, "end_process", write_on)
        other = Jobs(folder, most=5)
        await other.start()
        async with asyncio.timeout(60):
            while not (folder / name / "begun").exists():
                await asyncio.sleep(0.01)
            await other.cancel(name, "alice")
            withdrawn.set()
            while runs._running is not None or (folder / name).exists() or runs._room.total:
                await asyncio.sleep(0.01)
        with pytest.raises(Problem):
            runs.view(name, "alice")
        await other.stop()

    with_jobs(folder, act)


def test_stopping_when_the_process_has_just_ended_by_itself_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        """A process that is gone, whose end its reader has not been told yet."""

        def __init__(self) -> None:
            self.read, self.waited = asyncio.Event(), False

        async def communicate(self) -> tuple[bytes, bytes]:
            self.read.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        def terminate(self) -> None:
            raise ProcessLookupError

        async def wait(self) -> int:
            self.waited = True
            return 0

    async def act(jobs: Jobs) -> Ended:
        process = Ended()

        async def start(*_: str, **__: int) -> Ended:
            return process

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        jobs.submit(spec(2))
        await process.read.wait()
        return process

    assert with_jobs(folder, act).waited


def test_progress_is_read_from_the_parts_on_disk(folder: Path) -> None:
    async def act(jobs: Jobs) -> int:
        jobs._tasks[0].cancel()
        name = jobs.submit(spec(100)).id
        entries = folder / name / ".data.jsonl.work-100-abc" / "entries"
        entries.mkdir(parents=True)
        for part in ("part-000000000-000000010", "part-000000030-000000055"):
            (entries / f"{part}.json").touch()
        return jobs.view(name, "alice").rows_done

    assert with_jobs(folder, act) == 35


@pytest.mark.parametrize("late", [False, True])
def test_a_bundle_that_took_the_place_of_another_gives_no_rows_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Jobs wait, for days if need be, and what lies in the folder then was drawn from."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    meant = spec(20).model_copy(update={"folder": str(bundle)})
    if late:  # while it is read
        program = tmp_path / "program.py"
        program.write_text(f"import pathlib; pathlib.Path({str(bundle / 'x')!r}).touch()\n{PROGRAM}")
    else:
        (bundle / "x").touch()

    async def act(jobs: Jobs) -> JobView:
        return await ended(jobs, jobs.submit(meant).id)

    view = with_jobs(folder, act)
    assert view.state == "failed"
    assert view.error == f"another version took the place of {NOTHING}; ask for rows of that one"
    assert not [*folder.rglob("data.*")]
