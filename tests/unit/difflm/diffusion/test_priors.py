"""Priors: moments of what they draw, files, and errors."""

import json
from pathlib import Path

import pytest
import torch

from difflm.diffusion.edm import EdmDenoiser
from difflm.diffusion.network import MlpNetwork
from difflm.diffusion.priors import GaussianPrior, MixturePrior, SolverSettings, fit_mixture, load_prior, save_prior
from difflm.errors import ModelError

WEIGHTS = torch.tensor([0.2, 0.5, 0.3])
MEANS = torch.tensor([[0.0, 0.0], [4.0, -1.0], [-3.0, 2.0]])
FACTORS = torch.tensor([[[1.0, 0.0], [0.5, 0.2]], [[0.3, 0.0], [0.0, 0.3]], [[0.5, 0.0], [-0.7, 1.0]]])


def _noise(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(0))


def test_the_gaussian_prior_is_its_noise() -> None:
    prior = GaussianPrior(latent_size=3)
    assert prior.noise_size == 3
    torch.testing.assert_close(prior.sample(_noise(5, 3)), _noise(5, 3))


def test_the_mixture_has_the_moments_of_its_components() -> None:
    prior = MixturePrior(weights_K=WEIGHTS, means_KZ=MEANS, factors_KZZ=FACTORS)
    drawn = prior.sample(_noise(200_000, prior.noise_size))
    mean = WEIGHTS @ MEANS
    within = torch.einsum("k,kij,klj->il", WEIGHTS, FACTORS, FACTORS)
    between = torch.einsum("k,ki,kj->ij", WEIGHTS, MEANS - mean, MEANS - mean)
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), within + between, atol=0.1, rtol=0.02)


def test_extreme_noise_still_names_a_component() -> None:
    prior = MixturePrior(weights_K=WEIGHTS, means_KZ=MEANS, factors_KZZ=torch.zeros(3, 2, 2))
    noise = torch.zeros(2, 3)
    noise[:, -1] = torch.tensor([-40.0, 40.0])
    torch.testing.assert_close(prior.sample(noise), MEANS[[0, 2]])


def test_fitting_finds_two_clusters_with_the_posteriors_own_width() -> None:
    centres = torch.tensor([[5.0, 0.0], [-5.0, 1.0]])[torch.arange(600) % 2]
    fitted = fit_mixture(centres, torch.full((600, 2), -2.0), components=2, seed=1)
    assert fitted["weights"].tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    order = fitted["means"][:, 0].argsort()
    torch.testing.assert_close(fitted["means"][order], torch.tensor([[-5.0, 1.0], [5.0, 0.0]]), atol=0.1, rtol=0)
    covariance = fitted["factors"] @ fitted["factors"].mT
    torch.testing.assert_close(covariance.diagonal(dim1=1, dim2=2), torch.full((2, 2), 0.1353), atol=0.03, rtol=0)


def _diffusion(directory: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    denoiser = EdmDenoiser(MlpNetwork(latent_size=3, width=8, blocks=2), sigma_data=0.5)
    tensors = {name: value.detach() for name, value in denoiser.named_parameters()}
    tensors |= {"scaler.mean": torch.tensor([10.0, 0.0, -10.0]), "scaler.std": torch.tensor([0.1, 1.0, 2.0])}
    facts = {"kind": "diffusion", "latent_size": 3, "sigma_data": 0.5, "width": 8, "blocks": 2}
    save_prior(directory, facts, tensors)
    return tensors


def test_a_diffusion_prior_round_trips_and_undoes_the_scaling(tmp_path: Path) -> None:
    tensors = _diffusion(tmp_path)
    prior = load_prior(tmp_path, SolverSettings(steps=5))
    assert prior.noise_size == 3
    drawn = prior.sample(_noise(500, 3))
    torch.testing.assert_close(drawn.mean(dim=0), tensors["scaler.mean"], atol=2.0, rtol=0)
    torch.testing.assert_close(prior.sample(_noise(500, 3)), drawn, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("facts", "tensors"),
    [
        ({"kind": "gaussian", "latent_size": 2}, {"mean": torch.zeros(2)}),
        ({"kind": "gmm", "latent_size": 2}, {"weights": WEIGHTS, "means": MEANS, "factors": FACTORS}),
    ],
)
def test_simple_priors_round_trip(tmp_path: Path, facts: dict[str, object], tensors: dict[str, torch.Tensor]) -> None:
    save_prior(tmp_path, facts, tensors)
    prior = load_prior(tmp_path, SolverSettings())
    assert prior.sample(_noise(4, prior.noise_size)).shape == (4, 2)


def test_a_missing_prior_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"prior\.json.*train the prior again"):
        load_prior(tmp_path, SolverSettings())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version is 99"),
        ({"kind": "flow"}, r"/.*/prior\.json: unknown prior 'flow'.*train the prior again"),
        ({"width": 16}, "not the weights that prior.json describes"),
    ],
)
def test_facts_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    _diffusion(tmp_path)
    path = tmp_path / "prior.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        load_prior(tmp_path, SolverSettings())


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    _diffusion(tmp_path)
    (tmp_path / "prior.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match=r"prior\.safetensors"):
        load_prior(tmp_path, SolverSettings())
