"""Run presets one after the other and record what they reached, with command, commit and hardware.

    python tests/benchmarks/presets.py adult magic            # into runs/, records in tests/benchmarks/results/
    python tests/benchmarks/presets.py adult --runs /tmp/runs  # elsewhere; what is there is reused

A record holds the scores with their baselines, seconds and peak memory of every stage, and Ray's overhead: wall time of
the whole process over the stages' own computing. Seconds of stages that were reused are those of the runs that made
them, and then there is no wall time.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import provenance

from difflm_jobs.loading import load_experiment

SCORE_KEYS = ("name", "value", "unit", "standard_error", "baseline", "baseline_label", "undefined_because")
RESULTS = Path(__file__).parent / "results"


def main(
    presets: Annotated[list[str], typer.Argument(help="names of presets")],
    runs: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm run")] = None,
) -> None:
    """Run each preset and write tests/benchmarks/results/PRESET.json."""
    for preset in presets:
        arguments = [preset, "--runs", str(runs)]
        for override in set_ or []:
            arguments += ["--set", override]
        subprocess.run([sys.executable, "-m", "difflm_jobs", "run", *arguments], check=True)
        shown = " ".join(["difflm run", preset, *(f"--set {override}" for override in set_ or [])])
        name = load_experiment(preset, overrides=set_ or []).name
        record = {"command": shown, **provenance(), **measured(runs / name)}
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(f"{preset}: {path}")


def measured(experiment: Path) -> dict[str, Any]:
    """Scores and costs of an experiment's newest artifacts."""
    lines = [json.loads(line) for line in (experiment / "runs.jsonl").read_text().splitlines()]
    newest = {stage["stage"]: stage["artifact"] for stage in lines[-1]["stages"]}
    stages: dict[str, Any] = {}
    for line in lines:
        for stage in line["stages"]:
            if stage["status"] == "ran" and newest.get(stage["stage"]) == stage["artifact"]:
                stages[stage["stage"]] = {
                    "seconds": round(stage["seconds"], 1),
                    "compute_seconds": round(stage["compute_seconds"], 1),
                    "peak_rss_mib": {name: round(peak) for name, peak in stage["peak_rss_mib"].items()},
                }
    report = json.loads((experiment / "artifacts" / newest["evaluate"] / "report.json").read_text())
    scores = [
        {key: score[key] for key in SCORE_KEYS}
        for evaluation in report["evaluations"]
        for score in evaluation["scores"]
    ]
    last = lines[-1]
    whole = all(stage["status"] == "ran" for stage in last["stages"])
    compute = sum(stage["compute_seconds"] for stage in last["stages"])
    return {
        "rows": report["rows"],
        "scores": scores,
        "stages": stages,
        "wall_seconds": round(last["wall_seconds"], 1) if whole else None,
        "wall_over_compute": round(last["wall_seconds"] / compute, 3) if whole else None,
    }


if __name__ == "__main__":
    typer.run(main)
