"""Learn, sample and evaluate one table from Python in one process, beside `difflm run` of the same preset on Ray.

    python tests/benchmarks/in_process.py           # demo; about ten minutes on two quiet cores

Both start from nothing, one after the other, each in a process of its own. The run's overhead is its wall time less the
computing of its stages: what starting Ray and its processes takes. The record says whether the bundles are the same.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from presets import RESULTS, measured
from provenance import provenance

FIT = """
import sys, time
import pyarrow.parquet as pq
import difflm

generator = difflm.fit(sys.argv[1], out=sys.argv[2], progress=False)
fitted = time.time()
rows = generator.sample(1000, seed=1)
sampled = time.time()
table, = __import__("pathlib").Path(sys.argv[2]).glob("artifacts/table-*")
real = {name: pq.read_table(table / f"{name}.parquet") for name in ("train", "test")}
report = difflm.evaluate(rows, train=real["train"], test=real["test"], target=generator.schema.target)
assert "ray" not in sys.modules
print(fitted, sampled, time.time(), report.score("shape_error").value, report.score("c2st_auc").value)
"""


def main(
    preset: Annotated[str, typer.Argument(help="name of a preset")] = "demo",
    out: Annotated[Path, typer.Option(help="the record")] = RESULTS / "in_process.json",
) -> None:
    """Time both ways and write the record."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        started = time.time()
        subprocess.run([sys.executable, "-m", "difflm_jobs", "run", preset, "--runs", str(root / "ray")], check=True)
        run_seconds = time.time() - started
        started = time.time()
        command = [sys.executable, "-c", FIT, preset, str(root / "here" / preset)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        fitted, sampled, ended, shape, detection = map(float, printed.split())
        record: dict[str, Any] = {
            "command": f"python tests/benchmarks/in_process.py {preset}",
            **provenance(),
            "run": {"wall_seconds": round(run_seconds, 1), **_overhead(measured(root / "ray" / preset))},
            "python": {
                "fit_seconds": round(fitted - started, 1),
                "sample_1000_seconds": round(sampled - fitted, 1),
                "evaluate_seconds": round(ended - sampled, 1),
                "wall_seconds": round(ended - started, 1),
                "shape_error": shape,
                "c2st_auc": detection,
            },
            "same_bundle": _bundle(root / "ray" / preset) == _bundle(root / "here" / preset),
        }
    out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def _overhead(run: dict[str, Any]) -> dict[str, Any]:
    compute = sum(stage["compute_seconds"] for stage in run["stages"].values())
    return {"compute_seconds": round(compute, 1), "overhead_seconds": round(run["wall_seconds"] - compute, 1)}


def _bundle(experiment: Path) -> dict[str, bytes]:
    """The contents of every file of the bundle but the artifact's manifest, which has times in it."""
    (bundle,) = (experiment / "artifacts").glob("bundle-*")
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(bundle)): path.read_bytes() for path in files}


if __name__ == "__main__":
    typer.run(main)
