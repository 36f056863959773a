"""Training the prior: denoising score matching on the latents of the training split (DiffLM, Eq. 5-7).

Shape legend: B batch, N records, Z latent size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from difflm.config import Config
from difflm.diffusion.edm import EdmDenoiser, score_matching_loss
from difflm.diffusion.network import (
    DenoiserConfig,
    MlpDenoiserConfig,
    NetworkConfig,
    NoiseEmbedding,
    build_network,
    check_heads,
)
from difflm.diffusion.priors import LatentScaler, fit_mixture, network_facts, save_prior
from difflm.models.decoder_store import read_tensors
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.training.denoiser_task import DenoiserTask, NoisedLatents, held_out_order, read_latents
from difflm.training.least_steps import PRIOR_STEPS
from difflm.training.loop import LoopConfig
from difflm.training.record_data import RowOrder
from difflm.training.task import TaskSpec

SIGMA_DATA = 0.5


class DiffusionPriorConfig(Config):
    """The paper's prior: a diffusion over z, by default with the paper's kind of denoiser."""

    kind: Literal["diffusion"] = "diffusion"
    width: int = Field(default=256, ge=8)
    blocks: int = Field(default=3, ge=1)
    denoiser: DenoiserConfig = MlpDenoiserConfig()
    noise_embedding: NoiseEmbedding = Field(default="positional", description="how the denoiser reads the noise level")
    steps: int = Field(default=4000, ge=1, description="most optimizer steps")
    epochs: float = Field(default=1000.0, gt=0, description="most passes over the latents (but 300 steps)")
    batch_size: int = Field(default=512, ge=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    validation_share: float = Field(
        default=0.05, gt=0, lt=1, description="latents held out of the training to watch the loss"
    )
    loop: LoopConfig = LoopConfig(
        learning_rate=1e-3,
        warmup_steps=200,
        weight_decay=1e-4,
        evaluate_every=500,
        checkpoint_every=1000,
        log_every=50,
    )

    @property
    def network(self) -> NetworkConfig:
        """What a bundle keeps of this."""
        return NetworkConfig(
            width=self.width, blocks=self.blocks, denoiser=self.denoiser, noise_embedding=self.noise_embedding
        )

    @model_validator(mode="after")
    def _network_fits(self) -> Self:
        check_heads(self.width, self.denoiser)
        return self


class MixturePriorConfig(Config):
    """A Gaussian mixture over z."""

    kind: Literal["gmm"] = "gmm"
    components: int = Field(default=20, ge=1)


class GaussianPriorConfig(Config):
    """N(0, I)."""

    kind: Literal["gaussian"] = "gaussian"


PriorConfig = Annotated[DiffusionPriorConfig | MixturePriorConfig | GaussianPriorConfig, Field(discriminator="kind")]


class DiffusionModule(nn.Module):
    """The denoiser; `forward` is its loss."""

    def __init__(self, denoiser: EdmDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, clean_BZ: Tensor, sigma_B: Tensor, noise_BZ: Tensor) -> dict[str, Tensor]:
        return {"loss": score_matching_loss(self.denoiser, clean_BZ, sigma_B, noise_BZ, sigma_data=SIGMA_DATA)}


class PriorBatches:
    """`DenoiserBatches` of the diffusion stage: the latents of all records alike."""

    def __init__(
        self,
        config: DiffusionPriorConfig,
        mean_NZ: Tensor,
        log_variance_NZ: Tensor,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self.config, self.seed = config, seed
        order, self.train_count = held_out_order(len(mean_NZ), config.validation_share, seed)
        self.count, self.latent_size = len(mean_NZ), int(mean_NZ.shape[1])
        scaler = LatentScaler.fit(mean_NZ, log_variance_NZ, sigma_data=SIGMA_DATA)
        self.latents = NoisedLatents.of(mean_NZ[order], log_variance_NZ[order], scaler, torch.device(device))
        self.order = RowOrder(count=self.train_count, batch_size=config.batch_size, seed=seed)

    @property
    def scaler(self) -> LatentScaler:
        return self.latents.scaler

    def steps(self) -> int:
        """`config.epochs` passes in batches of `config.batch_size`, counted so also where the rows are fewer than that.

        In a step of few rows each one weighs more: with as many passes a few hundred rows are learned by heart.
        """
        full_batches = math.ceil(self.config.epochs * self.train_count / self.config.batch_size)
        return min(self.config.steps, max(PRIOR_STEPS, full_batches))

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        rows_B = self.order.rows(step, micro, rank, world_size)
        return self.latents.batch(rows_B, torch_generator(self.seed, "noise", step, micro, rank))

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        rows = torch.arange(self.train_count, self.count) if self.count > self.train_count else torch.arange(self.count)
        for number, part in enumerate(rows[rank::world_size].split(1024)):  # type: ignore[no-untyped-call]
            if len(part):
                yield len(part), self.latents.batch(part, torch_generator(self.seed, "validation", number, rank))

    def facts(self) -> dict[str, JSON]:
        return {"latent_size": self.latent_size}


def build_diffusion_task(spec: TaskSpec, device: torch.device | str) -> DenoiserTask:
    """Input: `encode` (the latents' artifact)."""
    config = DiffusionPriorConfig.model_validate(spec.config)
    mean_NZ, log_variance_NZ = read_latents(Path(spec.inputs["encode"]) / "latents")
    batches = PriorBatches(config, mean_NZ, log_variance_NZ, seed=spec.seed, device=device)
    torch.manual_seed(spec.seed)
    network = build_network(config.network, latent_size=batches.latent_size)
    module = DiffusionModule(EdmDenoiser(network, sigma_data=SIGMA_DATA)).to(device)
    return DenoiserTask(module, batches, ema_decay=config.ema_decay)


def finish_diffusion(best: Path, config: DiffusionPriorConfig, directory: Path) -> None:
    """Turn the best tensors of the training into a prior's directory."""
    tensors = read_tensors(best)
    facts = {
        "kind": "diffusion",
        "latent_size": len(tensors["scaler.mean"]),
        "sigma_data": SIGMA_DATA,
        **network_facts(config.network),
    }
    save_prior(directory, facts, tensors)


def fit_simple_prior(
    config: MixturePriorConfig | GaussianPriorConfig, latents: Path, directory: Path, *, seed: int
) -> None:
    """Return the priors that need no training loop, from the latents' directory."""
    mean_NZ, log_variance_NZ = read_latents(latents)
    facts = {"kind": config.kind, "latent_size": int(mean_NZ.shape[1])}
    match config:
        case MixturePriorConfig():
            save_prior(directory, facts, fit_mixture(mean_NZ, log_variance_NZ, components=config.components, seed=seed))
        case GaussianPriorConfig():
            save_prior(directory, facts, {"mean": torch.zeros(mean_NZ.shape[1])})
