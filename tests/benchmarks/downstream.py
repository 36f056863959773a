"""What a run's synthetic code teaches a small language model, beside the run's real code and both, with the record.

    python tests/benchmarks/downstream.py runs/code        # data in DIFFLM_DATA, record in results/downstream.json

The model is a small Llama that is trained on CoSQA's functions first; real is the run's training split, held out its
test split. Two DeepSpeed workers (ZeRO-2), three epochs of the real texts for every arm. The learning rate is larger
than a large model's 1e-5, under which a model of a million weights would hardly move.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
import yaml
from provenance import provenance

RESULT = Path(__file__).parent / "results" / "downstream.json"


def main(
    run: Annotated[Path, typer.Argument(help="a finished run of code")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm downstream")] = None,
) -> None:
    """Write the configuration beside the run, run it, and keep its table."""
    last = json.loads((run / "runs.jsonl").read_text().splitlines()[-1])
    stages = {stage["stage"]: stage["artifact"] for stage in last["stages"]}
    table, synthetic = (run / "artifacts" / stages[name] for name in ("prepare", "synthesize"))
    folder = run / "downstream"
    folder.mkdir(exist_ok=True)
    pq.write_table(pq.read_table(synthetic / "shards"), folder / "synthetic.parquet")
    config = {
        "name": "downstream",
        "scratch": {"texts": f"{os.environ['DIFFLM_DATA']}/python_code/cosqa_functions.jsonl.gz"},
        "real": str(table / "train.parquet"),
        "synthetic": str(folder / "synthetic.parquet"),
        "held_out": str(table / "test.parquet"),
        "longest": 400,
        "training": {"epochs": 3, "loop": {"learning_rate": 3e-4}},
        "runtime": {
            "engine": {"kind": "deepspeed", "zero_stage": 2},
            "workers": {"num_workers": 2, "cpus_per_worker": 1},
        },
    }
    path = folder / "lm.yaml"
    path.write_text(yaml.safe_dump(config))
    overrides = [word for change in set_ or [] for word in ("--set", change)]
    started = time.monotonic()
    command = [sys.executable, "-m", "difflm_jobs", "downstream", str(path), "--runs", str(folder), *overrides]
    subprocess.run(command, check=True)
    (made,) = (folder / "downstream" / "artifacts").glob("downstream-*")
    record = {
        "command": " ".join(["python tests/benchmarks/downstream.py", str(run), *overrides]),
        **provenance(),
        "seconds": round(time.monotonic() - started, 1),
        "config": config,
        **json.loads((made / "downstream.json").read_text()),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
