"""What bfloat16 costs or saves on this processor, with its instructions for it and without: products and a training.

    python tests/benchmarks/precision.py               # records in tests/benchmarks/results/precision.json
    python tests/benchmarks/precision.py --only products

Both precisions take turns under each limit of ONEDNN_MAX_CPU_ISA (AVX2 stands for processors without AVX512_BF16 and
AMX), so that ratios hold on a machine that does other work too. Products are timed by the CPU time of one thread, the
training (the first optimizer steps of the preset demo's decoder) by the wall time of its loop.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from provenance import provenance

RESULT = Path(__file__).parent / "results" / "precision.json"
LIMITS = ("AVX2", "ALL")
PRECISIONS = ("float32", "bfloat16")
SIZE, TRIES = 384, 9
TRAINING = ("decoder_fit.batch_size=64", "decoder_fit.validation_records=64")
PRODUCTS = f"""
import json, time, torch
from difflm.models.precision import fast_precision
torch.set_num_threads(1)
pairs = {{name: [torch.randn({SIZE}, {SIZE}).to(getattr(torch, name)) for _ in range(2)] for name in {PRECISIONS}}}
seconds = {{name: [] for name in pairs}}
for turn in range({TRIES} + 1):
    for name, (left, right) in pairs.items():
        started = time.thread_time()
        left @ right
        if turn:  # the first compiles the kernel
            seconds[name].append(time.thread_time() - started)
print(json.dumps({{"auto": fast_precision("cpu"), "seconds": seconds}}))
"""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="how often the trainings take turns")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="optimizer steps of each training")] = 12,
    only: Annotated[str | None, typer.Option(help="products or training")] = None,
) -> None:
    """Measure, and write tests/benchmarks/results/precision.json."""
    record: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record |= {"command": f"python tests/benchmarks/precision.py --rounds {rounds} --steps {steps}", **provenance()}
    if only in (None, "products"):
        record["products"] = {limit: products(limit) for limit in LIMITS}
    if only in (None, "training"):
        record["training"] = {limit: trainings(limit, rounds=rounds, steps=steps) for limit in LIMITS}
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def products(limit: str) -> dict[str, Any]:
    """Products a second of two square matrices, and what `auto` chooses."""
    ended = subprocess.run([sys.executable, "-c", PRODUCTS], env=capped(limit), capture_output=True, check=True)
    told = json.loads(ended.stdout)
    rates = {name: 1 / median(seconds) for name, seconds in told["seconds"].items()}
    return {
        "auto": told["auto"],
        "size": SIZE,
        "products_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "bfloat16_over_float32": round(rates["bfloat16"] / rates["float32"], 3),
    }


def trainings(limit: str, *, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds of the training loop, by turns."""
    seconds: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(rounds):
        for name in PRECISIONS:
            seconds[name].append(round(one_training(limit, name, steps), 2))
            print(limit, name, seconds[name][-1], flush=True)
    rates = {name: steps / median(some) for name, some in seconds.items()}
    return {
        "steps": steps,
        "loop_seconds": seconds,
        "bfloat16_over_float32": round(rates["bfloat16"] / rates["float32"], 3),
    }


def one_training(limit: str, precision: str, steps: int) -> float:
    """Seconds that the loop of a fresh `difflm run demo --until fit-decoder` took."""
    settings = (*TRAINING, f"decoder_fit.steps={steps}", f"decoder_fit.loop.precision={precision}")
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "difflm_jobs", "run", "demo", "--until", "fit-decoder", "--runs", runs]
        command += [part for setting in settings for part in ("--set", setting)]
        subprocess.run(command, env=capped(limit), stdout=subprocess.DEVNULL, check=True)
        (manifest,) = Path(runs).glob("demo/artifacts/decoder-*/manifest.json")
        facts = json.loads(manifest.read_text())["facts"]
        assert facts["precision"] == precision, facts
        return float(facts["loop_seconds"])


def capped(limit: str) -> dict[str, str]:
    """The environment with a limit on the instructions that products may use."""
    return {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}


if __name__ == "__main__":
    typer.run(main)
