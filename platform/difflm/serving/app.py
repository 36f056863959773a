"""The HTTP interface: paths, status codes and the OpenAPI document, over a service that knows none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

import difflm
from difflm.serving.answers import (
    ERRORS,
    FILE,
    MEDIA_TYPES,
    METRICS,
    ROWS,
    BundlesAnswer,
    BundleState,
    JobView,
    LatentsAnswer,
    QualityAnswer,
    Responses,
    RowWriter,
    SchemaAnswer,
    media_type_of,
    streamed,
)
from difflm.serving.bodies import body_document, document_bodies, parsed
from difflm.serving.fair_queue import Chunk
from difflm.serving.jobs import Jobs
from difflm.serving.middleware import CorsProblems, RequestMiddleware
from difflm.serving.paced import PacedFile
from difflm.serving.playground import add_playground
from difflm.serving.problems import FAULT, Problem, SafeHeaders, ToldProblems, problem_response, validation_problem
from difflm.serving.requests import BundleName, EncodeBody, ImputeBody, SampleBody
from difflm.serving.service import Accepted, Service

T = TypeVar("T")

Name = Annotated[BundleName, Query()]

_KEY = Security(HTTPBearer(auto_error=False))  # says so in the document; the middleware looks at keys
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_JOB: Responses = {202: {"model": JobView, "description": "A job was begun; ask /v1/jobs/{id} how it is"}}


class ClosedStream(StreamingResponse):
    """A stream whose source is closed with it, also when the client goes away."""

    def __init__(self, source: AsyncGenerator[Chunk, None], body: AsyncIterator[bytes], **more: Any) -> None:
        super().__init__(body, **more)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


def create_app(service: Service) -> Any:
    """Build the ASGI application of a service, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="difflm",
        version=difflm.__version__,
        description="Synthetic rows from trained bundles. Keys go into the header: `Authorization: Bearer difflm_...`",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # they lead to whatever name the request's Host has
        lifespan=lifespan,
    )
    keyed = APIRouter(responses=ERRORS, dependencies=[] if service.ring is None else [_KEY])
    _add_rows(keyed, service)
    _add_facts(keyed, service)
    _add_jobs(keyed, service)
    app.include_router(keyed)
    _add_health(app, service)
    add_playground(app)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    document_bodies(app)
    app.add_middleware(
        RequestMiddleware, config=service.config, ring=service.ring, metrics=service.metrics, traffic=service.traffic
    )
    if service.config.http.cors_origins:
        app.add_middleware(
            CorsProblems,
            allow_origins=service.config.http.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(ToldProblems)
    app.add_middleware(SafeHeaders)
    return app


def _add_rows(router: APIRouter, service: Service) -> None:
    columns, most = service.registry.columns, service.config.limits.given_rows
    sample_body = Depends(parsed(SampleBody, columns=columns, max_records=most, turns=service.turns))
    impute_body = Depends(parsed(ImputeBody, columns=columns, max_records=most, turns=service.turns))
    encode_body = Depends(parsed(EncodeBody, columns=columns, max_records=most, turns=service.turns))

    @router.post("/v1/samples", responses=ROWS | _JOB, openapi_extra=body_document(SampleBody))
    async def samples(request: Request, body: SampleBody = sample_body) -> Response:
        """Make rows; more of them than one answer holds become a job (202)."""
        accepted = await service.sample(body, request.state.owner)
        if isinstance(accepted, JobView):
            headers = {"Location": f"/v1/jobs/{accepted.id}", "Retry-After": "5"}
            return JSONResponse(accepted.model_dump(mode="json"), status_code=202, headers=headers)
        return await _answer(service, accepted, service.writer(accepted, body), request)

    @router.post("/v1/impute", responses=ROWS, openapi_extra=body_document(ImputeBody))
    async def impute(request: Request, body: ImputeBody = impute_body) -> Response:
        """Return the given records, in their order, with their missing cells filled in."""
        accepted = await service.impute(body, request.state.owner)
        return await _answer(service, accepted, service.writer(accepted, body), request)

    @router.post("/v1/encode", openapi_extra=body_document(EncodeBody))
    async def encode(request: Request, body: EncodeBody = encode_body) -> LatentsAnswer:
        """Return the latent mean of every record."""
        return await _until_gone(request, service.encode(body, request.state.owner))


def _add_facts(router: APIRouter, service: Service) -> None:
    @router.get("/v1/bundles")
    async def bundles() -> BundlesAnswer:
        """List all bundles."""
        return BundlesAnswer(bundles=[_described(service, name) for name in service.registry.names])

    @router.get("/v1/schema")
    async def schema(bundle: Name = None) -> SchemaAnswer:
        """Return the columns of a bundle, with the values and ranges that training had."""
        found = service.registry.get(bundle)
        return SchemaAnswer(bundle=found.ref.name, version=found.ref.version, schema=found.schema.published())

    @router.get("/v1/quality")
    async def quality(bundle: Name = None) -> QualityAnswer:
        """Return the evaluation that came with a bundle: the verdict in three answers, and the scores behind it."""
        found = service.registry.get(bundle)
        if found.quality is None:
            remedy = "evaluate its run (difflm run), or save the generator again after its report was made"
            message = f"bundle {found.ref.name!r} came without an evaluation; {remedy}"
            raise Problem(404, "no_evaluation", message, field="bundle")
        return QualityAnswer(bundle=found.ref.name, version=found.ref.version, report=found.quality)

    @router.get("/metrics", response_class=PlainTextResponse, responses=METRICS)
    async def metrics() -> Response:
        """Write the counters for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_jobs(router: APIRouter, service: Service) -> None:
    @router.get("/v1/jobs/{id}")
    async def job(id: str, request: Request) -> JobView:
        """Tell how a job is."""
        return _jobs(service).view(id, request.state.owner)

    @router.delete("/v1/jobs/{id}", status_code=204)
    async def cancelled(id: str, request: Request) -> None:
        """End a job that is under way, and take its rows away in any case."""
        await _jobs(service).cancel(id, request.state.owner)

    @router.get("/v1/jobs/{id}/data", response_class=PacedFile, responses=FILE)
    async def job_data(id: str, request: Request) -> Response:
        """Return the rows of a finished job."""
        path = _jobs(service).data(id, request.state.owner)
        return PacedFile(path, filename=path.name, media_type=media_type_of(path))


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Tell whether the server runs."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: ERRORS[503]})
    async def readyz() -> dict[str, str]:
        """Tell whether all bundles are loaded."""
        if not service.registry.ready:
            raise Problem(503, "loading", "not all bundles are loaded", retry_after_s=5.0)
        return {"status": "ready"}


async def _answer(service: Service, accepted: Accepted, writer: RowWriter, request: Request) -> Response:
    """Send rows as a stream, whose status is sent with the first of them, or as a whole."""
    chunks = service.chunks(accepted)
    headers = {"X-Difflm-Seed": str(accepted.wanted.seed), "X-Difflm-Version": accepted.bundle.ref.version}
    if writer.format in ("ndjson", "sse"):
        try:
            first = await _until_gone(request, anext(chunks))
        except BaseException:
            await chunks.aclose()
            raise
        body = streamed(writer, _behind(first, chunks), accepted.facts)
        return ClosedStream(chunks, body, media_type=MEDIA_TYPES[writer.format], headers=headers)
    rows, given_up = await _until_gone(request, _collected(chunks))
    return await asyncio.to_thread(_whole, accepted, writer, rows, given_up, headers)


def _whole(
    accepted: Accepted, writer: RowWriter, rows: list[Any], given_up: list[int], headers: dict[str, str]
) -> Response:
    if writer.format == "json":
        content = {**accepted.facts, "rows": writer.rows(rows), "given_up": given_up}
        return JSONResponse(content, headers=headers)
    headers = {**headers, "X-Difflm-Given-Up": str(len(given_up))}
    return Response(writer.file(rows), media_type=MEDIA_TYPES[writer.format], headers=headers)


async def _collected(chunks: AsyncGenerator[Chunk, None]) -> tuple[list[Any], list[int]]:
    rows, given_up = [], list[int]()
    async with aclosing(chunks):
        async for chunk in chunks:
            rows += chunk.rows
            given_up += chunk.given_up
    return rows, given_up


async def _behind(first: Chunk, chunks: AsyncGenerator[Chunk, None]) -> AsyncIterator[Chunk]:
    yield first
    async for chunk in chunks:
        yield chunk


async def _until_gone(request: Request, work: Awaitable[T]) -> T:
    """Wait for the result of some work, which is given up when the client goes away."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Problem(499, "gone", "the client went away")
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _jobs(service: Service) -> Jobs:
    if service.jobs is None:
        raise Problem(404, "unknown_job", "this server has no jobs", field="id")
    return service.jobs


def _described(service: Service, name: str) -> BundleState:
    try:
        version = service.registry.get(name).ref.version
    except Problem:
        version = None
    fault = "it cannot be loaded; the server's log says why" if name in service.registry.faults else None
    return BundleState(bundle=name, version=version, fault=fault)


async def _on_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem_response(problem)


async def _on_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(validation_problem(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 400: "invalid_json"}
    field = "body" if error.status_code == 400 else None
    problem = Problem(error.status_code, codes.get(error.status_code, "refused"), str(error.detail), field=field)
    answer = problem_response(problem)
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = _allowed(request)
    return answer


def _allowed(request: Request) -> str:
    """Name the methods of all routes of a path (RFC 9110, 15.5.6); what raised the error knows those of one."""
    asked = {key: request.scope[key] for key in ("type", "path", "root_path", "headers")}
    routes = request.app.routes
    taken = [name for name in _METHODS if any(_takes(route, {**asked, "method": name}) for route in routes)]
    return ", ".join(taken)


def _takes(route: BaseRoute, scope: Scope) -> bool:
    return route.matches(scope)[0] is Match.FULL


async def _on_bug(_: Request, __: Exception) -> Response:
    return problem_response(FAULT)
