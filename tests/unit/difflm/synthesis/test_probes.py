"""Parts of a bundle drawn by themselves: the posterior's samples, and the decoder behind its empty prompt."""

from pathlib import Path

import pytest
import torch

from difflm.errors import ModelError
from difflm.models.autoencoder import GaussianPosterior
from difflm.synthesis.decoding.requests import Address
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.plans.request import nearest_table
from difflm.synthesis.probes import PosteriorLatents, decoder_alone, reconstructor
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.testing.tables import small_table

SAMPLING = SamplingConfig(precision="float32", steps=2, batch_size=32)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    return untrained_stages(tmp_path_factory.mktemp("stages"), small_table(40))


@pytest.fixture(scope="module")
def opened(stages: StageFolders) -> OpenBundle:
    return OpenBundle(stages.bundle, SAMPLING)


def test_latents_are_samples_of_each_records_posterior() -> None:
    mean_RZ = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    posterior = GaussianPosterior(mean_BZ=mean_RZ, log_variance_BZ=torch.full((2, 2), 2.0).log() * 2)
    source = PosteriorLatents(posterior=posterior)
    noise_NM = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.5, 0.0]])
    assert source.noise_size == 2
    wanted_NZ = torch.tensor([[3.0, 4.0], [3.0, 0.0], [4.0, 4.0]])
    assert torch.allclose(source.latents([1, 0, 3], noise_NM), wanted_NZ)


def test_reconstructions_are_addressed_and_begin_at_the_records_posterior(opened: OpenBundle) -> None:
    table = nearest_table(small_table(30, seed=2), opened.bundle.schema, name="t").table
    synthesizer = reconstructor(opened, table)
    assert isinstance(synthesizer.plan.latents, PosteriorLatents)
    mean_RZ = synthesizer.plan.latents.posterior.mean_BZ
    assert torch.allclose(mean_RZ, torch.from_numpy(opened.encode(table)), atol=1e-6)
    drawn, account = synthesizer.draw_valid(range(6), seed=1)
    again, _ = synthesizer.draw_valid(range(3, 6), seed=1)
    assert [index for index, _ in drawn] == list(range(6))
    assert drawn[3:] == again
    assert account.given_up == []


def test_the_decoder_alone_writes_behind_its_empty_prompt(tmp_path: Path) -> None:
    opened = OpenBundle(untrained_stages(tmp_path, small_table(40), shape=TINY_POOLED_SHAPE).bundle, SAMPLING)
    synthesizer = decoder_alone(opened)
    prompts = synthesizer.prompts([Address(index=0, attempt=0), Address(index=7, attempt=1)], seed=3)
    empty = opened.bundle.autoencoder.empty_prompt(2)
    assert torch.equal(prompts.prompt.embeds_BKD, empty.embeds_BKD)
    assert not torch.equal(prompts.uniforms_NT[0], prompts.uniforms_NT[1])
    assert len(synthesizer.draw_valid(range(5), seed=0)[0]) == 5


def test_a_decoder_that_only_copies_says_so(opened: OpenBundle) -> None:
    with pytest.raises(ModelError, match="has no empty prompt"):
        decoder_alone(opened)
