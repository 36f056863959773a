"""Priors over the latent space: `diffusion`, `gmm`, `gaussian`; each turns standard normal noise into latents.

Shape legend: B batch, Z latent size, N noise size, K mixture components.

A prior is a directory: prior.json (kind and sizes) and prior.safetensors (weights and scaler); no latent of a training
row is in it.

Latent scaler: standardises every latent dimension, and is stored with the prior (no latent of a training row is).

Shape legend: N records, B batch, Z latent size.

Fitting a Gaussian mixture to the latents (the prior its reviewers asked to compare with).

Shape legend: N records, Z latent size, K components.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.artifacts.manifest import read_facts
from difflm.config import dump_changed
from difflm.diffusion.edm import Denoiser, EdmDenoiser, karras_sigmas, sample_heun, sample_multistep
from difflm.diffusion.network import NETWORK_VARIANTS, NetworkConfig, build_network
from difflm.errors import ModelError

SMALLEST_STD = 1e-4

Solver = Literal["heun", "dpmpp_2m"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentScaler:
    """Per-dimension mean and standard deviation of the latents; normalized latents have mean 0 and standard deviation
    `sigma_data`.
    """

    mean_Z: Tensor
    std_Z: Tensor
    sigma_data: float

    @classmethod
    def fit(cls, mean_NZ: Tensor, log_variance_NZ: Tensor, *, sigma_data: float) -> LatentScaler:
        """Moments of z ~ q(z|x) over the records: var z = var of the means + mean of the variances."""
        variance_Z = mean_NZ.var(dim=0, unbiased=False) + log_variance_NZ.exp().mean(dim=0)
        return cls(mean_Z=mean_NZ.mean(dim=0), std_Z=variance_Z.sqrt().clamp(min=SMALLEST_STD), sigma_data=sigma_data)

    def normalize(self, latents_BZ: Tensor) -> Tensor:
        return (latents_BZ - self.mean_Z) / self.std_Z * self.sigma_data

    def denormalize(self, normalized_BZ: Tensor) -> Tensor:
        return normalized_BZ / self.sigma_data * self.std_Z + self.mean_Z

    def to(self, device: torch.device) -> LatentScaler:
        return LatentScaler(mean_Z=self.mean_Z.to(device), std_Z=self.std_Z.to(device), sigma_data=self.sigma_data)


def fit_mixture(
    mean_NZ: Tensor, log_variance_NZ: Tensor, *, components: int, seed: int, most: int = 50_000
) -> dict[str, Tensor]:
    """Weights (K,), means (K, Z) and Cholesky factors (K, Z, Z) by expectation maximisation on z ~ q(z|x), at most
    `most` records.
    """
    from sklearn.mixture import GaussianMixture

    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(mean_NZ), generator=generator)[:most]
    mean, log_variance = mean_NZ[rows], log_variance_NZ[rows]
    latents = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
    mixture = GaussianMixture(
        min(components, len(rows)), covariance_type="full", reg_covar=1e-4, random_state=seed % 2**32, max_iter=200
    )
    mixture.fit(latents.double().numpy())
    return {
        "weights": torch.from_numpy(mixture.weights_).float(),
        "means": torch.from_numpy(mixture.means_).float(),
        "factors": torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)).float(),
    }


FORMAT_VERSION = 1


class LatentPrior(Protocol):
    """A distribution over z, sampled as a deterministic function of noise."""

    @property
    def size(self) -> int:
        """Z."""
        ...

    @property
    def noise_size(self) -> int:
        """N: standard normal numbers that one latent takes."""
        ...

    def sample(self, noise_BN: Tensor) -> Tensor:
        """Latents of shape (B, Z)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianPrior:
    """N(0, I), what the KL term pulls the posteriors towards."""

    latent_size: int

    @property
    def size(self) -> int:
        return self.latent_size

    @property
    def noise_size(self) -> int:
        return self.latent_size

    def sample(self, noise_BN: Tensor) -> Tensor:
        return noise_BN


@dataclass(frozen=True, slots=True, kw_only=True)
class MixturePrior:
    """A Gaussian mixture with full covariances; the last noise number chooses the component."""

    weights_K: Tensor
    means_KZ: Tensor
    factors_KZZ: Tensor

    @property
    def size(self) -> int:
        return int(self.means_KZ.shape[1])

    @property
    def noise_size(self) -> int:
        return int(self.means_KZ.shape[1]) + 1

    def sample(self, noise_BN: Tensor) -> Tensor:
        uniform_B = 0.5 * (1.0 + torch.erf(noise_BN[:, -1] / math.sqrt(2.0)))
        component_B = torch.searchsorted(self.weights_K.cumsum(0), uniform_B).clamp(max=len(self.weights_K) - 1)
        return self.means_KZ[component_B] + torch.einsum("bij,bj->bi", self.factors_KZZ[component_B], noise_BN[:, :-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionPrior:
    """The paper's prior: a solver of the flow through a trained denoiser, then the scaler's inverse."""

    denoiser: EdmDenoiser
    scaler: LatentScaler
    sigmas_S: Tensor
    solver: Solver = "heun"
    precision: torch.dtype = torch.float32

    @property
    def size(self) -> int:
        return int(self.scaler.mean_Z.shape[0])

    @property
    def noise_size(self) -> int:
        return int(self.scaler.mean_Z.shape[0])

    def sample(self, noise_BN: Tensor) -> Tensor:
        return self.sample_by(self.denoiser, noise_BN)

    @torch.no_grad()
    def sample_by(self, denoiser: Denoiser, noise_BN: Tensor) -> Tensor:
        """`sample` by another function in the denoiser's place, such as the denoiser under a condition."""
        with self.autocast(noise_BN):
            solve = sample_multistep if self.solver == "dpmpp_2m" else sample_heun
            return self.scaler.denormalize(solve(denoiser, noise_BN, self.sigmas_S))

    def autocast(self, tensor: Tensor) -> torch.autocast:
        """Return the precision that the denoiser is evaluated in, where a tensor is."""
        enabled = self.precision is not torch.float32
        return torch.autocast(tensor.device.type, dtype=torch.bfloat16, enabled=enabled)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverSettings:
    """How the prior is sampled (the paper: Heun's method, 50 steps, 0.002 to 80, rho 7)."""

    solver: Solver = "heun"
    steps: int = 50
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0


def network_facts(network: NetworkConfig) -> dict[str, Any]:
    """Return what a prior's file says of its network: its sizes, and how it is no plain MLP."""
    return {"width": network.width, "blocks": network.blocks, **dump_changed(network, NETWORK_VARIANTS)}


def read_network(facts: Mapping[str, Any]) -> NetworkConfig:
    """Return the network that a prior's file describes; KeyError where its sizes are missing."""
    given = {name: facts[name] for name in NETWORK_VARIANTS if name in facts}
    return NetworkConfig.model_validate({"width": facts["width"], "blocks": facts["blocks"], **given})


def save_prior(directory: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write prior.safetensors, then prior.json; `facts` holds `kind` and `latent_size`, for a diffusion also the
    network's sizes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, directory / "prior.safetensors"
    )
    (directory / "prior.json").write_text(json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2))


def load_prior(
    directory: Path,
    solver: SolverSettings,
    *,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> LatentPrior:
    """Return the prior of a directory. Raises ModelError naming the file."""
    path = directory / "prior.json"
    facts = read_facts(path, version=FORMAT_VERSION, what="prior", remedy="train the prior again")
    weights = directory / "prior.safetensors"
    try:
        return _build(path, facts, load_file(weights, device=str(device)), solver, torch.device(device), precision)
    except (OSError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{weights}: not the weights that {path.name} describes ({reason}); train it again") from error


def _build(
    path: Path,
    facts: Mapping[str, Any],
    tensors: dict[str, Tensor],
    solver: SolverSettings,
    device: torch.device,
    precision: torch.dtype,
) -> LatentPrior:
    match facts["kind"]:
        case "gaussian":
            return GaussianPrior(latent_size=int(facts["latent_size"]))
        case "gmm":
            weights_K, means_KZ, factors_KZZ = tensors["weights"], tensors["means"], tensors["factors"]
            components, size = means_KZ.shape
            if weights_K.shape != (components,) or factors_KZZ.shape != (components, size, size):
                raise ValueError("weights, means and factors are not of one mixture")
            return MixturePrior(weights_K=weights_K, means_KZ=means_KZ, factors_KZZ=factors_KZZ)
        case "diffusion":
            return diffusion_prior(facts, tensors, solver, device, precision)
        case other:
            raise ModelError(
                f"{path}: unknown prior {other!r}; known are gaussian, gmm and diffusion; train the prior again"
            )


def diffusion_prior(
    facts: Mapping[str, Any],
    tensors: dict[str, Tensor],
    solver: SolverSettings,
    device: torch.device,
    precision: torch.dtype,
    *,
    conditions: int = 0,
) -> DiffusionPrior:
    """Return the prior of a network's sizes and weights, whose denoiser reads so many features of a condition.

    Raises KeyError and RuntimeError for tensors that are not those of the sizes.
    """
    sigma_data = float(facts["sigma_data"])
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data is {sigma_data}")
    scaler = LatentScaler(mean_Z=tensors.pop("scaler.mean"), std_Z=tensors.pop("scaler.std"), sigma_data=sigma_data)
    config, size = read_network(facts), int(facts["latent_size"])
    _check_tensors(config, size, conditions, tensors)
    network = build_network(config, latent_size=size, conditions=conditions)
    denoiser = EdmDenoiser(network, sigma_data=sigma_data)
    denoiser.load_state_dict(tensors)
    sigmas_S = karras_sigmas(solver.steps, sigma_min=solver.sigma_min, sigma_max=solver.sigma_max, rho=solver.rho)
    return DiffusionPrior(
        denoiser=_for_sampling(denoiser, device, precision),
        scaler=scaler,
        sigmas_S=sigmas_S,
        solver=solver.solver,
        precision=precision,
    )


def _check_tensors(config: NetworkConfig, size: int, conditions: int, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError where the tensors are not a network's, before one of any size that a file says is built."""
    if not 1 <= size <= _MAX_SIZE or config.width > _MAX_SIZE or config.blocks > _MAX_BLOCKS:
        raise ValueError(f"latent_size {size}, width {config.width} or blocks {config.blocks} is out of range")
    with torch.device("meta"):
        network = build_network(config, latent_size=size, conditions=conditions)
    wanted = {f"network.{name}": value.shape for name, value in network.state_dict().items()}
    if wanted != {name: value.shape for name, value in tensors.items()}:
        raise ValueError("the tensors are not those of these sizes")


_MAX_SIZE, _MAX_BLOCKS = 1 << 20, 1_000


def _for_sampling(denoiser: EdmDenoiser, device: torch.device, precision: torch.dtype) -> EdmDenoiser:
    """Return the denoiser, frozen and on its device, with matrices in the precision that it samples in."""
    if precision is not torch.float32:
        # What autocast would do at each of some fifty evaluations.
        for module in denoiser.modules():
            if isinstance(module, torch.nn.Linear):
                module.to(precision)
    return denoiser.to(device).eval().requires_grad_(False)
