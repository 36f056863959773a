"""Kill a synthesis again and again, and count what is lost or doubled: it must be nothing.

    python tests/benchmarks/kills.py                     # 20 runs, records in tests/benchmarks/results/kills.json
    python tests/benchmarks/kills.py --runs 3 --rows 500

Each run begins an empty dataset, and at a random moment (seeded) something is killed with SIGKILL: an actor, the raylet
with the whole node, or the driver. The same command is given until it ends well. Then `difflm verify` must find every
index exactly once, and the bytes must be those of an undisturbed run. The bundle is untrained and tiny.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from provenance import provenance

from difflm.testing.bundles import untrained_stages
from difflm.testing.processes import ChildProcess, assert_no_orphans, kill_pid, marked_pids
from difflm.testing.tables import mixed_table

RESULTS = Path(__file__).parent / "results"
TARGETS = ("actor", "raylet", "driver")
SETTINGS = ("sampling={steps: 3, precision: float32, text_tokens: 8}", "runtime.synthesis.rows_per_shard=10",
            "runtime.cluster={num_cpus: 2, object_store_mib: 100}")  # fmt: skip
TIMEOUT_S = 600


def main(
    runs: Annotated[int, typer.Option(min=1, help="disturbed runs")] = 20,
    rows: Annotated[int, typer.Option(help="rows of each")] = 1500,
    seed: Annotated[int, typer.Option(help="of moments and targets")] = 0,
) -> None:
    """Run them all and write results/kills.json; ends with code 1 when a row was lost, doubled or changed."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bundle = untrained_stages(root / "stages", mixed_table(40)).bundle
        started = time.monotonic()
        assert one(command(bundle, rows, root / "undisturbed"), root / "log") == 0, (root / "log").read_text()
        whole: dict[str, Any] = {"parts": contents(root / "undisturbed"), "seconds": time.monotonic() - started}
        facts = {
            "command": f"{Path(__file__).name} --runs {runs} --rows {rows} --seed {seed}",
            **provenance(),
            "rows": rows,
            "undisturbed_seconds": round(whole["seconds"], 1),
        }
        records: list[dict[str, Any]] = []
        for number in range(runs):
            target, out = TARGETS[number % len(TARGETS)], root / str(number)
            records.append(disturbed(command(bundle, rows, out), out, target, draw, whole))
            print(json.dumps(records[-1]), flush=True)
            sums = {name: sum(found[name] for found in records) for name in ("verified", "equal")}
            record = {**facts, **sums, "runs": records}  # written each time: what is done counts if it is stopped
            (RESULTS / "kills.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{sums['verified']} of {runs} verified, {sums['equal']} of {runs} equal to the byte")
    sys.exit(0 if sums["equal"] == sums["verified"] == runs else 1)


def disturbed(
    arguments: list[str], out: Path, target: str, draw: random.Random, whole: dict[str, Any]
) -> dict[str, Any]:
    """One run with one kill, and what it took until the dataset was whole."""
    log = out.with_suffix(".log")
    started = time.monotonic()
    child = ChildProcess.start(arguments, output=log, environment=environment())
    moment = draw.uniform(0.05, 0.95)
    aim = moment * len(whole["parts"])
    deadline = time.monotonic() + TIMEOUT_S
    while committed(out) < aim and child.running() and time.monotonic() < deadline:
        time.sleep(0.02)
    at = committed(out)
    victims = pids(child, target)
    if victims:
        kill_pid(draw.choice(victims))
    code = child.wait(timeout_s=TIMEOUT_S)
    commands = 1
    while code != 0 and commands < 5:
        code = one(arguments, log)
        commands += 1
    assert_no_orphans(child.marker)
    verify = [sys.executable, "-m", "difflm_jobs", "verify", str(out)]
    verified = subprocess.run(verify, env={**os.environ, **environment()}, capture_output=True, check=False)
    return {
        "killed": target if victims else None,
        "seconds": round(time.monotonic() - started, 1),
        "parts_then": at,
        "commands": commands,
        "verified": verified.returncode == 0,
        "equal": contents(out) == whole["parts"],
    }


def pids(child: ChildProcess, target: str) -> list[int]:
    """What may be killed: processes of this run only."""
    if target == "driver":
        return [child.process.pid]
    found = []
    for pid in marked_pids(child.marker):
        try:
            process = psutil.Process(pid)
            title = " ".join(process.cmdline())
            if process.name() == "raylet" if target == "raylet" else "ray::MapWorker" in title:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def committed(out: Path) -> int:
    """Parts that count."""
    return len(list((out / "entries").glob("part-*.json")))


def contents(out: Path) -> dict[str, str]:
    """Names and hashes of all parts."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / "data").iterdir())}


def command(bundle: Path, rows: int, out: Path) -> list[str]:
    """The command line of a run."""
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    given = ["synthesize", str(bundle), "--rows", str(rows), "--out", str(out), *settings]
    return [sys.executable, "-m", "difflm_jobs", *given]


def one(arguments: list[str], log: Path) -> int:
    """Run it to its end."""
    return ChildProcess.start(arguments, output=log, environment=environment()).wait(timeout_s=TIMEOUT_S)


def environment() -> dict[str, str]:
    """The source roots, for the command line in another process."""
    root = Path(__file__).resolve().parents[2]
    return {"PYTHONPATH": os.pathsep.join(str(root / name) for name in ("platform", "evaluators", "jobs"))}


if __name__ == "__main__":
    typer.run(main)
