"""Run the reference solutions of HumanEval and of sanitized MBPP through `difflm passk`, and record what passes.

    python tests/benchmarks/pass_at_k.py       # data in DIFFLM_DATA, record in tests/benchmarks/results/pass_at_k.json

All of them have to pass: whatever does not is a fault of the sandbox or of its limits, and the record names it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from provenance import provenance

PROBLEMS = {"HumanEval": "humaneval/HumanEval.jsonl.gz", "MBPP, sanitized": "mbpp/sanitized-mbpp.json.gz"}
RESULT = Path(__file__).parent / "results" / "pass_at_k.json"


def main(workers: Annotated[int, typer.Option(help="programs that run at a time")] = 2) -> None:
    """Write the record; ends with code 1 where a reference solution did not pass."""
    data = Path(os.environ["DIFFLM_DATA"])
    record = {"command": f"difflm passk reference --problems FILE --workers {workers}", **provenance(), "problems": {}}
    for name, file in PROBLEMS.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["passk", "reference", "--problems", str(data / file), "--workers", str(workers)]
            started = time.monotonic()
            subprocess.run([sys.executable, "-m", "difflm_jobs", *arguments, "--out", folder], check=True)
            told = json.loads((Path(folder) / "passk.json").read_text())
        details = told["details"]
        record["problems"][name] = {
            "exercises": details["problems"],
            "passed": details["outcomes"].get("passed", 0),
            "seconds": round(time.monotonic() - started, 1),
            **{key: details[key] for key in ("outcomes", "failures", "limits", "isolation")},
        }
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(any(found["passed"] < found["exercises"] for found in record["problems"].values()))


if __name__ == "__main__":
    typer.run(main)
