"""The conditional prior: latents of records that satisfy a restriction of their columns.

A denoiser that reads the restriction as features (`condition_bins`) learns E[x | x_sigma, values in their sets], so the
same sampler draws from p(z | restriction). It is a second set of weights: sampling without a condition never sees it.

Shape legend: B batch, Z latent size, C condition features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.artifacts.facts import read_facts
from difflm.diffusion.condition_bins import ConditionBins
from difflm.diffusion.precondition import ConditionedDenoiser
from difflm.diffusion.priors import DiffusionPrior, HeunSettings, diffusion_prior
from difflm.errors import ModelError

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalPrior:
    """p(z | restriction), sampled as a deterministic function of noise."""

    prior: DiffusionPrior
    bins: ConditionBins

    @property
    def noise_size(self) -> int:
        return self.prior.noise_size

    def sample(self, noise_BZ: Tensor, condition_BC: Tensor) -> Tensor:
        """Latents of shape (B, Z), row b under the condition of row b."""
        denoiser = ConditionedDenoiser(denoiser=self.prior.denoiser, condition_BC=condition_BC)
        return self.prior.sample_by(denoiser, noise_BZ)


def save_conditional(
    directory: Path, facts: Mapping[str, Any], bins: ConditionBins, tensors: Mapping[str, Tensor]
) -> None:
    """Write conditional.safetensors, then conditional.json; `facts` are the network's sizes."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(kept, directory / "conditional.safetensors")
    described = {"format_version": FORMAT_VERSION, **facts, "bins": bins.to_json()}
    (directory / "conditional.json").write_text(json.dumps(described, indent=2))


def load_conditional(
    directory: Path, heun: HeunSettings, *, device: torch.device | str = "cpu", precision: torch.dtype = torch.float32
) -> ConditionalPrior:
    """The conditional prior of a directory. Raises ModelError naming the file."""
    path, weights = directory / "conditional.json", directory / "conditional.safetensors"
    facts = read_facts(
        path, version=FORMAT_VERSION, what="conditional prior", remedy="train the conditional prior again"
    )
    try:
        bins, tensors = ConditionBins.from_json(facts["bins"]), load_file(weights, device=str(device))
        prior = diffusion_prior(facts, tensors, heun, torch.device(device), precision, conditions=bins.size)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{weights}: not the weights that {path.name} describes ({reason}); train it again") from error
    return ConditionalPrior(prior=prior, bins=bins)
