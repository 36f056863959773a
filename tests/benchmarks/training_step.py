"""A step of the compact decoder's fit: the lean pass over its weights, and its modules, by turns.

    python tests/benchmarks/training_step.py runs/magic [--steps 20]

Takes the data and settings of a finished run and begins its fit again, on one thread: medians of the processor time of
forward, backward and optimizer, in float32 and bfloat16.
"""

import json
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from provenance import provenance

from difflm.models import prompt
from difflm.models.precision import Precision
from difflm.training.engine import PlainEngine
from difflm.training.task import TaskSpec, build_task

RESULT = Path(__file__).parent / "results" / "training_step.json"
PARTS = ("forward", "backward", "optimizer")


def main(
    run: Annotated[Path, typer.Argument(help="folder of a finished run of a table")],
    steps: Annotated[int, typer.Option(min=4, help="of each way; the first two are not counted")] = 20,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULT,
) -> None:
    """Measure both precisions and write the record."""
    torch.set_num_threads(1)
    record: dict[str, Any] = {"command": f"python tests/benchmarks/training_step.py {run.name} --steps {steps}"}
    record |= {**provenance(), "threads": 1, "run": run.name}
    precisions: tuple[Precision, ...] = ("bfloat16", "float32")
    for precision in precisions:
        record[precision] = found = by_turns(run, precision, steps)
        print(precision, json.dumps(found), flush=True)
    out.write_text(json.dumps(record, indent=1) + "\n")


def by_turns(run: Path, precision: Precision, steps: int) -> dict[str, Any]:
    """Take steps by turns, lean and by the modules."""
    (decoder,), (table,) = (list((run / "artifacts").glob(f"{kind}-*")) for kind in ("decoder", "table"))
    config = json.loads((decoder / "manifest.json").read_text())["config"]
    inputs = {"prepare": str(table), "tokenizer": str(decoder)}
    config = {"fit": config["fit"], "steering": config["steering"]}
    task = build_task(TaskSpec(factory="steered_decoder", config=config, inputs=inputs, seed=0), "cpu")
    engine = PlainEngine(task.module, precision=precision, method="muon")
    engine.set_training(True)
    applies, seconds = prompt.is_lean, {"lean": [], "modules": []}  # type: ignore[var-annotated]
    for step in range(2 * steps):
        way = ("lean", "modules")[step % 2]
        prompt.is_lean = applies if way == "lean" else lambda model, inputs: False
        seconds[way].append(one_step(engine, task.batch(step, 0, 0, 1)))
    prompt.is_lean = applies
    found: dict[str, Any] = {}
    for way, times in seconds.items():
        found[way] = {part: round(median(one[place] for one in times[2:]), 4) for place, part in enumerate(PARTS)}
        found[way]["step"] = round(sum(found[way].values()), 4)
    return found | {"lean over modules": round(found["lean"]["step"] / found["modules"]["step"], 3)}


def one_step(engine: PlainEngine, batch: dict[str, torch.Tensor]) -> tuple[float, float, float]:
    """Processor seconds of a step's parts."""
    marks = [time.process_time()]
    loss = engine.forward(batch)["loss"]
    marks.append(time.process_time())
    engine.backward(loss)
    marks.append(time.process_time())
    engine.step(1e-4)
    marks.append(time.process_time())
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]


if __name__ == "__main__":
    typer.run(main)
