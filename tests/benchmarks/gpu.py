"""What a GPU makes of a decoder of real size: tokens a second, memory and model FLOP utilisation of the autoencoder's
training, and rows a second of synthesis beside Hugging Face `generate`.

    python tests/benchmarks/gpu.py                                   # needs a CUDA GPU; about ten minutes
    python tests/benchmarks/gpu.py --model llama-1b --steps 200
    python tests/benchmarks/gpu.py --model tiny --device cpu --steps 20 --rows 32    # that it works; writes nothing

Weights are random: seconds and memory do not depend on what they are. The encoder is a BERT-base, the injector that of
the presets paper/*, the dtype bfloat16. FLOPs are counted by torch during some steps without gradient checkpointing:
what the models themselves need; positions of padding are not counted as useful. The chip's rate is that of the product
of two large bfloat16 matrices, measured in the same process. Writes results/gpu.json, model by model.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from decoding import candidates, finish_gpu, measure, prepare, ratios
from provenance import provenance
from torch.utils.flop_counter import FlopCounterMode

from difflm.models.compact import save_model
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.encoder import PretrainedEncoderConfig
from difflm.models.injection.injector import SoftPromptConfig
from difflm.models.kl_schedule import AdaptiveBeta
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.models import save_encoder, sentencepiece_tokenizer, wordpiece_tokenizer
from difflm.testing.tables import mixed_table
from difflm.training.autoencoder_task import AutoencoderConfig, AutoencoderTask, build_autoencoder_task
from difflm.training.engine import PlainEngine
from difflm.training.task import TaskSpec

RESULT = Path(__file__).parent / "results" / "gpu.json"
RECORDS, MATRIX, COUNTED_STEPS = 4000, 8192, 3
DECODERS: dict[str, dict[str, Any]] = {
    "qwen2-0.5b": {"kind": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                   "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936},
    "llama-1b": {"kind": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                 "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256},
    "tiny": {"kind": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1_000},
}  # fmt: skip


def save_models(folder: Path, name: str) -> tuple[Path, Path]:
    """Decoder and encoder with random weights and tokenizers of their kinds."""
    from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertModel

    sizes = dict(DECODERS[name])
    config = AutoConfig.for_model(sizes.pop("kind"), **sizes, tie_word_embeddings=True, max_position_embeddings=4096)
    decoder, encoder = folder / "decoder", folder / "encoder"
    save_model(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), decoder)
    sentencepiece_tokenizer().save_pretrained(decoder)
    if name == "tiny":
        save_encoder(encoder, "bert")
    else:
        save_model(BertModel(BertConfig()), encoder)
        wordpiece_tokenizer().save_pretrained(encoder)
    return decoder, encoder


def stages_of(folder: Path, name: str, batch: int) -> tuple[StageFolders, AutoencoderConfig]:
    """The folders of all stages around the models, and how the autoencoder is trained."""
    decoder, encoder = save_models(folder, name)
    config = AutoencoderConfig(
        encoder=PretrainedEncoderConfig(model=str(encoder), latent_size=1024),
        injector=SoftPromptConfig(soft_tokens=32, learned_prefix=32, hidden_size=1024),
        kl=AdaptiveBeta(),
        batch_size=batch,
    )
    stages = untrained_stages(
        folder / "stages",
        mixed_table(RECORDS),
        decoder=PretrainedDecoderConfig(model=str(decoder), dtype="bfloat16"),
        shape=config.shape,
    )
    return stages, config


def training(inputs: Mapping[str, str], config: AutoencoderConfig, device: str, steps: int) -> dict[str, float]:
    """Tokens a second and memory of so many steps after some to get warm, and the FLOPs of a position.

    `inputs` are the folders of the stages `prepare` and `fit-decoder`.
    """
    spec = TaskSpec(
        factory="autoencoder",
        config=config.model_dump(mode="json"),
        inputs=dict(inputs),
        seed=1,
    )
    task = build_autoencoder_task(spec, device)
    engine = PlainEngine(task.module, device=torch.device(device), precision="bfloat16")
    engine.set_training(True)
    counter = FlopCounterMode(display=False)
    with counter:
        for step in range(COUNTED_STEPS):
            one_step(engine, task.batch(step, 0, 0, 1))
    counted = sum(positions(task, step)["computed"] for step in range(COUNTED_STEPS))
    finish_gpu()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for step in range(COUNTED_STEPS, COUNTED_STEPS + steps):
        one_step(engine, task.batch(step, 0, 0, 1))
    finish_gpu()
    seconds = time.perf_counter() - began
    done = [positions(task, step) for step in range(COUNTED_STEPS, COUNTED_STEPS + steps)]
    sums = {name: sum(item[name] for item in done) for name in done[0]}
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
    return {
        "seconds_per_step": round(seconds / steps, 4),
        "record_tokens_per_second": round(sums["tokens"] / seconds, 1),
        "positions_per_second": round(sums["useful"] / seconds, 1),
        "useful_share_of_positions": round(sums["useful"] / sums["computed"], 3),
        "flops_per_position": counter.get_total_flops() / counted,
        "peak_gpu_mib": round(memory, 1),
    }


def one_step(engine: PlainEngine, batch: Mapping[str, torch.Tensor]) -> None:
    """Forward, backward and step."""
    engine.backward(engine.forward(batch)["loss"])
    engine.step(1e-4)


def positions(task: AutoencoderTask, step: int) -> dict[str, int]:
    """The decoder's positions of a batch: record tokens, with prompt and BOS, and with padding too."""
    batch = task.batch(step, 0, 0, 1)
    rows, longest = batch["ids_BT"].shape
    ahead = 1 + task.module.injector.positions  # type: ignore[union-attr, operator]
    tokens = int(batch["lengths_B"].sum())
    return {"tokens": tokens, "useful": tokens + rows * ahead, "computed": rows * (longest + ahead)}


def utilisation(flops_per_position: float, seen: Mapping[str, float], peak: float) -> float:
    """What the useful positions of a training need of the chip's rate."""
    return round(flops_per_position * seen["positions_per_second"] / peak, 3)


def matrix_rate(device: str) -> float:
    """FLOP/s of the product of two bfloat16 matrices, the median of ten."""
    size = MATRIX if device == "cuda" else 512
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(13):
        began = time.perf_counter()
        left @ right
        finish_gpu()
        rates.append(2 * size**3 / (time.perf_counter() - began))
    return statistics.median(rates[3:])


@torch.no_grad()
def sampling(bundle: Path, device: str, rows: int, repeats: int) -> dict[str, Any]:
    """Rows a second of our engine beside `generate`, each at its best batch size and dtype."""
    sides = candidates(prepare(bundle, rows, device=device), own_decoder=False)
    figures = measure({name: sides[name] for name in ("engine", "generate", "forced")}, repeats)
    return {"sides": figures, "ratios": ratios(figures, ("generate", "forced"))}


def main(
    model: Annotated[str, typer.Option(help=f"one of {', '.join(DECODERS)}")] = "qwen2-0.5b",
    steps: Annotated[int, typer.Option(help="training steps that are measured")] = 100,
    rows: Annotated[int, typer.Option(help="rows that are drawn")] = 512,
    repeats: Annotated[int, typer.Option(help="runs of every side of sampling")] = 3,
    batch: Annotated[int, typer.Option(help="records of a training step")] = 64,
    device: Annotated[str, typer.Option(help="cuda, or cpu to see that it works")] = "cuda",
) -> None:
    """Measure a model, print the figures, and on a GPU write them into results/gpu.json."""
    if model not in DECODERS:
        raise typer.BadParameter(f"there is no {model!r}; give one of {', '.join(DECODERS)}", param_hint="--model")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "this needs a CUDA GPU with 24 GiB (qwen2-0.5b) or 40 GiB (llama-1b), and there is none here; "
            "--model tiny --device cpu --steps 20 --rows 32 shows that it works"
        )
    with tempfile.TemporaryDirectory() as folder:
        stages, config = stages_of(Path(folder), model, batch)
        peak = matrix_rate(device)
        found: dict[str, Any] = {"matrix_teraflops": round(peak / 1e12, 2), "training": {}}
        plain: dict[str, float] = {}
        for name, recompute in (("plain", False), ("gradient_checkpointing", True)):
            inputs = {"prepare": str(stages.prepared), "fit-decoder": str(stages.decoder)}
            seen = training(inputs, config.model_copy(update={"gradient_checkpointing": recompute}), device, steps)
            plain = plain or seen
            seen["model_flop_utilisation"] = utilisation(plain["flops_per_position"], seen, peak)
            found["training"][name] = seen
            print(name, json.dumps(seen), file=sys.stderr)
        found["sampling"] = sampling(stages.bundle, device, rows, repeats)
    command = " ".join(["python tests/benchmarks/gpu.py", *sys.argv[1:]])
    chip = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    record = {"command": command, **provenance(), "chip": chip, "torch": torch.__version__, **found}
    print(json.dumps(record, indent=2))
    if device == "cuda":
        known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps(known | {model: record}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
