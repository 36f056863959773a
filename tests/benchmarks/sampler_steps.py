"""What each step of the sampler buys: shape and trend error by Heun steps of the prior, on one bundle; recorded.

    python tests/benchmarks/sampler_steps.py runs/adult --rows 10000

Every row draws the same indices from the same seed, so that rows differ by the sampler alone.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import torch
import typer
from provenance import provenance

from difflm.diffusion.priors import DiffusionPrior
from difflm.records.kinds.columns import conform_table
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table

RESULT = Path(__file__).parent / "results" / "sampler_steps.json"


def main(
    run: Annotated[Path, typer.Argument(help="a finished experiment")],
    rows: Annotated[int, typer.Option(help="rows drawn per setting")] = 10_000,
    steps: Annotated[list[int] | None, typer.Option(help="Heun steps")] = None,
) -> None:
    """Score every number of steps, and write tests/benchmarks/results/sampler_steps.json."""
    torch.set_num_threads(1)
    (bundle_path,), (prepared,) = (tuple((run / "artifacts").glob(f"{kind}-*")) for kind in ("bundle", "table"))
    measured = [one_setting(bundle_path, prepared, count, rows) for count in steps or (6, 9, 12, 16, 20, 25, 40)]
    record = {"command": f"python tests/benchmarks/sampler_steps.py {run.name}", **provenance(), "settings": measured}
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def one_setting(bundle_path: Path, prepared: Path, steps: int, rows: int) -> dict[str, Any]:
    """Scores and CPU milliseconds a row, of the prior alone and of the whole draw."""
    config = SamplingConfig(steps=steps)
    bundle = load_bundle(bundle_path, solver=config.solver_settings, precision=config.dtype())
    assert isinstance(bundle.prior, DiffusionPrior)
    synthesizer = Synthesizer(bundle, config)
    started = time.process_time()
    drawn, account = synthesizer.draw_valid(range(rows), seed=0)
    whole = time.process_time() - started
    noise_NM = torch.randn(512, bundle.prior.noise_size)
    started = time.process_time()
    bundle.prior.sample(noise_NM)
    prior = time.process_time() - started
    table = bundle.codec.table_of(record for _, record in drawn)
    real = {
        name: conform_table(pq.read_table(prepared / f"{name}.parquet"), bundle.schema) for name in ("train", "test")
    }
    report = evaluate_table(table, RealSplits(**real), bundle.schema, EvaluationConfig(utility=None, privacy=None))
    scores = {score.name: score.value for score in report.scores}
    return {
        "steps": steps,
        "network_evaluations": 2 * steps - 1,
        "cpu_ms_a_row": round(1e3 * whole / rows, 3),
        "prior_cpu_ms_a_row": round(1e3 * prior / 512, 3),
        "draws": account.attempts,
        "shape_error": round(scores["shape_error"] or 0.0, 3),
        "trend_error": round(scores["trend_error"] or 0.0, 3),
    }


if __name__ == "__main__":
    typer.run(main)
