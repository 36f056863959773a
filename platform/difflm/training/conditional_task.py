"""Training the conditional prior: the diffusion prior goes on as a second set of weights that reads conditions.

It begins as the finished prior, whose own weights and draws stay as they are, and learns from random restrictions of
the training rows (`condition_draws`), so one training serves every condition that is asked for later.

Shape legend: B batch, N records, F fields, Z latent size, C condition features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.diffusion.conditional import ConditionBins, FloatArray, save_conditional
from difflm.diffusion.edm import ConditionedDenoiser, EdmDenoiser, score_matching_loss
from difflm.diffusion.network import build_network
from difflm.diffusion.priors import LatentScaler, network_facts, read_network
from difflm.errors import ModelError
from difflm.models.decoder_store import read_tensors
from difflm.records.kinds.codes import column_codes
from difflm.records.schema import RecordSchema, read_schema
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.training.condition_draws import ConditionDraws
from difflm.training.denoiser_task import DenoiserTask, NoisedLatents, held_out_order, read_latents
from difflm.training.loop import LoopConfig
from difflm.training.record_data import read_split
from difflm.training.task import TaskSpec

LOG_SIGMA_MEAN = 0.0
"""Higher than the prior's -1.2: what a condition decides, it decides while the noise still hides it."""


class ConditionsConfig(Config):
    """How the conditional prior is trained, which goes on from a diffusion prior."""

    enabled: bool = Field(default=False, description="whether bundles can be asked for conditions")
    steps: int = Field(default=8000, ge=1, description="optimizer steps")
    batch_size: int = Field(default=512, ge=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    validation_share: float = Field(default=0.05, gt=0, lt=1, description="latents held out to watch the loss")
    loop: LoopConfig = LoopConfig(
        learning_rate=1e-3,
        warmup_steps=100,
        weight_decay=1e-4,
        evaluate_every=500,
        checkpoint_every=1000,
        log_every=50,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePrior:
    """A finished diffusion prior as numbers: where the conditional one begins, and the scaler that both share."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, directory: Path) -> BasePrior:
        """Raise ModelError for a prior of another kind, which has no denoiser to go on with."""
        facts = json.loads((directory / "prior.json").read_text())
        if facts["kind"] != "diffusion":
            raise ModelError(
                f"{directory}: a prior of kind {facts['kind']!r} cannot be taught conditions; set prior.kind=diffusion"
            )
        return cls(facts=facts, tensors=read_tensors(directory / "prior.safetensors"))

    def scaler(self) -> LatentScaler:
        mean_Z, std_Z = self.tensors["scaler.mean"], self.tensors["scaler.std"]
        return LatentScaler(mean_Z=mean_Z, std_Z=std_Z, sigma_data=self.facts["sigma_data"])

    def denoiser(self, conditions: int) -> EdmDenoiser:
        """Return the same function at first, whatever the condition."""
        network = build_network(read_network(self.facts), latent_size=self.facts["latent_size"], conditions=conditions)
        denoiser = EdmDenoiser(network, sigma_data=self.facts["sigma_data"])
        weights = {name: value for name, value in self.tensors.items() if not name.startswith("scaler.")}
        denoiser.load_state_dict({**denoiser.state_dict(), **weights})
        return denoiser


def table_codes(table: pa.Table, schema: RecordSchema) -> FloatArray:
    """Return the codes of a normalised table, shape (N, F), NaN where a value is missing."""
    columns = [column_codes(field, table.column(place)) for place, field in enumerate(schema.fields)]
    return np.array(columns, dtype=np.float64).T


class ConditionalModule(nn.Module):
    """The conditional denoiser; `forward` is its loss."""

    def __init__(self, denoiser: EdmDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, clean_BZ: Tensor, sigma_B: Tensor, noise_BZ: Tensor, condition_BC: Tensor) -> dict[str, Tensor]:
        denoiser = ConditionedDenoiser(denoiser=self.denoiser, condition_BC=condition_BC)
        sigma_data = self.denoiser.sigma_data
        return {"loss": score_matching_loss(denoiser, clean_BZ, sigma_B, noise_BZ, sigma_data=sigma_data)}


class ConditionalBatches:
    """`DenoiserBatches` of the conditional prior: restrictions, and latents of records that satisfy them."""

    def __init__(
        self,
        config: ConditionsConfig,
        scaler: LatentScaler,
        latents_NZ: tuple[Tensor, Tensor],
        codes_NF: FloatArray,
        bins: ConditionBins,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self.config, self.bins, self.seed, self.device = config, bins, seed, torch.device(device)
        mean_NZ, log_variance_NZ = latents_NZ
        order, self.train_count = held_out_order(len(mean_NZ), config.validation_share, seed)
        self.latents = NoisedLatents.of(mean_NZ[order], log_variance_NZ[order], scaler, self.device)
        codes_NF = codes_NF[order.numpy()]
        self.held_out_start = self.train_count if self.train_count < len(mean_NZ) else 0
        self.draws = ConditionDraws(bins, codes_NF[: self.train_count])
        self.held_out_draws = ConditionDraws(bins, codes_NF[self.held_out_start :])

    @property
    def scaler(self) -> LatentScaler:
        return self.latents.scaler

    def steps(self) -> int:
        return self.config.steps

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        generator = torch_generator(self.seed, "conditions", step, micro, rank)
        rows_B, condition_BC = self.draws.draw(self.config.batch_size, generator)
        return self._noised(rows_B, generator) | {"condition_BC": condition_BC.to(self.device)}

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        generator = torch_generator(self.seed, "held-out conditions", rank)
        count = max(1, self.held_out_draws.rows // world_size)
        rows_B, condition_BC = self.held_out_draws.draw(count, generator)
        batch = self._noised(rows_B + self.held_out_start, generator)
        yield count, batch | {"condition_BC": condition_BC.to(self.device)}

    def _noised(self, rows_B: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return self.latents.batch(rows_B, generator, log_sigma_mean=LOG_SIGMA_MEAN)

    def facts(self) -> dict[str, JSON]:
        return {"condition_features": self.bins.size}


def build_conditional_task(spec: TaskSpec, device: torch.device | str) -> DenoiserTask:
    """Build the task. Inputs: `prepare` (rows and schema), `encode` (their latents), `train-diffusion` (the prior)."""
    config = ConditionsConfig.model_validate(spec.config)
    schema = read_schema(Path(spec.inputs["prepare"]))
    codes_NF = table_codes(read_split(Path(spec.inputs["prepare"]), "train", schema), schema)
    base, bins = BasePrior.read(Path(spec.inputs["train-diffusion"])), ConditionBins.fit(schema, codes_NF)
    latents_NZ = read_latents(Path(spec.inputs["encode"]) / "latents")
    batches = ConditionalBatches(config, base.scaler(), latents_NZ, codes_NF, bins, seed=spec.seed, device=device)
    torch.manual_seed(spec.seed)
    module = ConditionalModule(base.denoiser(bins.size)).to(device)
    return DenoiserTask(module, batches, ema_decay=config.ema_decay)


def finish_conditional(best: Path, prepared: Path, prior: Path, directory: Path) -> None:
    """Turn the best tensors of the training into a conditional prior's directory."""
    schema = read_schema(prepared)
    bins = ConditionBins.fit(schema, table_codes(read_split(prepared, "train", schema), schema))
    base = BasePrior.read(prior)
    facts = {name: base.facts[name] for name in ("latent_size", "sigma_data")}
    facts |= network_facts(read_network(base.facts))
    save_conditional(directory, facts, bins, read_tensors(best))
