"""Continuing the training of a causal language model on texts: what a downstream user does with real or synthetic code.

Shape legend: B batch, T tokens, N texts.

A text is read as [BOS, text, EOS]; the loss is on the text and EOS. Every text is whole: those with more tokens than
`longest_tokens` are left out and counted. The last weights are kept, not those with the lowest held-out loss, so that
the held-out texts choose nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.errors import DataError, ModelError
from difflm.models.decoder import load_causal_lm
from difflm.models.prompt import Prompt, causal_nll
from difflm.telemetry import JSON
from difflm.training.loop import LoopConfig
from difflm.training.record_data import TokenBatches
from difflm.training.task import TaskSpec, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = "text"


class LanguageModelConfig(Config):
    """How a language model is trained on texts."""

    epochs: float = Field(default=3.0, gt=0, description="passes over the texts, where steps is not given")
    steps: int | None = Field(default=None, ge=1, description="optimizer steps, however many texts there are")
    batch_size: int = Field(default=16, ge=1, description="most texts of a micro-batch")
    tokens_per_batch: int = Field(default=8192, ge=1, description="most tokens of a micro-batch, padding included")
    longest_tokens: int = Field(default=512, ge=2, description="texts with more are left out and counted")
    validation_texts: int = Field(default=256, ge=1, description="held-out texts that the loss curve is measured on")
    loop: LoopConfig = LoopConfig(learning_rate=1e-5, warmup_steps=20, evaluate_every=100, checkpoint_every=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTexts:
    """Tokens of texts, EOS included, and how many texts were too long."""

    batches: TokenBatches
    kept: tuple[int, ...]
    too_long: int


class LanguageModel(nn.Module):
    """A causal LM whose forward is the loss of whole texts."""

    def __init__(self, model: nn.Module, *, bos_id: int) -> None:
        super().__init__()
        self.model, self.bos_id = model, bos_id

    def nats_B(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Nats of every text of a batch, EOS included."""
        embeddings: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        nothing_B0D = embeddings.weight.new_empty((len(ids_BT), 0, embeddings.weight.shape[1]))
        return causal_nll(self.model, Prompt(embeds_BKD=nothing_B0D), ids_BT, lengths_B, bos_id=self.bos_id).sum(dim=1)

    def forward(self, ids_BT: Tensor, lengths_B: Tensor) -> dict[str, Tensor]:
        nats_B, tokens = self.nats_B(ids_BT, lengths_B), lengths_B.float()
        return {"loss": nats_B.sum() / tokens.sum(), "nats": nats_B.mean(), "tokens": tokens.mean()}


def load_language_model(folder: str, revision: str | None = None) -> tuple[LanguageModel, PreTrainedTokenizerBase]:
    """Return a causal LM in float32 with its tokenizer. Raises ModelError naming the path."""
    model, tokenizer = load_causal_lm(folder, revision=revision)
    bos_id = next((found for found in (tokenizer.bos_token_id, tokenizer.eos_token_id) if found is not None), None)
    if not isinstance(bos_id, int) or not isinstance(tokenizer.eos_token_id, int):
        raise ModelError(f"the tokenizer of {folder!r} has no EOS, which ends a text; choose a model that has one")
    return LanguageModel(model, bos_id=bos_id), tokenizer


def tokenize_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, longest: int, device: torch.device | str
) -> TokenTexts:
    """Ids of all texts of at most `longest` tokens, EOS included. Raises DataError where none is left."""
    found = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    ids = [[*one, tokenizer.eos_token_id] for one in found]
    kept = tuple(place for place, one in enumerate(ids) if len(one) <= longest)
    if not kept:
        raise DataError(f"none of {len(texts)} texts has at most {longest} tokens; raise training.longest_tokens")
    width = max(len(ids[place]) for place in kept)
    ids_NT = np.zeros((len(kept), width), np.int64)
    for row, place in enumerate(kept):
        ids_NT[row, : len(ids[place])] = ids[place]
    lengths_N = torch.tensor([len(ids[place]) for place in kept])
    batches = TokenBatches(
        ids_NT=torch.from_numpy(ids_NT).to(device),
        lengths_N=lengths_N.to(device),
        grid_NG=torch.zeros((len(kept), 0), dtype=torch.int64, device=device),
    )
    return TokenTexts(batches=batches, kept=kept, too_long=len(texts) - len(kept))


class LanguageModelTask:
    """`TrainingTask` of a language model."""

    def __init__(
        self, config: LanguageModelConfig, module: LanguageModel, train: TokenTexts, held_out: TokenTexts, *, seed: int
    ) -> None:
        self.config, self._module, self.train, self.held_out = config, module, train, held_out
        self.order = train.batches.order(
            most=config.batch_size, tokens=config.tokens_per_batch, group_by_length=False, seed=seed
        )
        self.last: dict[str, float] = {}

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        return self.config.steps or self.order.steps(most=sys.maxsize, epochs=self.config.epochs, floor=1)

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        return _texts(self.train.batches.at(self.order.rows(step, micro, rank, world_size)))

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        most, size = self.config.validation_texts, self.order.batch_size
        for count, batch in self.held_out.batches.share(rank, world_size, batch_size=size, most=most):
            yield count, _texts(batch)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = dict(metrics)
        per_token = metrics["nats"] / metrics["tokens"]
        return Verdict(objective=-step, note=f"held-out loss {per_token:.4f} nats a token")

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last = state["last"]

    def artifact_tensors(self) -> dict[str, Tensor]:
        return dict(self._module.model.named_parameters())  # tied matrices once

    def summary(self) -> dict[str, JSON]:
        mean_tokens = float(self.train.batches.lengths_N.float().mean())
        return {"texts": len(self.train.kept), "too_long": self.train.too_long, "mean_tokens": mean_tokens, **self.last}


@torch.no_grad()
def nats_of_texts(module: LanguageModel, texts: TokenTexts, *, rows: int = 16) -> Tensor:
    """Nats of every text, EOS included, of shape (N,), on the CPU."""
    module.train(False)
    parts = [
        module.nats_B(**_texts(batch)).cpu()
        for _, batch in texts.batches.share(0, 1, batch_size=rows, most=sys.maxsize)
    ]
    return torch.cat(parts)


def _texts(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("ids_BT", "lengths_B")}


def read_texts(path: Path) -> list[str]:
    """Return the texts of a Parquet file with the one column `text`."""
    texts: list[str] = pq.read_table(path).column(TEXT).to_pylist()
    return texts


def build_language_model_task(spec: TaskSpec, device: torch.device | str) -> LanguageModelTask:
    """Build the task. Inputs: `model` (a folder of save_pretrained), `train` and `held_out` (Parquet files)."""
    config = LanguageModelConfig.model_validate(spec.config)
    module, tokenizer = load_language_model(spec.inputs["model"])
    train, held_out = (
        tokenize_texts(read_texts(Path(spec.inputs[name])), tokenizer, longest=config.longest_tokens, device=device)
        for name in ("train", "held_out")
    )
    return LanguageModelTask(config, module.to(device), train, held_out, seed=spec.seed)
