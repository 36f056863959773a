"""DP-SGD of the compact decoder: it goes on from what was fitted to private summaries, on the rows themselves.

Shape legend: N rows, U units, B rows of a sample.

A step draws a Poisson sample of units and of each one of its rows, so a unit has one gradient a step however many rows
it has. What is evaluated are rows of the surrogate, never of the table, and the number of steps is fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.decoder_store import DecoderParts, read_parts, read_tensors
from difflm.models.precision import Precision
from difflm.models.prompt import Prompt, causal_nll
from difflm.models.steered import SteeredDecoderFit
from difflm.privacy.budget import Steps
from difflm.privacy.secret_noise import poisson_sample, secret_generator, secret_uniform
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema, read_schema
from difflm.telemetry import JSON
from difflm.training.any_order import counted_tokens, draw_ranks, opening_tokens, reorder
from difflm.training.loop import LoopConfig
from difflm.training.private.engine import PrivateEngine
from difflm.training.record_data import TokenBatches, read_split, tokenize
from difflm.training.steered_task import Steering, text_fields, unfitted_steered
from difflm.training.task import TaskSpec, Verdict

NATS_PER_FIELD = 8.0
"""A record's loss counts up to this many nats a field in the loss that is logged."""
_EVALUATED = 256


class PrivateFitConfig(Config):
    """How the decoder is fitted privately: steps, sample rate and noise are what the budget allows."""

    steering: Steering
    rate: float = Field(gt=0, le=1)
    noise: float = Field(gt=0)
    steps: int = Field(ge=1)
    units: int = Field(ge=1, description="as they were counted with noise")
    chunk_rows: int = Field(ge=1)
    reordered_share: float = Field(ge=0, lt=1)
    loop: LoopConfig


class PrivateDecoder(nn.Module):
    """The decoder behind the empty prompt; only the decoder's own weights are trainable."""

    prompt_1KD: Tensor
    joined_V: Tensor | None

    def __init__(self, fit: SteeredDecoderFit) -> None:
        super().__init__()
        self.model, self.bos_id = fit.model, fit.bos_id
        with torch.no_grad():
            size = fit.injector.latent_size
            prompt_1KD = fit.injector(torch.zeros(1, size), torch.zeros(1, dtype=torch.bool))
        self.register_buffer("prompt_1KD", prompt_1KD.detach().clone())
        self.register_buffer("joined_V", fit.joined_V, persistent=False)

    def nats_B(self, ids_BT: Tensor, lengths_B: Tensor, counted_BT: Tensor) -> Tensor:
        """Return the nats of every record, (B,)."""
        prompt = Prompt(embeds_BKD=self.prompt_1KD.expand(len(ids_BT), -1, -1))
        nats_BT = causal_nll(self.model, prompt, ids_BT, lengths_B, bos_id=self.bos_id, joined_V=self.joined_V)
        return (nats_BT * counted_BT).sum(dim=1)

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self.nats_B(**batch).mean()}


class PrivateDecoderTask:
    """`TrainingTask` of DP-SGD, with an engine of its own."""

    def __init__(
        self,
        config: PrivateFitConfig,
        module: PrivateDecoder,
        kept: Mapping[str, Tensor],
        rows: TokenBatches,
        units_N: np.ndarray[Any, np.dtype[np.int64]],
        surrogate: TokenBatches,
        opening_F: Tensor | None,
        *,
        fields: int,
    ) -> None:
        """Take the rows with the unit of each, 0 to U - 1; `kept` are the tensors that go on as they are."""
        self.config, self._module, self._kept = config, module, dict(kept)
        self._rows, self._surrogate, self._opening_F, self._fields = rows, surrogate, opening_F, fields
        self._order_N = np.argsort(units_N, kind="stable")
        self._sizes_U = np.bincount(units_N)
        self._starts_U = np.cumsum(self._sizes_U) - self._sizes_U
        self._random = secret_generator()
        self.last: dict[str, float] = {}

    @property
    def module(self) -> nn.Module:
        return self._module

    def make_engine(self, device: torch.device, precision: Precision) -> PrivateEngine:
        """Return the one engine that this task may be trained by."""
        return PrivateEngine(
            self._module,
            steps=Steps(rate=self.config.rate, noise=self.config.noise, steps=self.config.steps),
            units=self.config.units,
            largest_nats=NATS_PER_FIELD * self._fields,
            chunk_rows=self.config.chunk_rows,
            device=device,
            precision=precision,
        )

    def steps(self) -> int:
        return self.config.steps

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        """Return a fresh Poisson sample, the same for nobody who asks again: it is as secret as the noise."""
        units = poisson_sample(len(self._sizes_U), self.config.rate).numpy()
        inside = np.floor(secret_uniform(len(units)) * self._sizes_U[units]).astype(np.int64)
        inside = np.minimum(inside, self._sizes_U[units] - 1)
        chosen = torch.from_numpy(self._order_N[self._starts_U[units] + inside])
        return self._completed(self._rows, chosen, reordered=True)

    def _completed(self, source: TokenBatches, rows_B: Tensor, *, reordered: bool) -> dict[str, Tensor]:
        if not len(rows_B):
            none = source.ids_NT[:0]
            return {"ids_BT": none, "lengths_B": source.lengths_N[:0], "counted_BT": none.bool()}
        batch = source.at(rows_B)
        ids_BT, lengths_B = batch["ids_BT"], batch["lengths_B"]
        if reordered and self._opening_F is not None:
            count, fields = len(rows_B), len(self._opening_F)
            other_B1 = torch.rand(count, 1, generator=self._random) < self.config.reordered_share
            ranks_BF = torch.where(other_B1, draw_ranks(count, fields, self._random), torch.arange(fields))
            ids_BT = reorder(ids_BT, lengths_B, self._opening_F, ranks_BF.to(ids_BT.device))
        return {
            "ids_BT": ids_BT,
            "lengths_B": lengths_B,
            "counted_BT": counted_tokens(ids_BT, lengths_B, self._opening_F),
        }

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        for rows_B in torch.arange(min(len(self._surrogate), _EVALUATED)).split(64):  # type: ignore[no-untyped-call]
            yield len(rows_B), self._completed(self._surrogate, rows_B, reordered=False)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = {"surrogate_nats": metrics["loss"]}
        return Verdict(objective=-float(step), note=f"rows of the surrogate {metrics['loss']:.2f} nats")

    def after_step(self, step: int) -> None:
        """Do nothing: the loop averages the weights."""

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last = state["last"]

    def artifact_tensors(self) -> dict[str, Tensor]:
        return {**self._kept, **{f"model.{name}": value for name, value in self._module.model.named_parameters()}}

    def summary(self) -> dict[str, JSON]:
        parameters = sum(value.numel() for value in self._module.model.parameters())
        return {"parameters": parameters, "noise": self.config.noise, "rate": self.config.rate, **self.last}


UNITS = "units.npy"


def build_private_task(spec: TaskSpec, device: torch.device | str) -> PrivateDecoderTask:
    """Build the task. Inputs: `prepare` (the surrogate), `rows` (the table) and `decoder` (what is gone on from).

    The configuration is a `PrivateFitConfig`.
    """
    config = PrivateFitConfig.model_validate(spec.config)
    prepared, rows, decoder = (Path(spec.inputs[name]) for name in ("prepare", "rows", "decoder"))
    schema = read_schema(prepared)
    parts = read_parts(decoder, schema)
    tensors = read_tensors(decoder / "best.safetensors")
    torch.manual_seed(spec.seed)
    fit = unfitted_steered(parts, config.steering, text_fields(schema))
    fit.load_state_dict(tensors, strict=False)
    fit.model.tie_weights()
    module = PrivateDecoder(fit).to(device)
    opening_F = opening_tokens(parts.tokenizer) if parts.any_order else None
    table = JsonRecordCodec(schema).normalize_table(pq.read_table(rows / "train.parquet")).table
    return PrivateDecoderTask(
        config,
        module,
        {name: value for name, value in tensors.items() if not name.startswith("model.")},
        _tokens(table, schema, parts, device),
        np.load(rows / UNITS),
        _tokens(read_split(prepared, "validation", schema), schema, parts, device),
        None if opening_F is None else opening_F.to(device),
        fields=len(schema.fields),
    )


def _tokens(table: Any, schema: RecordSchema, parts: DecoderParts, device: torch.device | str) -> TokenBatches:
    """Tokenize a table; what is longer than any row of the surrogate is cut: so long a model's context is."""
    found = TokenBatches.of(tokenize(table, schema, parts.tokenizer, parts.slots), device)
    most = parts.longest
    return TokenBatches(ids_NT=found.ids_NT[:, :most], lengths_N=found.lengths_N.clamp(max=most), grid_NG=found.grid_NG)
