"""How synthesis scales: with workers, with rows, and what memory it takes.

    python tests/benchmarks/scaling.py runs/adult             # a bundle, or a run that has one
    python tests/benchmarks/scaling.py runs/adult --rows 2000 --more 10

Measures rows per second with one and with two workers of one core each, the time of ten times as many rows over the
time of the first, and the peak memory of the driver and of every worker for both. Start-up (until the first shard is
done) is not in the rates, but is recorded. Writes results/scaling.json.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import provenance

RESULTS = Path(__file__).parent / "results"


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle, or a run that has one")],
    rows: Annotated[int, typer.Option(help="rows of the smaller jobs")] = 10_000,
    more: Annotated[int, typer.Option(help="how many times as many rows the larger job has")] = 10,
    per_shard: Annotated[int, typer.Option(help="rows of a shard")] = 1024,
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm synthesize")] = None,
) -> None:
    """Run the three jobs and write results/scaling.json."""
    changes = [f"runtime.synthesis.rows_per_shard={per_shard}", *(set_ or [])]
    jobs = {
        "one_worker": measured(bundle, rows, 1, changes),
        "two_workers": measured(bundle, rows, 2, changes),
        "two_workers_more_rows": measured(bundle, rows * more, 2, changes),
    }
    one, two, large = jobs["one_worker"], jobs["two_workers"], jobs["two_workers_more_rows"]
    extra = "".join(f" --set '{change}'" for change in set_ or [])
    record = {
        "command": f"{Path(__file__).name} {bundle} --rows {rows} --more {more} --per-shard {per_shard}{extra}",
        **provenance(),
        "speedup_of_two_workers": round(two["rows_per_second"] / one["rows_per_second"], 3),
        "seconds_ratio_of_more_rows": round(large["seconds"] / two["seconds"], 3),
        "seconds_ratio_without_start_up": round(working(large) / working(two), 3),
        "rows_ratio": more,
        "peak_rss_ratio": {
            name: round(large["peak_rss_mib"][name] / two["peak_rss_mib"][name], 3)
            for name in two["peak_rss_mib"]
            if name in large["peak_rss_mib"]
        },
        "jobs": jobs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key != "jobs"}, indent=2))


def working(job: dict[str, Any]) -> float:
    """Seconds from the start of the first shard, which is taken to last as long as the average one."""
    return float(job["seconds"] - job["first_shard_seconds"] + job["busy_seconds"] / job["shards"])


def measured(bundle: Path, rows: int, workers: int, changes: list[str]) -> dict[str, Any]:
    """Seconds, rate and memory of one job."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        pool = f"runtime.synthesis.pool={{min_actors: {workers}, max_actors: {workers}, cpus_per_actor: 1}}"
        settings = [argument for change in [*changes, pool] for argument in ("--set", change)]
        command = ["synthesize", str(bundle), "--rows", str(rows), "--out", str(out), *settings]
        started = time.time()
        subprocess.run([sys.executable, "-m", "difflm_jobs", *command], check=True)
        seconds = time.time() - started
        manifest = json.loads((out / "manifest.json").read_text())
        times = sorted(path.stat().st_mtime for path in (out / "entries").iterdir())
        last = len(times) - 1
        first_rows = sum(shard["rows"] for shard in manifest["shards"]) / len(times)
        rate = (manifest["totals"]["rows_emitted"] - first_rows) / max(times[last] - times[0], 1e-9) if last else None
        size = sum(shard["size"] for shard in manifest["shards"])
        shutil.rmtree(out)
    return {
        "rows": rows,
        "workers": workers,
        "shards": len(manifest["shards"]),
        "seconds": round(seconds, 1),
        "first_shard_seconds": round(times[0] - started, 1),
        "rows_per_second": round(rate if rate is not None else rows / seconds, 1),
        "busy_seconds": round(sum(shard.get("seconds", 0.0) for shard in manifest["shards"]), 1),
        "bytes": size,
        "draws": manifest["totals"]["attempts"],
        "rejections": manifest["totals"]["rejections"],
        "peak_rss_mib": manifest["peak_rss_mib"],
    }


if __name__ == "__main__":
    typer.run(main)
