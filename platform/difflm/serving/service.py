"""The service: what each request comes to, from its checked body to the chunks of its rows."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from difflm.errors import BundleError, ConfigError, DataError, DiffLMError
from difflm.records.schema import RecordSchema
from difflm.serving.answers import JobView, LatentsAnswer, RowWriter
from difflm.serving.backend import RowsBackend, RowsWanted
from difflm.serving.config import ServeConfig
from difflm.serving.fair_queue import Chunk
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.limits import Admission, KeyRing, Traffic
from difflm.serving.metrics import ServerMetrics
from difflm.serving.problems import Problem, invalid, problem_of, said, unavailable
from difflm.serving.registry import Registry, ServedBundle
from difflm.serving.requests import MAX_INDEX, SEED_BITS, EncodeBody, GivenRow, ImputeBody, SampleBody, as_texts
from difflm.serving.shares import Turns
from difflm.synthesis.plans.kept_cells import kept_cells
from difflm.synthesis.plans.request import GivenRecords, Impute, PlanRequest, Use, Vary, nearest_table, table_with_gaps

_PLACES = 4  # for what is read and looked through beside the rows
_REFUSALS = ("overloaded", "unavailable")  # rows that the server did not make cost nothing
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Rows that are under way: where they come from, who writes them, and what is said about them."""

    bundle: ServedBundle
    wanted: RowsWanted
    owner: str

    @property
    def facts(self) -> dict[str, object]:
        """What an answer says beside its rows."""
        ref, wanted = self.bundle.ref, self.wanted
        return {"bundle": ref.name, "version": ref.version, "seed": wanted.seed, "start": wanted.start}


class Service:
    """The requests of one server process."""

    def __init__(
        self, config: ServeConfig, backend: RowsBackend, *, ring: KeyRing | None = None, jobs: Jobs | None = None
    ) -> None:
        self.config, self.ring, self.jobs = config, ring, jobs
        self.metrics = ServerMetrics()
        owners = () if ring is None else ring.owners
        self.traffic = Traffic(most=config.limits.outstanding_requests, owners=owners)
        self.registry = Registry(config, backend.load)
        self._backend = backend
        self._admission = Admission(config.limits.outstanding_rows, told=self.metrics.outstanding, owners=owners)
        self.turns, self._encodings = Turns(_PLACES), Turns(_PLACES)  # a replica may have to start, or to load, first
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to load the bundles, and look for new versions of them from now on."""
        if self.jobs is not None:
            await self.jobs.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Let go of what `start` began."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self.jobs is not None:
            await self.jobs.stop()

    async def _watch(self) -> None:
        while True:
            try:
                await self.registry.refresh()
            except Exception:  # whatever it is, the next look may succeed, and what is served goes on
                _log.exception("the bundles could not be looked at")
            await asyncio.sleep(self.config.refresh_s)

    async def sample(self, body: SampleBody, owner: str) -> Accepted | JobView:
        """Take on rows, as a job where they are too many for one answer. Raises Problem naming the field."""
        limits, bundle = self.config.limits, self.registry.get(body.bundle)
        bundle.check_columns(body.columns or ())
        if body.start + body.n > MAX_INDEX + 1:
            raise invalid("start", f"start + n is {body.start + body.n}; {MAX_INDEX + 1} is the most")
        bundle.check_names(body.start, body.n)
        if body.like is not None and body.where is not None:
            raise invalid("like", "variations of given records take no condition; leave out where")
        if body.n > limits.rows_per_request:
            return await self._job(body, bundle, owner)
        plan, given = _plan(body.where, None, None, body.constraints), None
        if body.like is not None:
            plan, given = await self.turns.thread(owner, lambda: self._vary(body, bundle))
        await self._check_plan(plan, bundle, owner, "where" if given is None else "like")
        return self._accepted(
            bundle, owner, plan, given, n=body.n, start=body.start, seed=body.seed,
            temperature=body.temperature, deadline_s=body.deadline_s,
        )  # fmt: skip

    async def impute(self, body: ImputeBody, owner: str) -> Accepted:
        """Take on records with gaps. Raises Problem naming the field."""
        bundle = self.registry.get(body.bundle)
        plan, given = await self.turns.thread(owner, lambda: self._impute(body, bundle))
        await self._check_plan(plan, bundle, owner, "columns")
        return self._accepted(
            bundle, owner, plan, given, n=len(body.rows), start=0, seed=body.seed, deadline_s=body.deadline_s
        )

    async def encode(self, body: EncodeBody, owner: str) -> LatentsAnswer:
        """Return the latent means of records, which count as rows; raise Problem naming the field."""
        bundle = self.registry.get(body.bundle)
        self._spend(owner, len(body.rows), "rows")
        try:
            with self._admission.hold(len(body.rows), owner) as handed_out:
                table = await self.turns.thread(owner, lambda: self._varied(body.rows, bundle, field="rows"))
                latents = await self._encodings.run(owner, lambda: self._backend.encode(bundle.ref, table))
                handed_out(len(body.rows))
        except (DiffLMError, Problem) as error:
            self._refund(owner, len(body.rows))
            raise error if isinstance(error, Problem) else problem_of(error, bundle.ref.folder) from None
        return LatentsAnswer(bundle=bundle.ref.name, version=bundle.ref.version, latents=latents)

    async def chunks(self, accepted: Accepted) -> AsyncGenerator[Chunk, None]:
        """Yield the rows of an accepted request; raise Problem where they cannot be made, or not all of them."""
        wanted, name, owner = accepted.wanted, accepted.bundle.ref.name, accepted.owner
        left = wanted.stop - wanted.start
        try:
            with self._admission.hold(left, owner) as handed_out:
                async with aclosing(self._backend.sample(wanted)) as chunks:
                    async for chunk in chunks:
                        count = len(chunk.rows) + len(chunk.given_up)
                        left -= count
                        self.metrics.handed_out(name, owner, len(chunk.rows), len(chunk.given_up))
                        yield chunk
                        handed_out(count)
                        self._refuse_failure(chunk, wanted)
        except (DiffLMError, Problem) as error:
            problem = error if isinstance(error, Problem) else problem_of(error, accepted.bundle.ref.folder)
            if problem.code in _REFUSALS:
                self._refund(owner, left)
            raise problem from None

    async def writer(self, accepted: Accepted, body: SampleBody | ImputeBody) -> RowWriter:
        """Return who writes the rows of a request."""
        codec = accepted.bundle.codec
        if isinstance(body, ImputeBody):
            kept = await self.turns.thread(accepted.owner, lambda: _kept(body.rows, codec.schema))
            return RowWriter(codec=codec, columns=None, format=body.format, kept=kept)
        return RowWriter(codec=codec, columns=body.columns, format=body.format, safe_csv=body.safe_csv)

    def _refuse_failure(self, chunk: Chunk, wanted: RowsWanted) -> None:
        if chunk.failure == "deadline":
            own = wanted.deadline_s < self.config.limits.deadline_s  # too short a time is the request's fault
            said = f"not all rows were there after {wanted.deadline_s:g} s"
            raise Problem(422 if own else 504, "deadline", said, field="deadline_s")
        if chunk.failure == "engine":
            raise unavailable("the process that drew the rows broke")

    def _accepted(
        self,
        bundle: ServedBundle,
        owner: str,
        plan: PlanRequest,
        given: pa.Table | None,
        *,
        n: int,
        start: int,
        seed: int | None,
        deadline_s: float | None,
        temperature: float | None = None,
    ) -> Accepted:
        longest_s = self.config.limits.deadline_s
        wanted = RowsWanted(
            bundle=bundle.ref,
            start=start,
            stop=start + n,
            seed=secrets.randbits(SEED_BITS) if seed is None else seed,
            deadline_s=longest_s if deadline_s is None else min(deadline_s, longest_s),
            temperature=temperature,
            plan=plan,
            given=given,
            owner=owner,
        )
        self._spend(owner, n)
        return Accepted(bundle=bundle, wanted=wanted, owner=owner)

    async def _check_plan(self, plan: PlanRequest, bundle: ServedBundle, owner: str, field: str) -> None:
        """Refuse what no row satisfies, and name the field; not on the event loop: expressions may be long."""
        if plan != PlanRequest():
            await self.turns.thread(owner, lambda: _refuse_plan(plan, bundle, field))

    def _spend(self, owner: str, rows: int, field: str = "n") -> None:
        wait_s = 0.0 if self.ring is None else self.ring.spend(owner, "rows", rows)
        if wait_s > 0:
            raise Problem(429, "rate_limited", f"{owner}: too many rows a minute", field=field, retry_after_s=wait_s)

    def _refund(self, owner: str, rows: int) -> None:
        if self.ring is not None:
            self.ring.refund(owner, "rows", rows)

    def _varied(self, rows: list[GivenRow], bundle: ServedBundle, *, field: str = "like") -> pa.Table:
        self._check_count(rows, field)
        try:
            return nearest_table(_text_table(rows), bundle.schema, name=field).table
        except DataError as error:
            raise invalid(field, str(error)) from None

    def _vary(self, body: SampleBody, bundle: ServedBundle) -> tuple[PlanRequest, pa.Table]:
        given = self._varied(body.like or [], bundle)
        return _plan(None, Vary(strength=body.strength), given, body.constraints), given

    def _impute(self, body: ImputeBody, bundle: ServedBundle) -> tuple[PlanRequest, pa.Table]:
        self._check_count(body.rows, "rows")
        try:
            given = table_with_gaps(_complete(body.rows, bundle.schema), bundle.schema, name="rows")
        except DataError as error:
            raise invalid("rows", str(error)) from None
        columns = None if body.columns is None else tuple(body.columns)
        return _plan(None, Impute(columns=columns), given, body.constraints), given

    def _check_count(self, rows: list[GivenRow], field: str) -> None:
        if len(rows) > self.config.limits.given_rows:
            raise invalid(field, f"{len(rows)} records; {self.config.limits.given_rows} are the most")

    async def _job(self, body: SampleBody, bundle: ServedBundle, owner: str) -> JobView:
        limits = self.config.limits
        if self.jobs is None:
            raise invalid("n", f"{body.n} rows; {limits.rows_per_request} are the most")
        if body.n > limits.rows_per_job:
            raise invalid("n", f"{body.n} rows; {limits.rows_per_job} are the most of a job")
        left_out = {
            "like": body.like is not None,
            "columns": body.columns is not None,
            "start": body.start != 0,
            "safe_csv": body.safe_csv,
        }
        for field, given in left_out.items():
            if given:
                raise invalid(field, f"more than {limits.rows_per_request} rows are a job, which takes no {field!r}")
        await self._check_plan(_plan(body.where, None, None, body.constraints), bundle, owner, "where")
        self.jobs.check_room(owner)  # before they are paid for
        self._spend(owner, body.n)
        sampling = self.config.sampling
        if body.temperature is not None:
            sampling = sampling.model_copy(update={"temperature": body.temperature})
        spec = JobSpec(
            owner=owner,
            bundle=bundle.ref.name,
            version=bundle.ref.version,
            folder=bundle.ref.folder,
            n=body.n,
            seed=secrets.randbits(SEED_BITS) if body.seed is None else body.seed,
            where=body.where,
            constraints=tuple(body.constraints or ()),
            sampling=sampling.model_dump_json(),
            format=body.job_format,
        )
        try:
            return self.jobs.submit(spec)
        except Problem:
            self._refund(owner, body.n)
            raise


def _refuse_plan(plan: PlanRequest, bundle: ServedBundle, field: str) -> None:
    try:
        plan.relations(bundle.schema)
    except ConfigError as error:
        raise invalid("constraints", str(error)) from None
    try:
        plan.check(Path(bundle.ref.folder), bundle.schema)
    except ConfigError as error:
        raise invalid(field, str(error)) from None
    except BundleError as error:
        raise Problem(422, "not_supported", said(error, bundle.ref.folder), field=field) from None


def _plan(where: str | None, use: Use | None, given: pa.Table | None, constraints: Sequence[str] | None) -> PlanRequest:
    kept = tuple(constraints or ())
    if use is None or given is None:
        return PlanRequest(where=where, constraints=kept)
    digest = hashlib.sha256("\n".join(map(repr, given.to_pylist())).encode("utf-8", "surrogatepass")).hexdigest()
    return PlanRequest(given=GivenRecords(use=use, sha256=digest), constraints=kept)


def _text_table(rows: list[GivenRow]) -> pa.Table:
    columns = as_texts(rows)
    return pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})


def _complete(rows: list[GivenRow], schema: RecordSchema) -> pa.Table:
    return _text_table([{name: row.get(name) for name in schema.names} for row in rows])


def _kept(rows: list[GivenRow], schema: RecordSchema) -> pa.Table:
    return kept_cells(_complete(rows, schema), schema, spelling=False)
