"""Script: a copy of an experiment on a small disk of its own, which fills up while a stage writes.

Called in a mount namespace (`unshare --mount`), where it mounts a tmpfs. Arguments: the finished experiment's folder,
the empty folder to mount at, the file that gets what was seen, as JSON (Ray may print between our own lines, so
standard output is no place for it). The disk is filled with a ballast file, so that what the system then answers is
real. All calls are made in this process and on one Ray, whose workers see the small disk as well.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

from difflm.runtime.cluster import ClusterConfig, start_or_connect, stop
from difflm.runtime.compute import LocalCompute
from difflm_jobs.cli.main import main as difflm

KIB = 1024
SIZE_KIB = 32 * KIB


@dataclass(frozen=True)
class Call:
    """A call of the command line: how it ended, and what then lay on the disk, of how many bytes."""

    code: int
    err: str
    files: dict[str, int]


@dataclass(frozen=True)
class Disk:
    """The small disk, with the experiment in it."""

    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def call(self, *arguments: str) -> Call:
        code, err = call(arguments)
        files = {
            path.relative_to(self.folder).as_posix(): path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file() and path != self.ballast
        }
        return Call(code, err, files)

    def leave(self, kib: int) -> None:
        """Fill the disk but for so much."""
        free_kib = shutil.disk_usage(self.folder).free // KIB - kib
        with self.ballast.open("wb") as file:
            for _ in range(free_kib):
                file.write(bytes(KIB))

    def with_little_room(self, kib: int, *arguments: str) -> tuple[Call, Call]:
        """The same call twice: with little room, and again with enough."""
        self.leave(kib)
        first = self.call(*arguments)
        self.ballast.unlink()
        return first, self.call(*arguments)


def call(arguments: tuple[str, ...]) -> tuple[int, str]:
    """The command line's exit code and what it wrote to standard error."""
    said = io.StringIO()
    with patch.object(sys, "argv", ["difflm", *arguments]), redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            difflm()
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    raise AssertionError("the command line has not ended")


def main(finished: Path, folder: Path, seen: Path) -> None:
    """Train the prior again, make rows again, export rows and write parts; each with a full disk first."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_KIB}k", "tmpfs", str(folder)], check=True)
    disk = Disk(folder / "disk")
    shutil.copytree(finished, disk.folder)
    artifacts = disk.folder / "runs" / "tiny" / "artifacts"
    for kind in ("prior", "bundle", "synthetic", "report"):
        for path in artifacts.glob(f"{kind}-*"):
            shutil.rmtree(path)
    os.chdir(disk.folder)
    start_or_connect(ClusterConfig(address="local", num_cpus=1, object_store_mib=128))
    with patch("difflm.runtime.cluster.stop"):
        calls = fill_again_and_again(disk)
    stop()
    hashes = {path.parent.name: json.loads(path.read_text())["files"] for path in artifacts.glob("*/manifest.json")}
    told = {name: [asdict(call) for call in pair] for name, pair in calls.items()}
    rows = len((disk.folder / "rows.jsonl").read_text().splitlines())
    seen.write_text(json.dumps({"calls": told, "artifacts": hashes, "rows": rows}), encoding="utf-8")


def fill_again_and_again(disk: Disk) -> dict[str, tuple[Call, Call]]:
    """Each call with little room and with enough, by what it was to write."""
    rows = ["synthesize", "runs/tiny", "--rows", "300", "--seed", "3"]
    rows += ["--set", "sampling={steps: 5, precision: float32}"]
    export = ["--out", "rows.jsonl", "--set", "runtime.synthesis.rows_per_shard=300"]
    parts = ["--out", "parts", "--set", "runtime.synthesis.rows_per_shard=10"]
    training = disk.with_little_room(ROOM_KIB["training"], "train-diffusion", "tiny.yaml")
    disk.call("assemble", "tiny.yaml")
    synthesis = disk.with_little_room(ROOM_KIB["synthesis"], "run", "tiny.yaml", "--until", "synthesize")
    with patch("difflm.runtime.compute.RayCompute", LocalCompute):  # a worker that meets a full disk is above
        exported = disk.with_little_room(ROOM_KIB["export"], *rows, *export)
        parted = disk.with_little_room(ROOM_KIB["parts"], *rows, *parts)
    return {"training": training, "synthesis": synthesis, "export": exported, "parts": parted}


# Less than a checkpoint; some shards of 30; the only shard, but not the same rows as JSON; some parts of 30.
ROOM_KIB = {"training": 40, "synthesis": 40, "export": 16, "parts": 40}

if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
