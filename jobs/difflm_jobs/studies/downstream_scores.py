"""Comparing language models on held-out code: loss and perplexity of each, and pass@k where exercises are given.

Shape legend: N held-out texts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.inputs.sources import hash_source
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.studies.downstream_config import ARMS, MODEL, PassAtKConfig

if TYPE_CHECKING:
    from difflm.training.language_model_task import LanguageModel
    from difflm_evaluators.texts.pass_at_k import Problem

REPORT = "downstream.md"
BASE = "base-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Nats and tokens of the held-out texts under one model, and their characters."""

    nats_N: npt.NDArray[np.float64]
    tokens_N: npt.NDArray[np.int64]
    characters: int

    @property
    def perplexity(self) -> float:
        """Return that of a token: exp of all nats over all tokens, the one that ends a text included."""
        return math.exp(self.nats_N.sum() / self.tokens_N.sum())

    @property
    def bits_per_character(self) -> float:
        """Return what is the same whatever the tokenizer."""
        return float(self.nats_N.sum() / math.log(2) / self.characters)

    def gain(self, base: HeldOut) -> tuple[float, float]:
        """Compute nats a token less than under `base`, texts paired, and the standard error of that over texts."""
        differences_N = base.nats_N - self.nats_N
        mean_tokens = self.tokens_N.mean()
        error = differences_N.std(ddof=1) / math.sqrt(len(differences_N)) if len(differences_N) > 1 else 0.0
        return float(differences_N.mean() / mean_tokens), float(error / mean_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareModels:
    """Writes downstream.json and downstream.md: the base model and every arm on the same held-out texts."""

    model: str | None
    pass_at_k: PassAtKConfig | None
    longest_tokens: int
    seed: int
    name: ClassVar[str] = "compare-models"
    version: ClassVar[int] = 1
    output: ClassVar[str] = "downstream"
    inputs: ClassVar[tuple[str, ...]] = ("texts", BASE, *(f"train-{arm}" for arm in ARMS))

    def sources(self) -> Mapping[str, str]:
        if self.pass_at_k is None:
            return {}
        return {"problems": hash_source(Path(self.pass_at_k.problems))}

    def run(self, context: StageContext) -> StageOutcome:
        import torch

        from difflm.training.language_model_task import load_language_model

        device = "cuda" if torch.cuda.is_available() else "cpu"
        rows: dict[str, dict[str, JSON]] = {}
        base: HeldOut | None = None
        for done, name in enumerate(self.inputs[1:]):
            context.report(done, len(ARMS) + 1, f"scoring {name}")
            module, tokenizer = load_language_model(str(context.input(name) / MODEL))
            found = self._held_out(context, module.to(device), tokenizer, device)
            base = base or found
            gain, error = found.gain(base)
            rows[name] = {
                "perplexity": found.perplexity,
                "bits_per_character": found.bits_per_character,
                "gain_nats_per_token": gain,
                "gain_standard_error": error,
                **self._training(context, name),
                **self._pass_at_k(module, tokenizer),
            }
        report: dict[str, JSON] = {"model": self._model(context), "held_out": self._held_out_facts(context)}
        report["models"] = {name: dict(row) for name, row in rows.items()}
        write_json_atomic(context.output / "downstream.json", report)
        write_bytes_atomic(context.output / REPORT, markdown(report).encode())
        return StageOutcome(facts={name: row["perplexity"] for name, row in rows.items()})

    def _held_out(self, context: StageContext, module: LanguageModel, tokenizer: Any, device: str) -> HeldOut:
        from difflm.training.language_model_task import nats_of_texts, read_texts, tokenize_texts

        texts = read_texts(context.input("texts") / "held_out.parquet")
        tokens = tokenize_texts(texts, tokenizer, longest=self.longest_tokens, device=device)
        return HeldOut(
            nats_N=nats_of_texts(module, tokens).double().numpy(),
            tokens_N=tokens.batches.lengths_N.cpu().numpy(),
            characters=sum(len(texts[place]) for place in tokens.kept),
        )

    def _training(self, context: StageContext, name: str) -> dict[str, JSON]:
        """Describe what an arm was trained on: texts, steps, and how many texts were too long for it."""
        if name == BASE:
            return {}
        summary: Mapping[str, Any] = json.loads((context.input(name) / "summary.json").read_bytes())
        steps = context.inputs[name].manifest.facts["steps"]
        return {"steps": steps, **{key: summary[key] for key in ("texts", "too_long", "mean_tokens")}}

    def _model(self, context: StageContext) -> str:
        """Name the model, so that nobody takes a small one for a large one."""
        if self.model is not None:
            return self.model
        count = context.inputs["texts"].manifest.facts["scratch"]
        return (
            f"a small Llama made for this comparison, trained on {count:,} texts only; "
            "it says which code teaches it more, and nothing about large models"
        )

    def _held_out_facts(self, context: StageContext) -> dict[str, JSON]:
        return {"texts": context.inputs["texts"].manifest.facts["held_out"]}

    def _pass_at_k(self, module: LanguageModel, tokenizer: Any) -> dict[str, JSON]:
        asked = self.pass_at_k
        if asked is None:
            return {}
        from difflm_evaluators.texts.pass_at_k import evaluate_pass_at_k, read_problems

        problems = read_problems(Path(asked.problems))
        completions = {
            problem.task_id: _completions(problem, module, tokenizer, asked, derive_seed(self.seed, place))
            for place, problem in enumerate(problems)
        }
        evaluation = evaluate_pass_at_k(problems, completions, ks=asked.k, limits=asked.limits, workers=asked.workers)
        return {score.name: score.value for score in evaluation.scores}


def _completions(problem: Problem, module: LanguageModel, tokenizer: Any, asked: PassAtKConfig, seed: int) -> list[str]:
    from difflm.synthesis.decoding.sampling import complete, cut

    model: Any = module.model
    made = complete(
        model,
        tokenizer,
        problem.prompt,
        samples=asked.samples,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        seed=seed,
    )
    return [cut(text) for text in made]


def markdown(report: Mapping[str, Any]) -> str:
    """Write the comparison as Markdown."""
    models: Mapping[str, Mapping[str, Any]] = report["models"]
    scores = [name for name in next(iter(models.values())) if name.startswith("pass_at_")]
    titles = ["model", "texts", "steps", "perplexity", "bits per character", "nats a token gained", *scores]
    lines = [
        "# Language models trained further",
        "",
        f"Model: {report['model']}. Held out: {report['held_out']['texts']:,} texts that no arm has seen.",
        "",
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
    ]
    for name, row in models.items():
        gain = "-" if name == BASE else f"{row['gain_nats_per_token']:.4f} ± {row['gain_standard_error']:.4f}"
        cells = [
            name,
            *(f"{row[key]:,}" if key in row else "-" for key in ("texts", "steps")),
            f"{row['perplexity']:.2f}",
            f"{row['bits_per_character']:.3f}",
            gain,
            *(f"{row[score]:.2f}" for score in scores),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rule = "All arms begin with the same weights and take as many steps of as many texts."
    lines += ["", f"{rule} The error is over texts, for one training each."]
    return "\n".join(lines) + "\n"
