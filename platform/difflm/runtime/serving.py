"""Serving on Ray: replicas that draw rows, a gateway that answers HTTP, and the way between them.

A draw is a function of its seed and index, so a request whose replica dies goes on with another one, behind the rows
that were handed out already.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.config import validate
from difflm.errors import ClusterError, DiffLMError
from difflm.runtime.process import last_line
from difflm.runtime.serve_processes import listen_as_the_node_does
from difflm.runtime.worker_precision import worker_precision
from difflm.serving.app import create_app
from difflm.serving.backend import BundleRef, RowsWanted
from difflm.serving.config import ServeConfig
from difflm.serving.fair_queue import Chunk
from difflm.serving.jobs import Jobs
from difflm.serving.limits import KeyRing, read_keys
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service

if TYPE_CHECKING:
    import pyarrow as pa

APPLICATION = "difflm"
LOSSES = 5  # replicas that may die or break under one request
BREAKS = 2  # of these, engines that may break: what broke one may be the request itself, which is to break no more
_AGAIN_S = 0.2  # before the first repetition; twice as long before every further one
_HEALTH_S = 0.5  # between two looks at a replica: one that died is replaced at the next, one that broke after three
_LOOK_BACK_S = 15.0  # what replicas report every ten seconds is averaged over; Serve wants more than one report in it
_PRECISION_TIMEOUT_S = 600.0  # until a node is there that a replica fits on
_SLACK = 16  # calls beside those that draw rows


class Sampler:
    """A replica: its bundles, and the batch of each. Serve sends it requests once the first bundles are loaded."""

    def __init__(self, config: ServeConfig) -> None:
        import torch

        listen_as_the_node_does()
        torch.set_num_threads(max(1, int(config.replicas.cpus)))
        self._backend = LocalBackend(config)
        self._backend.load_first()

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        """See `RowsBackend`."""
        chunks = self._backend.sample(wanted)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        """See `RowsBackend`."""
        return await self._backend.encode(bundle, table)

    async def load(self, bundle: BundleRef) -> None:
        """See `RowsBackend`."""
        await self._backend.load(bundle)

    def process(self) -> int:
        """Return the id of this process."""
        return os.getpid()

    def check_health(self) -> None:
        """Raise where this replica is broken; Serve replaces it then."""
        if not self._backend.alive:
            raise ClusterError("the engine of a bundle broke")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Report what `serving_scaling` decides by."""
        return {"queued_rows": float(self._backend.unfinished_rows)}


class HandleBackend:
    """A `RowsBackend` of replicas."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        """See `RowsBackend`. A replica that dies or breaks is replaced by another one."""
        ends, at, breaks = time.monotonic() + wanted.deadline_s, wanted.start, 0
        for loss in range(LOSSES + 1):
            left = replace(wanted, start=at, deadline_s=max(0.001, ends - time.monotonic()))
            calls = self._handle.options(stream=True).sample.remote(left)
            try:
                async for chunk in calls:
                    if chunk.failure == "engine" and breaks < BREAKS and loss < LOSSES:
                        breaks += 1
                        break
                    at += len(chunk.rows) + len(chunk.given_up)
                    yield chunk
                    if chunk.done or chunk.failure is not None:
                        return
            except Exception as error:
                if not _is_lost(error) or loss == LOSSES:
                    raise _told(error) from None
            finally:
                calls.cancel()
            await asyncio.sleep(_AGAIN_S * 2**loss)
        raise ClusterError("the processes that draw rows end again and again")

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        """See `RowsBackend`."""
        try:
            latents: list[list[float]] = await self._handle.encode.remote(bundle, table)
        except Exception as error:
            raise _told(error) from None
        return latents

    async def load(self, bundle: BundleRef) -> None:
        """See `RowsBackend`."""
        try:
            await self._handle.load.remote(bundle)
        except Exception as error:
            raise _told(error) from None


class Gateway:
    """The process that answers HTTP."""

    def __init__(self, config: ServeConfig, sampler: Any) -> None:
        listen_as_the_node_does()
        ring = None
        if config.keys_file is not None:
            file = Path(config.keys_file)
            ring = KeyRing(read_keys(file), time.monotonic, file=file, every_s=config.refresh_s)
        self._service = Service(config, HandleBackend(sampler), ring=ring, jobs=_jobs(config, ring))

    def __serve_build_asgi_app__(self) -> Any:
        return create_app(self._service)

    async def close(self) -> int:
        """Take no more requests and wait for those under way; returns how many are left when their time is up."""
        return await self._service.traffic.close(self._service.config.limits.deadline_s)


def application(args: Mapping[str, Any]) -> Any:
    """Build the Serve application of a ServeConfig given as JSON, as `serve deploy` does with infra/ray/serve.yaml."""
    config = validate(ServeConfig, args, "args")
    gateway = (
        _ray_serve()
        .deployment(_ray_serve().ingress()(Gateway))
        .options(
            name="gateway",
            ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=2 * config.limits.outstanding_requests + _SLACK,  # those beyond the limit are told so
            graceful_shutdown_timeout_s=config.limits.deadline_s,
        )
    )
    return gateway.bind(config, sampler(config))


def sampler(config: ServeConfig) -> Any:
    """Bind the replicas of an application."""
    limits, replicas = config.limits, config.replicas
    deployment = (
        _ray_serve()
        .deployment(Sampler)
        .options(
            name="sampler",
            ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
            max_ongoing_requests=limits.outstanding_requests + _SLACK,
            graceful_shutdown_timeout_s=limits.deadline_s,
            health_check_period_s=_HEALTH_S,
            autoscaling_config={
                "min_replicas": replicas.min_replicas,
                "initial_replicas": max(1, replicas.min_replicas),
                "max_replicas": replicas.max_replicas,
                "upscale_delay_s": replicas.upscale_delay_s,
                "downscale_delay_s": replicas.downscale_delay_s,
                "look_back_period_s": _LOOK_BACK_S,
                "policy": {
                    "policy_function": "difflm.runtime.serving_scaling:QueuedRowsPolicy",
                    "policy_kwargs": {"target_queued_rows": replicas.target_queued_rows},
                },
            },
        )
    )
    return deployment.bind(config)


def start(config: ServeConfig) -> None:
    """Begin to serve on the cluster that this process is connected to; return when the processes run.

    All replicas draw in the same precision, so that one can go on with what another began.

    Raises:
        ClusterError: they could not be started, for instance because the port is taken.
    """
    from ray.exceptions import RayError

    serve = _ray_serve()
    config = _with_one_precision(config)
    try:
        serve.start(proxy_location="HeadOnly", http_options=http_options(config))
        serve.run(application(config.model_dump(mode="json")), name=APPLICATION, route_prefix="/")
    except (RayError, RuntimeError, ValueError, OSError) as error:
        # What a process of Serve raised has its traceback in front.
        reason = last_line(error) if isinstance(error, RayError) else " ".join(str(error).split())[:300]
        raise ClusterError(
            f"the server could not be started ({reason}); look into Ray's logs of the session"
        ) from error


def _with_one_precision(config: ServeConfig) -> ServeConfig:
    replicas = config.replicas
    chosen = worker_precision(
        config.sampling.precision, cpus=replicas.cpus, gpus=replicas.gpus, timeout_s=_PRECISION_TIMEOUT_S
    )
    return config.model_copy(update={"sampling": config.sampling.model_copy(update={"precision": chosen})})


def close() -> None:
    """Let no more requests in and answer those under way, each within its deadline; Serve's own end waits for none."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    with suppress(RayError, RayServeException):  # a gateway that is gone has nothing under way
        _ray_serve().get_app_handle(APPLICATION).close.remote().result()


def stop() -> None:
    """End what `start` began; requests under way are answered first."""
    close()
    _ray_serve().shutdown()


def http_options(config: ServeConfig) -> dict[str, Any]:
    """Return where and how Serve's proxies listen."""
    options: dict[str, Any] = {
        "host": config.http.host,
        "port": config.http.port,
        "request_timeout_s": config.limits.deadline_s + config.limits.upload_s + 10.0,
    }
    if config.http.certificate_file is not None:
        options |= {"ssl_certfile": config.http.certificate_file, "ssl_keyfile": config.http.key_file}
    return options


def deployable(config: ServeConfig) -> dict[str, Any]:
    """Write out what `serve deploy` reads."""
    return {
        "proxy_location": "EveryNode",
        "http_options": http_options(config),
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "difflm.runtime.serving:application",
                "args": config.model_dump(mode="json"),
            }
        ],
    }


def _ray_serve() -> Any:
    """Import Ray Serve, without what it logs of its own steps into this process's terminal."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return serve


def _jobs(config: ServeConfig, ring: KeyRing | None) -> Jobs | None:
    """Make the jobs, which run on the cluster that serves, beside the replicas."""
    if config.jobs_folder is None:
        return None
    import ray

    address = ray.get_runtime_context().gcs_address
    return Jobs(
        Path(config.jobs_folder),
        most=config.limits.jobs,
        kept=config.limits.kept,
        settings=[f"runtime.cluster.address={address}"],
        owners=() if ring is None else ring.owners,
    )


def _is_lost(error: Exception) -> bool:
    """Tell whether a call failed because its replica is gone, not because of what was asked."""
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import ReplicaUnavailableError

    return isinstance(error, RayActorError | ReplicaUnavailableError)


def _told(error: Exception) -> DiffLMError:
    """Return the error that was raised on purpose in another process, or one about the cluster."""
    cause = getattr(error, "cause", None)
    for known in (error, cause):
        if isinstance(known, DiffLMError) and not hasattr(known, "cause"):
            return known
    return ClusterError(f"a process that draws rows failed ({type(cause or error).__name__})")
