"""Servers in this process for tests: of a service over a socket, of an object store, and a certificate for HTTPS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from difflm.serving.app import create_app
from difflm.serving.service import Service


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that is valid for a day, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files[1].write_bytes(encoded)
    return files


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server inside the block and yield its address; needs moto, a dependency of the tests only."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_environment(endpoint: str) -> dict[str, str]:
    """Return the environment variables with which a process finds the server, and is authorised."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    return {**keys, "AWS_ENDPOINT_URL": endpoint}


def new_bucket(endpoint: str) -> str:
    """Create a bucket on the server and return its URL."""
    from pyarrow.fs import S3FileSystem

    name = f"bucket-{secrets.token_hex(4)}"
    server = S3FileSystem(
        endpoint_override=endpoint,
        region="us-east-1",
        access_key="test",
        secret_key="test",  # the server takes any
        allow_bucket_creation=True,
    )
    server.create_dir(name)
    return f"s3://{name}"


@contextmanager
def running(options: uvicorn.Config, before: Callable[[], None] = lambda: None) -> Iterator[tuple[str, int]]:
    """Run a server in a thread, which calls `before` first, and yield its address."""
    server = uvicorn.Server(options)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            before()
            server.run(sockets=[listener])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served(service: Service) -> Iterator[str]:
    """Run a server whose bundles are loaded and yield its address, ending in a slash."""
    options = uvicorn.Config(
        create_app(service), ws="none", log_level="error", timeout_graceful_shutdown=1, loop="asyncio"
    )
    with running(options, before=lambda: asyncio.run(service.registry.refresh())) as (host, port):
        yield f"http://{host}:{port}/"
