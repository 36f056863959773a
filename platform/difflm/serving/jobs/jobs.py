"""Jobs: requests for more rows than one answer holds, each run as `difflm synthesize` and kept in a folder of its own.

The files are the truth: after a restart, jobs without rows and without an error go on from the parts they have. Several
servers may share a folder, such as an old one and the new one that takes its place: whoever runs a job holds its lock,
each looks for jobs of the others now and then, and a job whose job.json is gone is cancelled for all.
A job's process ends with its server and holds the lock until then: after a kill, too, nobody else runs the job beside.
Keys take turns, one job each, and share the room for unfinished ones.
The command line is a process of its own; nothing of it is imported here. Ids are random, 128 bits, and the only part
of a path that comes from a request: they are looked up among those that were given out.
What has ended is kept within bounds (`limits.kept`), for each key of its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from difflm.artifacts.atomic import write_bytes_atomic
from difflm.errors import StorageError
from difflm.lifetime import bound_environment, end_process, ending, locked
from difflm.serving.answers import JobView
from difflm.serving.config import KeptConfig
from difflm.serving.jobs.folder import ID, JobsFolder, JobSpec, replaced
from difflm.serving.problems import Problem, overloaded, unavailable
from difflm.serving.shares import Shares

COMMAND = (sys.executable, "-m", "difflm_jobs", "synthesize")
_LOCK = ".lock"
_AGAIN_S = 2.0  # before the next look at what other servers do
_LATER_S = 60.0  # before a job is tried again whose end could not be written down
_log = logging.getLogger(__name__)


class Jobs:
    """The jobs in a folder, which run one by one."""

    def __init__(
        self,
        folder: Path,
        *,
        most: int,
        kept: KeptConfig | None = None,
        settings: Sequence[str] = (),
        owners: Iterable[str] = (),
    ) -> None:
        """At most `most` jobs are unfinished at a time, which `owners` share; `kept` bounds those that have ended, and
        `settings` are further --set of all.
        """
        self._files, self._kept, self._settings = JobsFolder(folder), kept or KeptConfig(), settings
        self._room = Shares(most, owners)
        self._lines: dict[str, deque[str]] = {}  # by owner, the one whose turn it is first
        self._some = asyncio.Event()
        self._running: str | None = None
        self._fds: tuple[int, ...] = ()  # what its process holds of its lock
        self._run_task: asyncio.Task[None] | None = None
        self._unfinished: dict[str, str] = {}  # the owner of each
        self._specs: dict[str, JobSpec] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    async def start(self) -> None:
        """Find the jobs that are there, and go on with those that are unfinished."""
        self._files.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(self._files.remove_strays)
        self._take_up(self._files.unknown(()))
        self._tasks = [asyncio.create_task(task) for task in (self._work(), self._look())]

    async def stop(self) -> None:
        """Stop the job under way; it goes on with the next start."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_up(self, found: dict[str, JobSpec]) -> None:
        for name, spec in found.items():
            if self._specs.setdefault(name, spec) is spec and not self._files.has_ended(name, spec):
                self._enqueue(name)

    async def _look(self) -> None:
        """Take up what other servers were asked for, which may end before they run it; let go of what they cancel, and
        of what is kept no longer.
        """
        while True:
            await asyncio.sleep(_AGAIN_S)
            try:
                self._take_up(await asyncio.to_thread(self._files.unknown, frozenset(self._specs)))
                for name in [*self._unfinished]:
                    self._is_there(name)
                await asyncio.to_thread(self._remove_surplus, dict(self._specs))
            except Exception:  # whatever it is, such as too many open files, the next look may succeed
                _log.exception("the jobs could not be looked at")

    def _remove_surplus(self, specs: Mapping[str, JobSpec]) -> None:
        for name in self._files.surplus(specs, self._kept):
            self._files.remove(name)
            self._specs.pop(name, None)

    def _is_there(self, name: str) -> bool:
        """Whether a job is still one; what another server cancelled is forgotten."""
        if self._files.has(name):
            return True
        self._specs.pop(name, None)
        if name != self._running:
            self._forget(name)
        return False

    def check_room(self, owner: str) -> None:
        """Raise Problem (429) where an owner can have no further job now."""
        if not self._room.fits(owner, 1):
            unfinished, own = self._room.total, self._room.held(owner)
            raise overloaded(f"{unfinished} jobs are unfinished ({own} of this key)", 60.0)

    def submit(self, spec: JobSpec) -> JobView:
        """Take on a job.

        Raises:
            Problem: there are too many unfinished ones (429), or it cannot be written down (503).
        """
        self.check_room(spec.owner)
        name = secrets.token_hex(16)
        try:
            self._files.write(name, spec)
        except (OSError, StorageError):
            _log.exception("a job could not be written down")
            self._files.remove(name)
            raise unavailable("the server cannot write the job down") from None
        self._specs[name] = spec
        self._enqueue(name)
        return self.view(name, spec.owner)

    def view(self, name: str, owner: str) -> JobView:
        """Describe a job of an owner.

        Raises:
            Problem: the owner has no such job (404).
        """
        if name not in self._specs and ID.fullmatch(name) and (other := self._files.read(name)) is not None:
            self._take_up({name: other})  # another server was asked for it a moment ago
        spec = self._specs.get(name)
        if spec is None or spec.owner != owner or not self._is_there(name):
            raise Problem(404, "unknown_job", "there is no such job", field="id")
        error, reason = self._files.error(name), None
        state: Literal["queued", "running", "finished", "failed"] = "running" if self._running == name else "queued"
        if state != "running" and self._files.data(name, spec).exists():  # else they are looked at yet
            state = "finished"
        elif error.exists():
            state, reason = "failed", error.read_text(encoding="utf-8", errors="replace")
        if state in ("queued", "finished") and (damage := self._files.damage(name, spec)) is not None:
            state, reason = "failed", damage
        return JobView(
            id=name,
            state=state,
            bundle=spec.bundle,
            version=spec.version,
            n=spec.n,
            seed=spec.seed,
            rows_done=spec.n if state == "finished" else self._files.rows_done(name),
            error=reason,
            data=f"/v1/jobs/{name}/data" if state == "finished" else None,
        )

    def data(self, name: str, owner: str) -> Path:
        """Return the path of the file of a finished job.

        Raises:
            Problem: there is no such job (404), or it has no rows yet (409).
        """
        view = self.view(name, owner)
        if view.state != "finished":
            raise Problem(409, "unfinished", f"the job is {view.state}", field="id", retry_after_s=5.0)
        return self._files.data(name, self._specs[name])

    async def cancel(self, name: str, owner: str) -> None:
        """End a job of an owner, and take away what there is of it.

        Raises:
            Problem: the owner has no such job (404).
        """
        self.view(name, owner)
        del self._specs[name]
        self._forget(name)
        self._files.withdraw(name)  # first: without it no server goes on with the job
        if self._running == name and self._run_task is not None:
            self._run_task.cancel()
            await asyncio.wait([self._run_task])
        await asyncio.to_thread(self._files.remove, name)

    def _enqueue(self, name: str) -> None:
        if name not in self._specs:
            return  # cancelled while another server had it
        owner = self._specs[name].owner
        if name not in self._unfinished:
            self._unfinished[name] = owner
            self._room.add(owner, 1)
        self._lines.setdefault(owner, deque()).append(name)
        self._some.set()

    def _forget(self, name: str) -> None:
        """Stop counting a job that is finished, or nobody's any more, among its owner's."""
        owner = self._unfinished.pop(name, None)
        if owner is not None:
            self._room.add(owner, -1)

    async def _next(self) -> str:
        """Wait for the job whose turn it is; its owner goes behind the others."""
        while not self._lines:
            self._some.clear()
            await self._some.wait()
        owner = next(iter(self._lines))
        line = self._lines.pop(owner)
        name = line.popleft()
        if line:
            self._lines[owner] = line
        return name

    async def _work(self) -> None:
        while not self._stopped:  # an error on the way out would else keep it in
            name = await self._next()
            try:
                await self._turn(name)
            except Exception:  # whatever it is, such as a disk that is full, those behind it go on
                _log.exception("a job could not be run; it is tried again")
                self._forget(name)
                asyncio.get_running_loop().call_later(_LATER_S, self._enqueue, name)

    async def _turn(self, name: str) -> None:
        if name not in self._specs:
            return  # cancelled while it waited
        try:
            lock = locked(self._files.path / name / _LOCK)
        except BlockingIOError:  # another server runs it; should that one end, this one goes on with the job
            asyncio.get_running_loop().call_later(_AGAIN_S, self._enqueue, name)
            return
        except FileNotFoundError:  # another server took it away
            self._forget(name)
            return
        with lock:
            try:
                if self._is_there(name) and not self._files.has_ended(name, self._specs[name]):
                    await self._run_locked(name, lock)
            finally:
                self._forget(name)

    async def _run_locked(self, name: str, lock: IO[bytes]) -> None:
        self._running, self._fds = name, (lock.fileno(),)
        self._run_task = asyncio.create_task(self._run(name))
        try:
            while not self._run_task.done() and self._is_there(name):
                await asyncio.wait([self._run_task], timeout=_AGAIN_S)
        finally:
            self._running = None
            self._run_task.cancel()
            await self._outcome(name, self._run_task)
            if not self._is_there(name):  # its process may have made the folder anew
                await asyncio.to_thread(self._files.remove, name)

    async def _outcome(self, name: str, task: asyncio.Task[None]) -> None:
        """Wait for the end of a job; one that cannot even be begun has failed. Raises StorageError or OSError where
        that cannot be written down.
        """
        try:
            with suppress(asyncio.CancelledError):
                await task
        except Exception:
            _log.exception("a job could not be run")
            if name in self._specs:
                write_bytes_atomic(self._files.error(name), b"it could not be run; see the server's log")

    async def _run(self, name: str) -> None:
        spec = self._specs[name]
        reason = await asyncio.to_thread(replaced, spec) or await self._drawn(name, spec)
        if reason is None and (reason := await asyncio.to_thread(replaced, spec)) is not None:  # while it was read
            self._files.data(name, spec).unlink(missing_ok=True)
        if reason is not None:
            for folder in (str(self._files.path), f"{spec.folder}/", spec.folder):  # paths are the server's own
                reason = reason.replace(folder, "")
            write_bytes_atomic(self._files.error(name), reason.encode())
        else:
            self._files.note_rows(name, spec)

    async def _drawn(self, name: str, spec: JobSpec) -> str | None:
        """Draw the rows of a job; return what it failed with, if it did."""
        command = [*COMMAND, spec.folder, "--rows", str(spec.n), "--seed", str(spec.seed)]
        command += ["--out", str(self._files.data(name, spec)), "--set", f"sampling={spec.sampling}"]
        command += [part for setting in self._settings for part in ("--set", setting)]
        command += [f"--where={spec.where}"] if spec.where is not None else []
        command += [f"--constraint={constraint}" for constraint in spec.constraints]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=bound_environment(),
            pass_fds=self._fds,
        )
        try:
            _, told = await process.communicate()
        except asyncio.CancelledError:
            await end_process(process)
            raise
        if process.returncode == 0:
            return None
        lines = [line for line in told.decode("utf-8", "replace").splitlines() if line.startswith("error:")]
        return lines[-1].removeprefix("error: ") if lines else ending(process.returncode)
