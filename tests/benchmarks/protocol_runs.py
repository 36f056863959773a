"""Run tables by the published protocol and record their scores, one run for every seed.

    python tests/benchmarks/protocol_runs.py adult default shoppers magic beijing
    python tests/benchmarks/protocol_runs.py magic --seed 0 --seed 1 --seed 2

For each table: `difflm protocol TABLE --prepare`, `difflm run` on what that writes, as many rows as were learned, and
`difflm protocol TABLE --run`. About ten minutes of two cores a table and seed. What is in the folder of runs is reused,
so a killed script goes on. The record keeps the runs of other tables and seeds; the tables of the documentation show
the mean over the seeds.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import provenance

RECORD = Path(__file__).parent / "results" / "protocol.json"


def main(
    tables: Annotated[list[str], typer.Argument(help="adult, default, shoppers, magic, beijing")],
    seed: Annotated[list[int] | None, typer.Option(help="may be repeated; 0 without")] = None,
    runs: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs/protocol"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm run")] = None,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RECORD,
) -> None:
    """Make, score and record the runs."""
    for table in tables:
        prepared = runs / "tables" / table
        if not (prepared / f"{table}.yaml").is_file():
            difflm("protocol", table, "--prepare", prepared)
        for each in seed or [0]:
            found = measured(table, prepared, runs / f"seed-{each}", each, set_ or [])
            record = json.loads(out.read_text()) if out.is_file() else {}
            kept = [run for run in record.get(table, {}).get("runs", []) if run["seed"] != each]
            record[table] = {"runs": sorted([*kept, found], key=lambda run: run["seed"])}
            out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
            print(f"{table}, seed {each}: {out}", flush=True)


def measured(table: str, prepared: Path, runs: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run one table with one seed and score its rows."""
    settings = [part for text in overrides for part in ("--set", text)]
    difflm("run", prepared / f"{table}.yaml", "--runs", runs, "--set", f"seed={seed}", *settings)
    seconds = round(sum(_stages(runs / f"{table}-protocol").values()))
    difflm("protocol", table, "--run", runs / f"{table}-protocol", "--out", runs / f"{table}-scores")
    scores = json.loads((runs / f"{table}-scores" / "protocol.json").read_text())
    scores["about"]["synthetic rows"] = f"as many as were learned, of the run {table}-protocol"
    command = " ".join(["tests/benchmarks/protocol_runs.py", table, "--seed", str(seed), *settings])
    return {"command": command, **provenance(), "seed": seed, "run_seconds": seconds, "protocol": scores}


def _stages(run: Path) -> dict[str, float]:
    """Read the seconds of every stage, each when it last ran: a run may have been stopped and gone on with."""
    lines = (run / "runs.jsonl").read_text().splitlines()
    stages = [stage for line in lines for stage in json.loads(line)["stages"]]
    return {stage["stage"]: stage["seconds"] for stage in stages if stage["status"] == "ran"}


def difflm(*arguments: object) -> None:
    """Run a verb; its output goes where ours goes."""
    subprocess.run([sys.executable, "-m", "difflm_jobs", *map(str, arguments)], check=True)


if __name__ == "__main__":
    typer.run(main)
