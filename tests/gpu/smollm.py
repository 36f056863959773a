"""The presets llm/* on a GPU: training with as many steps as fit, its speed, the rows it draws and their scores.

    python tests/gpu/smollm.py                        # one CUDA GPU, make llm and DIFFLM_DATA; at most eight minutes
    python tests/gpu/smollm.py --device cpu --tiny    # a random model and a made-up table: that it works

For each preset: tokens a second, memory and model FLOP utilisation of the autoencoder's training (counted as in
tests/benchmarks/gpu.py); the whole experiment with as many steps as half of its share of the time allows; rows a second
of our engine beside Hugging Face `generate` of as many tokens without a grammar, and beside vLLM with prompt embeddings
where that is installed; the scores of the report. Writes tests/benchmarks/results/smollm.json; `--tiny` writes nothing
but what --out asks for.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from decoding import Side, engine, generate, measure, prepare
from provenance import provenance
from rich.console import Console

from difflm.api import Generator
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.models import save_decoder, save_encoder
from difflm.testing.tables import mixed_table
from difflm_evaluators.report.layout import read_report
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.experiment import run_experiment
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.progress import reporting
from difflm_jobs.stages.stages import this_process
from gpu import matrix_rate, training, utilisation

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "smollm.json"
PRESETS = "llm/tools,llm/adult"
MEASURED_STEPS, MAX_STEPS = 20, 4000
TRAINING_SHARE = 0.5  # of a preset's time; the rest is for preparing, encoding, drawing and scoring
ON_GPU = [
    "runtime.workers.gpus_per_worker=1",
    "autoencoder.batch_size=64",
    "autoencoder.validation_records=512",
    "sampling.batch_size=256",
    "rows=1000",
]


def tiny_settings(preset: str, folder: Path) -> list[str]:
    """Settings of a preset with a random model over a small table of made-up rows."""
    import pyarrow.csv

    loop = "{warmup_steps: 1, evaluate_every: 2, checkpoint_every: 2}"
    decoder = save_decoder(folder / "llama", "llama")
    settings = [
        f"decoder={{kind: pretrained, model: {decoder}, dtype: float32, cells_per_slot: 8}}",
        "autoencoder.encoder={kind: compact, hidden_size: 16, layers: 1, heads: 2}",
        "autoencoder.injector={kind: soft_prompt, hidden_size: 16}",
        "autoencoder.batch_size=8",
        f"autoencoder.loop={loop}",
        f"prior={{width: 16, blocks: 1, steps: 4, loop: {loop}}}",
        "rows=8",
        "language.fluency.model=null",
    ]
    if preset == "llm/tools":
        encoder = save_encoder(folder / "bert", "bert")
        (folder / "tools.jsonl").write_text("".join(json.dumps(_tool(number)) + "\n" for number in range(60)))
        settings[1] = f"autoencoder.encoder={{kind: pretrained, model: {encoder}, latent_size: 8}}"
        return [*settings, f"data.train={folder / 'tools.jsonl'}", "sampling.text_tokens=24"]
    pyarrow.csv.write_csv(mixed_table(120).select(["age", "city"]), folder / "people.csv")
    table = {"kind": "table", "train": str(folder / "people.csv"), "test_share": 0.2, "validation": 0.2}
    return [*settings, f"data={json.dumps(table)}", "schema.task=null"]


def _tool(number: int) -> dict[str, Any]:
    api = {"name": f"get {number}", "description": "list songs", "required_parameters": [], "optional_parameters": []}
    return {"category": "Music", "tool_name": f"tool {number}", "tool_description": None, "api_list": [api]}


def run(config: ExperimentConfig, runs: Path, last: str | None) -> dict[str, Path]:
    """Run what is missing up to a stage; the folders of the artifacts by kind."""
    _, artifacts = run_experiment(
        config,
        runs,
        last=last,
        started=time.time(),
        reporting=partial(reporting, Console(stderr=True)),
        cluster=this_process,
    )
    return {artifact.kind: artifact.path for artifact in artifacts}


def measured(preset: str, settings: Sequence[str], folder: Path, *, device: str, seconds: float) -> dict[str, Any]:
    """Measure a preset; its training takes about `TRAINING_SHARE` of the seconds."""
    config = load_experiment(preset, overrides=settings)
    found = run(config, folder, "fit-decoder")
    inputs = {"prepare": str(found["table"]), "fit-decoder": str(found["decoder"])}
    steps = MEASURED_STEPS if device == "cuda" else 2
    peak, speed = matrix_rate(device), training(inputs, config.autoencoder, device, steps)
    speed["model_flop_utilisation"] = utilisation(speed["flops_per_position"], speed, peak)
    print(preset, json.dumps(speed), file=sys.stderr)
    steps = max(2, min(MAX_STEPS, int(TRAINING_SHARE * seconds / speed["seconds_per_step"])))
    config = load_experiment(preset, overrides=[*settings, f"autoencoder.steps={steps}"])
    found = run(config, folder, None)
    scores = read_report(found["report"] / "report.json").scores
    return {
        "steps": steps,
        "matrix_teraflops": round(peak / 1e12, 2),
        "training": speed,
        "sampling": sampling(found["bundle"], device, config.rows or 1),
        "scores": {name: entry.value for name, entry in sorted(scores.items())},
    }


@torch.no_grad()
def sampling(bundle: Path, device: str, rows: int) -> dict[str, Any]:
    """Rows a second of our engine and of `generate`, in one batch size, and of vLLM or why there are none of it."""
    work = prepare(bundle, rows, device=device)[-1 if device == "cuda" else 0]
    batch = min(rows, 256)
    sides = {
        name: [Side(settings=f"{work.dtype}, batch {batch}", rows=rows, run=partial(call, work, batch))]
        for name, call in (("engine", engine), ("generate", generate))
    }
    return {**measure(sides, 1), "vllm": vllm_rows(bundle, rows)}


def vllm_rows(bundle: Path, rows: int) -> dict[str, Any]:
    """Rows a second through vLLM's prompt embeddings, its start left out; or the reason why not."""
    if find_spec("vllm") is None:
        return {"reason": "vLLM is not installed"}
    sampling_config = SamplingConfig.model_validate({"engine": {"kind": "vllm"}})
    generator = Generator(bundle, sampling=sampling_config)
    generator.sample(min(rows, 16), seed=2)
    began = time.perf_counter()
    generator.sample(rows, seed=1)
    return {"rows": rows, "rows_per_second": round(rows / (time.perf_counter() - began), 2)}


def main(
    presets: Annotated[str, typer.Option(help="with commas between them")] = PRESETS,
    minutes: Annotated[float, typer.Option(help="for all of them")] = 8.0,
    device: Annotated[str, typer.Option(help="cuda, or cpu to see that it works")] = "cuda",
    tiny: Annotated[bool, typer.Option("--tiny", help="a random model and a made-up table")] = False,
    out: Annotated[Path | None, typer.Option(help="where the record goes")] = None,
) -> None:
    """Measure the presets, print the figures and write them."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this needs a CUDA GPU, and there is none here; --device cpu --tiny shows that it works")
    names, began = presets.split(","), time.monotonic()
    chip = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    command = " ".join(["python tests/gpu/smollm.py", *sys.argv[1:]])
    record: dict[str, Any] = {"command": command, **provenance(), "chip": chip, "presets": {}}
    out = out or (None if tiny else RESULT)
    for place, preset in enumerate(names):
        left = 60 * minutes - (time.monotonic() - began)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            settings = tiny_settings(preset, folder) if tiny else []
            settings += ON_GPU if device == "cuda" else []
            seconds = 0.0 if tiny else left / (len(names) - place)
            record["presets"][preset] = measured(preset, settings, folder / "runs", device=device, seconds=seconds)
        if out is not None:  # one preset is kept whatever comes of the next
            out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    typer.run(main)
