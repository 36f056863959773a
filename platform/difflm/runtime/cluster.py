"""Cluster: the Ray cluster this process works on, one it starts on this machine or one that is already there."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import socket
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from difflm.config import Config
from difflm.errors import ClusterError
from difflm.runtime.process import handler_kept, usable_processors, without_log_level_line

_PACKAGES = ("difflm", "difflm_evaluators", "difflm_jobs")
_METRICS = "RAY_enable_metrics_collection"
LOOPBACK = "127.0.0.1"
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# Read by Ray when it is imported or started. Only defaults: what the environment already says stays.
_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it ray.init warns that this will be the behaviour one day
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a stray call after the end must not start a second cluster
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # 2 s by default: what a run waits for when it starts and ends
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "difflm.runtime.serve_processes:middlewares",  # their errors are ours
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # 5 s by default, which a busy machine exceeds
    "SERVE_SOCKET_REUSE_PORT_ENABLED": "0",  # else a second server takes half of the first one's connections
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_worker_niceness": "0",  # 15 by default, so that anything else on the machine would starve a training
    # Threads of a parallel region wait asleep. By default they spin, and where other work wants the processors, what a
    # thread waits for is not even running: a training beside it then took ten times as long.
    "OMP_WAIT_POLICY": "passive",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else Ray prints its own lines between ours, also when nothing is wrong
}


class ClusterConfig(Config):
    """Where to run. Without an address the variable RAY_ADDRESS decides; without either, Ray is started here."""

    address: str | None = Field(
        default=None, description="An existing cluster ('auto', host:port); 'local' starts one."
    )
    num_cpus: int | None = Field(default=None, ge=1, description="CPUs of a local cluster; none: all it may use.")
    num_gpus: int | None = Field(default=None, ge=0, description="GPUs of a local cluster; none: all of this machine.")
    object_store_mib: int = Field(default=512, ge=80, description="Shared-memory object store of a local cluster.")
    dashboard: bool = Field(default=False, description="Serve Ray's dashboard on this machine (local cluster only).")
    metrics: bool = Field(
        default=False, description="Open Ray's metrics port to this machine, without a password (local cluster only)."
    )
    verbose: bool = Field(default=False, description="Print what Ray and its workers log.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterContext:
    """The cluster this process is connected to; `local` says that it was started, and ends, with this process.

    `loopback` says that its nodes are at 127.0.0.1: all of them are this machine.
    """

    local: bool
    address: str
    num_cpus: float
    num_gpus: float
    nodes: int
    loopback: bool = False


_context: ClusterContext | None = None


def start_or_connect(config: ClusterConfig) -> ClusterContext:
    """Connect to the configured cluster or start one here, once per process: later calls return the first one's
    context.

    Token authentication follows RAY_AUTH_MODE and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, which Ray reads itself.
    Inside a `ray job submit` driver it joins that cluster with the job's own runtime environment. Nothing needs the
    dashboard.

    Raises ClusterError when the cluster cannot be reached or started.
    """
    global _context
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    ray = _import_ray()
    if ray.is_initialized():
        if _context is None:
            _context = _describe(ray, local=False)
        return _context
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    try:
        # Where the program has no handler of its own, Ray's one stays.
        own = callable(signal.getsignal(signal.SIGTERM))
        with handler_kept(signal.SIGTERM) if own else nullcontext(), without_log_level_line():
            if local:
                _start(ray, config)
            else:
                _connect(ray, address, config)
    except Exception as error:  # Ray has no class for a node that does not start in time: it raises Exception itself
        raise ClusterError(_explain(address, error)) from error
    _context = _describe(ray, local=local)
    return _context


def current_context() -> ClusterContext:
    """Return the context of `start_or_connect`; raise ClusterError when it was not called."""
    if _context is None or not _import_ray().is_initialized():
        raise ClusterError("no Ray cluster: call difflm.runtime.cluster.start_or_connect first")
    return _context


def stop() -> None:
    """Disconnect; a local cluster ends with all its processes."""
    global _context
    _context = None
    _import_ray().shutdown()


def source_roots() -> list[str]:
    """List folders of this project's packages outside site-packages: what workers need on PYTHONPATH in a clone."""
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    roots: list[str] = []
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).resolve().parent.parent
            if root not in installed and str(root) not in roots:
                roots.append(str(root))
    return roots


def in_ray_job() -> bool:
    """Tell whether this process is the driver of `ray job submit`."""
    return _JOB_VARIABLE in os.environ


def require_resources(context: ClusterContext, *, cpus: float, gpus: float, purpose: str) -> None:
    """Raise ClusterError for what a local cluster can never hold; other ones may grow, so Ray waits there."""
    if not context.local:
        return
    for name, wanted, present in (("CPUs", cpus, context.num_cpus), ("GPUs", gpus, context.num_gpus)):
        if wanted > present:
            raise ClusterError(
                f"{purpose} needs {wanted:g} {name} and the local cluster has {present:g}; ask for fewer workers or "
                f"resources per worker, or set runtime.cluster.num_{name.lower()}"
            )


def _start(ray: Any, config: ClusterConfig) -> None:
    """Start Ray here. Its processes inherit PYTHONPATH, so workers need no runtime environment and can be
    pre-started. What lies on the disk of it, its token first of all, is for this user alone, and its ports are open to
    this machine alone.
    """
    if not os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        keep_token_private(Path.home() / ".ray" / "auth_token")
    with _variable("PYTHONPATH", _python_path()), _variable(_METRICS, str(int(config.metrics))), _loopback(ray):
        ray.init(
            address="local",
            _node_ip_address=LOOPBACK,
            _temp_dir=str(_private_folder() / "ray"),
            num_cpus=config.num_cpus or usable_processors(),
            num_gpus=config.num_gpus,
            object_store_memory=config.object_store_mib * 2**20,
            include_dashboard=config.dashboard,
            log_to_driver=config.verbose,
            logging_level=logging.INFO if config.verbose else logging.ERROR,
        )


def _private_folder() -> Path:
    """Return a folder that no other user may enter: what Ray makes in it everybody might write to, as soon as a worker
    starts.
    """
    base = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")  # paths of sockets are to be short
    folder = base / f"difflm-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            folder.chmod(0o700)
            return folder
    return Path(tempfile.mkdtemp(prefix="difflm-", dir=base))  # somebody else made it first


def keep_token_private(path: Path) -> None:
    """Make the token of this user's clusters where there is none, as Ray would do for everybody to read, or take the
    permission to read it from others. Nothing happens where that is impossible: Ray says so itself.
    """
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            path.chmod(0o600)
        else:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))


def _connect(ray: Any, address: str, config: ClusterConfig) -> None:
    roots = source_roots()
    environment = None if in_ray_job() or not roots else {"env_vars": {"PYTHONPATH": os.pathsep.join(roots)}}
    with _loopback(ray) if _listens_on_loopback_only(ray, address) else nullcontext():
        ray.init(
            address=address,
            runtime_env=environment,
            log_to_driver=config.verbose,
            logging_level=logging.INFO if config.verbose else logging.ERROR,
        )


def _listens_on_loopback_only(ray: Any, address: str) -> bool:
    """Tell whether a cluster at an address is one that `_start` started, in another process of this machine."""
    host, _, port = address.rpartition(":")
    if host != LOOPBACK or not port.isdecimal():
        return False
    try:
        socket.create_connection((ray.util.get_node_ip_address(), int(port)), timeout=5.0).close()
    except OSError:
        return True
    return False


def _python_path() -> str:
    """Return PYTHONPATH with the source roots first."""
    parts = [*source_roots(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(part for part in parts if part)


@contextmanager
def _loopback(ray: Any) -> Iterator[None]:
    """Let 127.0.0.1 stay what it is within, as the address of a node that is started, whose servers then listen there
    and nowhere else, or as that of a cluster.

    On Linux Ray puts another address in its place, so that other machines can join; there is no argument for it. Where
    a later version has another switch, ports are open as they were, and tests/security/test_running_server.py says so.
    """
    constants = ray._private.ray_constants
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for the processes started within."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _describe(ray: Any, *, local: bool) -> ClusterContext:
    total = ray.cluster_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return ClusterContext(
        local=local,
        address=ray.get_runtime_context().gcs_address,
        num_cpus=float(total.get("CPU", 0.0)),
        num_gpus=float(total.get("GPU", 0.0)),
        nodes=len(nodes),
        loopback=all(node["NodeManagerAddress"] == LOOPBACK for node in nodes),
    )


def _explain(address: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    if address == "local":
        logs = _private_folder() / "ray" / "session_latest" / "logs"
        return f"Ray could not be started on this machine ({reason}); look into {logs}"
    return (
        f"the Ray cluster at {address} cannot be used ({reason}); check the address (cluster.address or RAY_ADDRESS) "
        "and, where it asks for a token, RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    )


def _import_ray() -> Any:
    """Import Ray when it is first needed; a module that is already there is not imported again."""
    if "ray" in sys.modules:
        return sys.modules["ray"]
    import ray

    return ray
