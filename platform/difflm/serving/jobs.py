"""Jobs: requests for more rows than one answer holds, each run as `difflm synthesize` and kept in a folder of its own.

    <jobs>/<id>/job.json       what was asked, by whom; written first
    <jobs>/<id>/data.<format>  the rows; appears whole
    <jobs>/<id>/error.txt      why there will be none

The files are the truth: after a restart, jobs without rows and without an error go on from the parts they have.
The command line is a process of its own; nothing of it is imported here. Ids are random, 128 bits, and the only part
of a path that comes from a request: they are looked up among those that were given out.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from difflm.artifacts.atomic import write_bytes_atomic, write_json_atomic
from difflm.config import Config
from difflm.serving.problems import Problem, overloaded

COMMAND = (sys.executable, "-m", "difflm_jobs", "synthesize")
STOP_S = 30.0  # a process that was asked to end has so long
_log = logging.getLogger(__name__)
_ENTRY = re.compile(r"part-(\d+)-(\d+)\.json")


class JobSpec(Config):
    """What a job makes; `folder` is the bundle's. `sampling` is a SamplingConfig as JSON."""

    owner: str
    bundle: str
    version: str
    folder: str
    n: int
    seed: int
    where: str | None
    sampling: str
    format: Literal["jsonl", "csv", "parquet", "arrow"]


class JobView(Config):
    """A job as its owner sees it."""

    id: str
    state: Literal["queued", "running", "finished", "failed"]
    bundle: str
    version: str
    n: int
    seed: int
    rows_done: int
    error: str | None = None
    data: str | None = None


class Jobs:
    """The jobs in a folder, which run one by one."""

    def __init__(self, folder: Path, *, most: int, settings: Sequence[str] = ()) -> None:
        """At most `most` jobs are unfinished at a time; `settings` are further --set of every job."""
        self._folder, self._most, self._settings = folder, most, settings
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._running: str | None = None
        self._run_task: asyncio.Task[None] | None = None
        self._unfinished: set[str] = set()
        self._specs: dict[str, JobSpec] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the jobs that are there, and go on with those that are unfinished."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*/job.json"), key=lambda path: path.stat().st_mtime):
            with suppress(ValueError):
                self._specs[path.parent.name] = JobSpec.model_validate_json(path.read_bytes())
                if not self._data(path.parent.name).exists() and not (path.parent / "error.txt").exists():
                    self._enqueue(path.parent.name)
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop the job under way; it goes on with the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def submit(self, spec: JobSpec) -> JobView:
        """Take on a job.

        Raises:
            Problem: there are too many unfinished ones (429).
        """
        if len(self._unfinished) >= self._most:
            raise overloaded(f"{len(self._unfinished)} jobs are unfinished", 60.0)
        name = secrets.token_hex(16)
        (self._folder / name).mkdir()
        write_json_atomic(self._folder / name / "job.json", spec.model_dump(mode="json"))
        self._specs[name] = spec
        self._enqueue(name)
        return self.view(name, spec.owner)

    def view(self, name: str, owner: str) -> JobView:
        """A job of an owner.

        Raises:
            Problem: the owner has no such job (404).
        """
        spec = self._specs.get(name)
        if spec is None or spec.owner != owner:
            raise Problem(404, "unknown_job", "there is no such job", field="id")
        error = self._folder / name / "error.txt"
        state: Literal["queued", "running", "finished", "failed"] = "running" if self._running == name else "queued"
        if self._data(name).exists():
            state = "finished"
        elif error.exists():
            state = "failed"
        return JobView(
            id=name,
            state=state,
            bundle=spec.bundle,
            version=spec.version,
            n=spec.n,
            seed=spec.seed,
            rows_done=spec.n if state == "finished" else self._rows_done(name),
            error=error.read_text(encoding="utf-8") if state == "failed" else None,
            data=f"/v1/jobs/{name}/data" if state == "finished" else None,
        )

    def data(self, name: str, owner: str) -> Path:
        """The file of a finished job.

        Raises:
            Problem: there is no such job (404), or it has no rows yet (409).
        """
        view = self.view(name, owner)
        if view.state != "finished":
            raise Problem(409, "unfinished", f"the job is {view.state}", field="id", retry_after_s=5.0)
        return self._data(name)

    async def cancel(self, name: str, owner: str) -> None:
        """End a job of an owner, and take away what there is of it.

        Raises:
            Problem: the owner has no such job (404).
        """
        self.view(name, owner)
        del self._specs[name]
        self._unfinished.discard(name)
        folder = self._folder / name
        (folder / "job.json").unlink(missing_ok=True)  # first: without it no restart goes on with the job
        if self._running == name and self._run_task is not None:
            self._run_task.cancel()
            await asyncio.wait([self._run_task])
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _enqueue(self, name: str) -> None:
        self._unfinished.add(name)
        self._waiting.put_nowait(name)

    def _data(self, name: str) -> Path:
        return self._folder / name / f"data.{self._specs[name].format}"

    def _rows_done(self, name: str) -> int:
        entries = (self._folder / name).glob(".data.*/entries/part-*.json")
        ranges = [match for entry in entries if (match := _ENTRY.fullmatch(entry.name))]
        return sum(int(match[2]) - int(match[1]) for match in ranges)

    async def _work(self) -> None:
        while True:
            name = await self._waiting.get()
            if name not in self._specs:
                continue  # cancelled while it waited
            self._running = name
            self._run_task = asyncio.create_task(self._run(name))
            try:
                await asyncio.wait([self._run_task])
            finally:
                self._unfinished.discard(name)
                self._running = None
                self._run_task.cancel()
                await self._outcome(name, self._run_task)

    async def _outcome(self, name: str, task: asyncio.Task[None]) -> None:
        """What cannot even be begun is a failed job, and those behind it go on."""
        try:
            with suppress(asyncio.CancelledError):
                await task
        except OSError:
            _log.exception("a job could not be run")
            if name in self._specs:
                with suppress(OSError):
                    write_bytes_atomic(self._folder / name / "error.txt", b"it could not be run; see the server's log")

    async def _run(self, name: str) -> None:
        spec, folder = self._specs[name], self._folder / name
        command = [*COMMAND, spec.folder, "--rows", str(spec.n), "--seed", str(spec.seed)]
        command += ["--out", str(self._data(name)), "--set", f"sampling={spec.sampling}"]
        command += [part for setting in self._settings for part in ("--set", setting)]
        command += [f"--where={spec.where}"] if spec.where is not None else []
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, told = await process.communicate()
        except asyncio.CancelledError:
            await _ended(process)
            raise
        if process.returncode != 0:
            lines = [line for line in told.decode("utf-8", "replace").splitlines() if line.startswith("error:")]
            reason = (lines or [f"error: it ended with code {process.returncode}"])[-1].removeprefix("error: ")
            write_bytes_atomic(folder / "error.txt", reason.replace(str(self._folder), "").encode())


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a process, which may have ended by itself a moment ago."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        _log.warning("a job's process does not end; it is killed")
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def job_format(wanted: str) -> Literal["jsonl", "csv", "parquet", "arrow"]:
    """What a job writes for the format of a request; JSON in one piece becomes lines of it."""
    match wanted:
        case "csv" | "parquet" | "arrow":
            return wanted
        case _:
            return "jsonl"
