"""Rows a second of the decoding engine beside what it has to beat, in one process, and record them.

    python tests/benchmarks/decoding.py runs/adult/artifacts/bundle-*                       # the bundle's own decoder
    python tests/benchmarks/decoding.py BUNDLE --rows 64 --decoder-millions 100             # a random Llama instead

All sides see the same prompts. Each has its settings chosen first (batch size and dtype, the fastest of one run each);
then they run by turns, and a side's figure is the median of its repeats.

    whole draw     noise, prior, injector, decoding and parsing: records that are valid
    engine         decoding alone, from prompts that are there
    generate       Hugging Face `generate` (cached, batched, sampling, no grammar), as many tokens as a record has
    forced         one teacher-forced forward pass over prompt and record, in as many positions as the engine reads
                   them in: about what any decoding has to compute
    uncached       one record at a time, the whole of it read again for every token

Every side computes with one thread, as each worker of a synthesis does (`--threads 2` for more): what one core does is
what a cluster multiplies. `seconds` is wall time, `cpu_seconds` the process's own, which other programs disturb less.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from provenance import provenance
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import Prompt, causal_logits, join_tokens
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer

RESULT = Path(__file__).parent / "results" / "decoding.json"
DTYPES = (torch.float32, torch.bfloat16)
UNCACHED_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to do the work, with its settings: `run` does so many rows."""

    settings: str
    rows: int
    run: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Prompts (N, K, D), the records' tokens from short to long, and the decoder, in one dtype."""

    synthesizer: Synthesizer
    decoder: FrozenDecoder
    embeds_NKD: Tensor
    uniforms_NT: Tensor
    tokens: Sequence[Sequence[int]]

    @property
    def dtype(self) -> torch.dtype:
        return self.decoder.embeddings_VD.dtype

    @property
    def device(self) -> torch.device:
        return self.embeds_NKD.device

    def inputs(self, rows: slice) -> Tensor:
        """Soft prompt and BOS."""
        embeds_NKD = self.embeds_NKD[rows]
        bos_N1 = torch.full((len(embeds_NKD), 1), self.decoder.bos_id, device=embeds_NKD.device)
        return torch.cat([embeds_NKD, self.embedded(bos_N1)], dim=1)

    def embedded(self, ids_NT: Tensor) -> Tensor:
        return self.decoder.embeddings_VD[ids_NT]


class Ready:
    """A source of prompts that are there."""

    def __init__(self, work: Work) -> None:
        self.work, self.next = work, 0

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        rows = slice(self.next, self.next + most)
        embeds_NKD = self.work.embeds_NKD[rows]
        if len(embeds_NKD) == 0:
            return None
        addresses = [Address(index=self.next + row, attempt=0) for row in range(len(embeds_NKD))]
        self.next += len(embeds_NKD)
        return Prompts(
            addresses=addresses, prompt=Prompt(embeds_BKD=embeds_NKD), uniforms_NT=self.work.uniforms_NT[rows]
        )


def engine(work: Work, slots: int) -> list[Decoded]:
    loop = replace(work.synthesizer.engine, decoder=work.decoder, slots=slots)
    return list(loop.decode(Ready(work)))


def generate(work: Work, batch: int) -> None:
    tokens = round(statistics.fmean(map(len, work.tokens)))
    for start in range(0, len(work.tokens), batch):
        inputs_NKD = work.inputs(slice(start, start + batch))
        work.decoder.model.generate(
            inputs_embeds=inputs_NKD,
            attention_mask=torch.ones(inputs_NKD.shape[:2], device=inputs_NKD.device),
            do_sample=True,
            top_k=0,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            use_cache=True,
        )


def forced(work: Work, batch: int) -> None:
    for start in range(0, len(work.tokens), batch):
        rows = work.tokens[start : start + batch]
        longest, bos = max(map(len, rows)), work.decoder.bos_id
        read_NT = torch.tensor([[bos, *row, *[0] * (longest - len(row))] for row in rows], device=work.device)
        prompt, also_NT = Prompt(embeds_BKD=work.embeds_NKD[start : start + batch]), None
        if work.decoder.joined_V is not None:  # in the positions that the engine reads
            lengths_N = torch.tensor([len(row) + 1 for row in rows], device=work.device)
            read = join_tokens(read_NT, lengths_N, work.decoder.joined_V)
            read_NT, also_NT = read.tokens_BP, read.also_BP
        causal_logits(work.decoder.model, prompt, read_NT, also_NT)


def uncached(work: Work) -> None:
    for row in range(UNCACHED_ROWS):
        inputs = work.inputs(slice(row, row + 1))
        for _ in work.tokens[row]:
            logits_V = work.decoder.model(inputs_embeds=inputs, use_cache=False).logits[0, -1].float()
            token = torch.multinomial(torch.softmax(logits_V, dim=0), 1)
            inputs = torch.cat([inputs, work.embedded(token[None])], dim=1)


def whole_draw(work: Work, slots: int) -> None:
    work.synthesizer.config = work.synthesizer.config.model_copy(update={"batch_size": slots})
    drawn = work.synthesizer.draw_valid(range(len(work.tokens)), seed=1)[0]
    if len(drawn) < 0.9 * len(work.tokens):
        raise RuntimeError(f"only {len(drawn)} of {len(work.tokens)} records are valid; give a trained bundle")


def settings_of(work: Work) -> str:
    return str(work.dtype).removeprefix("torch.")


def candidates(works: Sequence[Work], *, own_decoder: bool) -> dict[str, list[Side]]:
    """Every side with all settings to choose from."""
    rows = len(works[0].tokens)

    def batched(run: Callable[[Work, int], object], *batches: int) -> list[Side]:
        return [
            Side(settings=f"{settings_of(work)}, batch {batch}", rows=rows, run=partial(run, work, batch))
            for work in works
            for batch in batches
            if batch <= max(rows, batches[0])
        ]

    one = [Side(settings=settings_of(w), rows=min(UNCACHED_ROWS, rows), run=partial(uncached, w)) for w in works]
    slots = (32, 64, 128, 256, 512, 1024)
    sides = {
        "engine": batched(engine, *slots),
        "generate": batched(generate, *slots),
        "forced": batched(forced, 8, 16, 32, 64, 128, 256),
        "uncached": one,
    }
    return {"whole draw": batched(whole_draw, 256, 512, 1024), **sides} if own_decoder else sides


def seconds(side: Side) -> tuple[float, float]:
    """Wall and processor seconds of one run, until a GPU has finished what it was given."""
    wall, cpu = time.perf_counter(), time.process_time()
    side.run()
    finish_gpu()
    return time.perf_counter() - wall, time.process_time() - cpu


def finish_gpu() -> None:
    """Wait until a GPU, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(sides: dict[str, list[Side]], repeats: int) -> dict[str, Any]:
    """Choose every side's settings, then run the sides by turns."""
    chosen = {}
    for name, choices in sides.items():
        best = min(choices, key=lambda side: seconds(side)[0])
        chosen[name] = best
        print(f"{name}: {best.settings}", file=sys.stderr)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for _ in range(repeats):
        for name, side in chosen.items():
            times[name].append(seconds(side))
    figures = {}
    for name, side in chosen.items():
        walls, cpus = zip(*times[name], strict=True)
        figures[name] = {
            "settings": side.settings,
            "rows": side.rows,
            "seconds": [round(wall, 3) for wall in walls],
            "cpu_seconds": [round(cpu, 3) for cpu in cpus],
            "rows_per_second": round(side.rows / statistics.median(walls), 2),
            "cpu_ms_per_row": round(1000 * statistics.median(cpus) / side.rows, 3),
        }
    return figures


def ratios(figures: dict[str, Any], others: Sequence[str] = ("generate", "forced", "uncached")) -> dict[str, float]:
    """How many times the rows of each other side our sides write in the same time."""
    ours = [name for name in ("whole draw", "engine") if name in figures]
    return {
        f"{mine} / {name}": round(figures[mine]["rows_per_second"] / figures[name]["rows_per_second"], 3)
        for mine in ours
        for name in others
    }


def random_llama(millions: int, bundle: Bundle) -> LlamaForCausalLM:
    """An untrained Llama of about so many million parameters that reads the bundle's tokens."""
    torch.manual_seed(0)
    width = 768
    layers = max(1, round(millions * 1e6 / (12 * width**2)))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=int(bundle.autoencoder.decoder.embeddings_VD.shape[0]),
            hidden_size=width,
            intermediate_size=4 * width * 2 // 3,
            num_hidden_layers=layers,
            num_attention_heads=12,
            num_key_value_heads=12,
            tie_word_embeddings=True,
            eos_token_id=None,
        )
    )


def prepare(path: Path, rows: int, millions: int | None = None, device: str = "cpu") -> list[Work]:
    """The same prompts and records for both dtypes; the records are those that the engine decodes."""
    works: list[Work] = []
    tokens: list[list[int]] = []
    for dtype in DTYPES:
        config = SamplingConfig(precision="float32" if dtype is torch.float32 else "bfloat16")
        bundle = load_bundle(path, solver=config.solver_settings, device=device, precision=dtype)
        synthesizer = Synthesizer(bundle, config, device=device)
        decoder = bundle.autoencoder.decoder
        prompts = synthesizer.prompts([Address(index=row, attempt=0) for row in range(rows)], seed=1)
        embeds_NKD = prompts.prompt.embeds_BKD
        if millions is not None:
            model = random_llama(millions, bundle).to(device, dtype)
            decoder = FrozenDecoder(model, bos_id=decoder.bos_id, pad_id=decoder.pad_id)
            shape = (*embeds_NKD.shape[:2], decoder.width)
            embeds_NKD = decoder.embedding_scale * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(
                device
            )
        work = Work(
            synthesizer=synthesizer,
            decoder=decoder,
            embeds_NKD=embeds_NKD.to(dtype),
            uniforms_NT=prompts.uniforms_NT,
            tokens=tokens,
        )
        if not works:
            tokens += sorted((item.tokens for item in engine(work, min(rows, 512))), key=len)
        works.append(work)
    return works


@torch.no_grad()
def main(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    rows: Annotated[int, typer.Option(help="rows of a run (the uncached side does four)")] = 2048,
    repeats: Annotated[int, typer.Option(help="runs of every side")] = 5,
    threads: Annotated[int, typer.Option(help="threads of every side")] = 1,
    decoder_millions: Annotated[int | None, typer.Option(help="parameters of a random Llama in its place")] = None,
) -> None:
    """Measure all sides and write them into tests/benchmarks/results/decoding.json."""
    torch.set_num_threads(threads)
    works = prepare(bundle, rows, decoder_millions)
    figures = measure(candidates(works, own_decoder=decoder_millions is None), repeats)
    record = {
        "command": "python tests/benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **provenance(),
        "threads": torch.get_num_threads(),
        "decoder_parameters": works[0].decoder.model.num_parameters(),
        "tokens_per_record": round(statistics.fmean(map(len, works[0].tokens)), 1),
        "soft_tokens": works[0].embeds_NKD.shape[1],
        "sides": figures,
        "ratios": ratios(figures),
    }
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known["bundle" if decoder_millions is None else f"random_llama_{decoder_millions}M"] = record
    RESULT.write_text(json.dumps(known, indent=2) + "\n")
    for name, figure in figures.items():
        settings, rate, cpu = figure["settings"], figure["rows_per_second"], figure["cpu_ms_per_row"]
        print(f"{name:12} {rate:10.1f} rows/s {cpu:10.3f} cpu ms/row   {settings}")
    for name, ratio in record["ratios"].items():
        print(f"{name:24} {ratio:8.2f}")


if __name__ == "__main__":
    typer.run(main)
