"""`difflm serve`: bundles behind HTTP on this machine, or the file that `serve deploy` takes to a cluster."""

from __future__ import annotations

import errno
import os
import signal
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from difflm.errors import ConfigError
from difflm.extras import require
from difflm_jobs.cli.sharing.signing import SignedBy, signer_setting
from difflm_jobs.cli.terminal import Set, progress_output

if TYPE_CHECKING:
    from rich.console import Console

    from difflm.runtime.cluster import ClusterConfig
    from difflm.serving.config import HttpConfig, ServeConfig
    from difflm_jobs.config import ServeSettings

_DEPLOYABLE = "# Written by difflm serve --build;"
_FILES = ("keys_file", "jobs_folder")

serve_app = typer.Typer()


@serve_app.command()
def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]BUNDLE...", help="Bundles, their files, hf://owner/name, or runs."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with the keys server and cluster.")] = None,
    port: Annotated[int | None, typer.Option(help="Where to listen; the host is server.http.host.")] = None,
    build: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what `serve deploy` reads instead of serving.")
    ] = None,
    signed_by: SignedBy = None,
    changes: Set = None,
) -> None:
    """Answer requests for rows over HTTP, and show a page for people."""
    require("serve", "difflm serve")
    overrides = [*(changes or ()), *signer_setting(signed_by, "server.sampling")]
    settings = read_settings(bundles or (), config=config, port=port, overrides=overrides)
    if build is not None:
        write_deployable(settings, build)
    else:
        serve_until_stopped(settings, progress_output())


@serve_app.command("serve-key")
def serve_key(
    name: Annotated[str, typer.Argument(help="What metrics call the key.")],
    keys: Annotated[Path, typer.Option(help="The file of hashes, for server.keys_file.")],
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    rows_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
) -> None:
    """Make a key for `difflm serve`, print it once, and keep its hash."""
    from difflm.serving.limits import add_key

    print(add_key(keys, name, requests_per_minute=requests_per_minute, rows_per_minute=rows_per_minute))


def read_settings(
    bundles: Sequence[str], *, config: Path | None, port: int | None, overrides: Sequence[str]
) -> ServeSettings:
    """Put together the server that a command line asks for, every path absolute, every bundle looked at.

    Raises:
        ConfigError: a setting, or a bundle's name, that cannot be used.
        BundleError: there is no bundle at a path.
    """
    from difflm.config import apply_overrides, load_yaml, validate
    from difflm_jobs.config import ServeSettings
    from difflm_jobs.inputs.models import find_bundle

    data: dict[str, Any] = {} if config is None else load_yaml(config)
    data = apply_overrides(data, overrides)
    server = _section(data, "server")
    if bundles:
        server["bundles"] = [_served(text) for text in bundles]
    if port is not None:
        _section(server, "http")["port"] = port
    if not server.get("bundles"):
        raise ConfigError("no bundle given; for example: difflm serve runs/adult")
    settings = validate(ServeSettings, data, str(config) if config is not None else "--set", overrides)
    trust = settings.server.sampling
    for bundle in settings.server.bundles:
        find_bundle(Path(bundle.path), allow_local_base=trust.allow_local_base, signed_by=trust.signed_by)
    return settings.model_copy(update={"server": _absolute(settings.server)})


def _section(data: dict[str, Any], key: str) -> dict[str, Any]:
    section = data.setdefault(key, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{key}: expected keys and values, found {section!r}; see docs/guide/serving.md")
    return section


def _served(text: str) -> dict[str, str]:
    """Read `NAME=PATH`, or a path, whose last part is the name."""
    from difflm.synthesis.sharing.places import short_name

    name, separator, path = text.partition("=")
    return {"name": name, "path": path} if separator else {"name": short_name(text), "path": text}


def _absolute(server: ServeConfig) -> ServeConfig:
    """Return the server with absolute paths. A repository is fetched now, and its folder served; a file stays one, so
    that another one in its place is served without a restart.
    """
    bundles = [bundle.model_copy(update={"path": _absolute_path(bundle.path)}) for bundle in server.bundles]
    given = {name: value for name in _FILES if (value := getattr(server, name)) is not None}
    files = {name: str(Path(value).absolute()) for name, value in given.items()}
    http = server.http
    if http.certificate_file is not None and http.key_file is not None:
        pair = {"certificate_file": http.certificate_file, "key_file": http.key_file}
        http = http.model_copy(update={name: str(Path(value).absolute()) for name, value in pair.items()})
    return server.model_copy(update={"bundles": bundles, "http": http, **files})


def _absolute_path(given: str) -> str:
    from difflm.synthesis.sharing.hub import HubPlace
    from difflm.synthesis.sharing.places import local_folder

    return str((local_folder(given) if HubPlace.is_one(given) else Path(given)).absolute())


def write_deployable(settings: ServeSettings, path: Path) -> None:
    """Write what `serve deploy` reads.

    Raises:
        ConfigError: something else is there.
        StorageError: it cannot be written.
    """
    import yaml

    from difflm.artifacts.atomic import storage_errors, write_bytes_atomic
    from difflm.runtime.serving import deployable

    if path.exists() and not _is_deployable(path):
        raise ConfigError(f"--build {path}: is there already, and none that --build wrote; give another name")
    head = f"{_DEPLOYABLE} deploy it with: serve deploy {path.name}\n"
    text = head + yaml.safe_dump(deployable(settings.server), sort_keys=False, width=100)
    with storage_errors(path):
        write_bytes_atomic(path, text.encode())


def _is_deployable(path: Path) -> bool:
    """Tell whether a file is one that `write_deployable` wrote."""
    from difflm.regular_files import read_file

    try:
        return read_file(path).startswith(_DEPLOYABLE.encode())
    except (OSError, ValueError):
        return False


def check_port(host: str, port: int) -> None:
    """Refuse an address that another server listens at.

    Serve's proxies may share a port with whoever allows it, so a second server would answer half of the requests of the
    first, with other keys or with none. A plain bind shares with nobody.

    Raises:
        ConfigError: the port is taken, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was closed a moment ago is free
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"port {port} of {host} is taken by another server; give --port") from None
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise ConfigError(f"server.http: cannot listen at {host}:{port} ({reason}); give another") from None


def check_certificate(http: HttpConfig) -> None:
    """Refuse a certificate that nobody could be answered with: Serve's proxies would only log that they cannot.

    Raises:
        ConfigError: it or its key cannot be read, they do not go together, or the key has a passphrase.
    """
    if http.certificate_file is None or http.key_file is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(http.certificate_file, http.key_file, password="")  # which asks nobody for another
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"server.http: {http.certificate_file} and {http.key_file} cannot be used ({str(reason).lower()}); give a "
            "certificate and its key, without a passphrase, in PEM"
        ) from None


def with_room_for_jobs(settings: ServeSettings) -> ClusterConfig:
    """Return the cluster with one CPU more where there may be jobs, should it be started here.

    Replicas may take all that there are for as long as the server lives: a job would wait for one, and all jobs behind
    it, without end.
    """
    if settings.server.jobs_folder is None:
        return settings.cluster
    from difflm.runtime.process import usable_processors

    usable = settings.cluster.num_cpus or usable_processors()
    return settings.cluster.model_copy(update={"num_cpus": usable + 1})


def within_room(server: ServeConfig, cpus: float) -> ServeConfig:
    """Return the server with no more replicas than leave a job its CPU, of so many in all."""
    replicas = server.replicas
    if server.jobs_folder is None:
        return server
    most = max(replicas.min_replicas, min(replicas.max_replicas, int((cpus - 1) / replicas.cpus)), 1)
    return server.model_copy(update={"replicas": replicas.model_copy(update={"max_replicas": most})})


def serve_until_stopped(settings: ServeSettings, console: Console) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered before the end.

    Raises:
        ConfigError: the file of keys or the certificate cannot be used, or the port is taken.
        ClusterError: the cluster or the server cannot be started.
    """
    from difflm.runtime import cluster, serving
    from difflm.serving.limits import read_keys

    if settings.server.keys_file is not None:
        read_keys(Path(settings.server.keys_file))  # before any work; the server's own process reads it again
    check_certificate(settings.server.http)
    check_port(settings.server.http.host, settings.server.http.port)
    names = ", ".join(bundle.name for bundle in settings.server.bundles)
    console.print(f"starting what draws rows of {names}; this takes some seconds", highlight=False)
    stopped = threading.Event()
    before: dict[int, Any] = {
        number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        context = cluster.start_or_connect(with_room_for_jobs(settings))
        serving.start(within_room(settings.server, context.num_cpus) if context.local else settings.server)
        http = settings.server.http
        scheme = "http" if http.certificate_file is None else "https"
        console.print(f"serving {names} at {scheme}://{http.host}:{http.port}/ (Ctrl-C ends it)", highlight=False)
        stopped.wait()
        _handle(before)
        console.print("answering what is under way, then stopping; once more, and it stops at once")
        if context.local:
            serving.close()  # the rest ends with the cluster
        else:
            serving.stop()
    finally:
        cluster.stop()
        _handle(before)


def _handle(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
