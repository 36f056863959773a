"""The plan's memory beside the memory that is measured: every stage of the compact preset and of a Llama, on a CPU.

    python tests/benchmarks/memory_plan.py [--only llama]

Each stage works in a process of its own: it loads, takes three steps (or draws two batches), and says by how much its
resident memory grew at most since its libraries were imported. Weights are random, which memory does not depend on.
With --only the others' rows of the record stay as they are.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import torch
import torch.distributed as dist
import typer
from provenance import provenance

from difflm.models.compact import save_model
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.records.files.reading import ReadConfig, read_table
from difflm.runtime.deepspeed_engine import DeepSpeedEngine, DeepSpeedEngineConfig
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.synthesizer import Synthesizer
from difflm.telemetry import peak_rss_mib, reset_peak_rss
from difflm.testing.bundles import untrained_stages
from difflm.testing.models import sentencepiece_tokenizer
from difflm.training.engine import Engine, PlainEngine
from difflm.training.loop import LoopConfig, run_loop
from difflm.training.task import TaskSpec, build_task
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.loading import load_experiment
from difflm_jobs.planning.memory import PROCESS_MIB
from difflm_jobs.planning.sizes import Sizes
from difflm_jobs.planning.stage_sizes import stage_sizes

RESULT = Path(__file__).parent / "results" / "memory_plan.json"
ROWS, STEPS = 8000, 3
STAGES = {"compact": ["fit-decoder", "train-autoencoder", "train-diffusion", "synthesize"]}
STAGES["llama"] = ["train-autoencoder", "synthesize"]
STAGES |= {name: ["train-autoencoder"] for name in ("llama-bfloat16", "llama-kv", "llama-zero2", "llama-zero3")}
TRAINED = {"fit-decoder": "decoder", "train-autoencoder": "autoencoder", "train-diffusion": "diffusion"}


class Nothing:
    """A `LoopIO` that keeps nothing."""

    def resume_from(self) -> None:
        """From the beginning."""

    def started(self, step: int) -> None:
        """Nothing to forget."""

    def log(self, event: Mapping[str, Any]) -> None:
        """Nobody reads it."""

    def checkpoint(self, step: int, write: object) -> None:
        """Nothing is kept."""


def experiment(case: str, decoder: Path) -> ExperimentConfig:
    """The preset `adult`, or the same around a Llama of 25 million parameters."""
    short = ["steps=3", "loop.evaluate_every=1000", "loop.checkpoint_every=1000"]
    overrides = [f"{section}.{item}" for section in ("decoder_fit", "autoencoder", "prior") for item in short]
    overrides += ["runtime.workers.cpus_per_worker=1"]
    if case == "compact":
        overrides += ["autoencoder.encoder.kind=compact"]
    else:
        dtype = "bfloat16" if case == "llama-bfloat16" else "float32"
        overrides += [f"decoder={{kind: pretrained, model: {decoder}, dtype: {dtype}}}", "autoencoder.batch_size=32"]
        overrides += ["sampling.batch_size=128"]
    if case == "llama-kv":
        overrides += ["autoencoder.injector={kind: kv_memory}"]
    if case.startswith("llama-zero"):
        overrides += [f"runtime.engine={{kind: deepspeed, zero_stage: {case[-1]}}}"]
    return load_experiment("adult", overrides=overrides)


def save_llama(folder: Path) -> Path:
    """A Llama with random weights and a tokenizer of its kind."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = sentencepiece_tokenizer()
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
    config = LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=1024)
    save_model(LlamaForCausalLM(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


def adult() -> pa.Table:
    """The first rows of Adult."""
    data = Path(os.environ.get("DIFFLM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    return read_table(data / "adult" / "train.csv.gz", ReadConfig()).slice(0, ROWS)


def work(case: str, stage: str, root: Path) -> dict[str, float]:
    """Load and work as the stage's process does; MiB before, and at most."""
    config = experiment(case, root / "llama")
    torch.set_num_threads(1)
    folders = {"prepare": root / case / "prepared", "fit-decoder": root / case / "decoder"}
    if config.runtime.engine.kind == "deepspeed":
        os.environ["LOCAL_RANK"] = "0"  # Ray Train sets it for its workers, and DeepSpeed asks for it
        dist.init_process_group("gloo", init_method=f"file://{root / case}-group", rank=0, world_size=1)
        import deepspeed  # noqa: F401  what every worker imports is no memory of the model
    before = peak_rss_mib() if reset_peak_rss() else 0.0
    if stage == "synthesize":
        sampling = config.sampling
        bundle = load_bundle(root / case / "bundle", solver=sampling.solver_settings, precision=sampling.dtype())
        synthesizer = Synthesizer(bundle, sampling)
        synthesizer.draw(range(2 * sampling.batch_size), seed=0, attempt=0)
        return {"before": before, "peak": peak_rss_mib()}
    section: Any = {
        "fit-decoder": config.decoder_fit,
        "train-autoencoder": config.autoencoder,
        "train-diffusion": config.prior,
    }[stage]
    inputs = {**folders, "tokenizer": folders["fit-decoder"], "encode": root / case / "encoded"}
    spec = TaskSpec(
        factory=TRAINED[stage],
        config=section.model_dump(mode="json"),
        inputs={name: str(path) for name, path in inputs.items()},
        seed=1,
    )
    task: Any = build_task(spec, "cpu")
    if stage == "fit-decoder":
        task.copied_at = 0  # three steps teach nothing, which would be an error
    run_loop(task, _engine(task.module, config, section.loop), section.loop, Nothing(), seed=1)
    return {"before": before, "peak": peak_rss_mib()}


def _engine(module: torch.nn.Module, config: ExperimentConfig, loop: LoopConfig) -> Engine:
    options: dict[str, Any] = {"device": torch.device("cpu"), "precision": loop.precision}
    engine = config.runtime.engine
    if isinstance(engine, DeepSpeedEngineConfig):
        return DeepSpeedEngine(module, engine, **options)
    return PlainEngine(module, **options)


def _latents(case: str, root: Path, slots: int) -> None:
    """Latents of the right number and size, as the stage `encode` leaves them."""
    import pyarrow.parquet as pq

    folder = root / case / "encoded" / "latents"
    folder.mkdir(parents=True)
    size = 4 * slots
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(torch.randn(ROWS * size).numpy()), size)
        for _ in ("mean", "log_variance")
    ]
    pq.write_table(
        pa.table({"index": list(range(ROWS)), "mean": lists[0], "log_variance": lists[1]}),
        folder / "part-000000000000-000000008000.parquet",
    )


def measure(case: str, root: Path) -> list[dict[str, Any]]:
    """Planned and measured MiB of every stage of a case."""
    config = experiment(case, root / "llama")
    decoder: Any = config.decoder
    if isinstance(decoder, PretrainedDecoderConfig) and not (root / "llama").exists():
        save_llama(root / "llama")
    shape = config.autoencoder.shape
    folders = untrained_stages(root / case, adult(), decoder=decoder, shape=shape, prior=config.prior)  # type: ignore[arg-type]
    sizes = Sizes.of(config, {"train rows": ROWS}, folders.decoder)
    _latents(case, root, sizes.layout.count)
    planned, rows = stage_sizes(sizes), []
    for stage in STAGES[case]:
        done = subprocess.run(
            [sys.executable, __file__, "--case", case, "--stage", stage, "--root", str(root)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        seen = json.loads(done.stdout.splitlines()[-1])
        memory = planned[stage].memory
        assert memory is not None
        planned_mib, measured_mib = memory.host_mib(gpu=False), seen["peak"]
        grown = (planned_mib - PROCESS_MIB) / (measured_mib - seen["before"])
        row = {
            "case": case,
            "stage": stage,
            "planned_mib": round(planned_mib, 1),
            "measured_mib": round(measured_mib, 1),
            "planned_over_measured": round(planned_mib / measured_mib, 2),
            "before_loading_mib": round(seen["before"], 1),
            "planned_over_measured_growth": round(grown, 2),
            "parts_mib": {name: round(size / 2**20, 1) for name, size in memory.parts().items() if size},
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def main(
    only: Annotated[list[str] | None, typer.Option(help="cases to measure")] = None,
    case: Annotated[str | None, typer.Option(hidden=True)] = None,
    stage: Annotated[str, typer.Option(hidden=True)] = "",
    root: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Measure, and write tests/benchmarks/results/memory_plan.json."""
    if case is not None:
        print(json.dumps(work(case, stage, root)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measured = [row for name in only or STAGES for row in measure(name, Path(folder))]
    before = json.loads(RESULT.read_text())["stages"] if only and RESULT.exists() else []
    stages = [row for row in before if row["case"] not in (only or [])] + measured
    record = {"command": "python tests/benchmarks/memory_plan.py", **provenance(), "rows": ROWS, "stages": stages}
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
