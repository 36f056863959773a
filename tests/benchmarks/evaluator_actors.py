"""What evaluator actors cost the sampling they watch: rows per second with and without them, by turns.

    python tests/benchmarks/evaluator_actors.py runs/adult                              # against the run's own splits
    python tests/benchmarks/evaluator_actors.py BUNDLE --train train.csv --holdout test.csv --rows 2000 --pairs 1

Each pair is one job without and one with evaluators, the same rows; which comes first changes from pair to pair. The
rate is that from the first committed shard to the last. `catch_up_seconds` is what the evaluators still had to do after
that, `scorings` how often they had said something before. Writes results/evaluator_actors.json.
"""

import json
import statistics
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
    bundle: Annotated[Path, typer.Argument(help="a run, or a bundle together with --train")],
    train: Annotated[Path | None, typer.Option(help="the table to evaluate against; default: the run's splits")] = None,
    holdout: Annotated[Path | None, typer.Option(help="real rows that were not trained on")] = None,
    rows: Annotated[int, typer.Option(help="rows of each job")] = 30_000,
    pairs: Annotated[int, typer.Option(help="how many pairs of jobs")] = 3,
    workers: Annotated[int, typer.Option(help="sampling actors of one core")] = 2,
    per_shard: Annotated[int, typer.Option(help="rows of a shard")] = 1024,
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm synthesize")] = None,
) -> None:
    """Run the pairs, print each, and write the record."""
    pool = f"runtime.synthesis.pool={{min_actors: {workers}, max_actors: {workers}, cpus_per_actor: 1}}"
    changes = [f"runtime.synthesis.rows_per_shard={per_shard}", pool, *(set_ or [])]
    job = ["synthesize", str(bundle), "--rows", str(rows)]
    job += [argument for change in changes for argument in ("--set", change)]
    against = ["--evaluate"] if train is None else ["--evaluate-against", str(train)]
    against += [] if holdout is None else ["--holdout", str(holdout)]
    found = []
    for number in range(pairs):
        sides: dict[str, dict[str, Any]] = {}
        for side in ("without", "with") if number % 2 == 0 else ("with", "without"):
            sides[side] = measured([*job, *(against if side == "with" else [])], rows)
        ratio = sides["with"]["rows_per_second"] / sides["without"]["rows_per_second"]
        found.append({"ratio": round(ratio, 4), **sides})
        print(json.dumps(found[-1]), flush=True)
    record = {
        "command": "python tests/benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **provenance(),
        "rows": rows,
        "median_ratio": statistics.median(pair["ratio"] for pair in found),
        "pairs": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluator_actors.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{record['median_ratio']:.3f} of the rate without evaluators (median of {pairs})")


def measured(command: list[str], rows: int) -> dict[str, Any]:
    """Rate and times of one job."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        started = time.time()
        subprocess.run([sys.executable, "-m", "difflm_jobs", *command, "--out", str(out)], check=True)
        seconds = time.time() - started
        manifest = json.loads((out / "manifest.json").read_text())
        times = sorted(path.stat().st_mtime for path in (out / "entries").iterdir())
        per_shard = rows / len(times)
        figures: dict[str, Any] = {
            "rows_per_second": round((rows - per_shard) / max(times[-1] - times[0], 1e-9), 1),
            "seconds": round(seconds, 1),
        }
        log = out / "events.jsonl"
        if not log.exists():
            return figures
        kinds = [json.loads(line)["kind"] for line in log.read_text().splitlines()]
        return {
            **figures,
            "catch_up_seconds": round((out / "evaluation.json").stat().st_mtime - times[-1], 1),
            "scorings": kinds.count("scores") - 1,
            "scores": manifest["totals"]["evaluation"].get("scores"),
        }


if __name__ == "__main__":
    typer.run(main)
