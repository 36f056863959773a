"""A PostgreSQL server of one's own for the tests, where Debian's package is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from difflm.testing.clusters import free_port


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of an empty database, with a password, on this machine."""
    programs = _programs()
    if programs is None:
        pytest.skip("NO POSTGRESQL SERVER: install Debian's package postgresql to test with a real one")
    # The server refuses to run as root; its socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="difflm-pg-"))
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    port, data, password = free_port(), folder / "data", folder / "password"
    password.write_text("difflm")
    password.chmod(0o644)

    def run(name: str, *arguments: str) -> None:
        command = [*as_user, str(programs / name), *arguments]
        subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=120)

    run("initdb", "-D", str(data), "-U", "difflm", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    # Its output goes to a file: a pipe would stay open with the server.
    run("pg_ctl", "-D", str(data), "-w", "-t", "90", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://difflm:difflm@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
