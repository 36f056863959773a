"""Parts of a bundle drawn by themselves: the posterior's samples, and the decoder behind its empty prompt."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from difflm.errors import ModelError
from difflm.models.autoencoder import GaussianPosterior
from difflm.models.decoder_store import unfitted
from difflm.synthesis.decoding.loop import Address
from difflm.synthesis.plans.request import nearest_table
from difflm.synthesis.probes import FITTED, PosteriorLatents, decoder_alone, empty_prompt, reconstructor
from difflm.synthesis.synthesizer import OpenBundle, SamplingConfig
from difflm.testing.bundles import StageFolders, untrained_stages
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


def fitted(stages: StageFolders, folder: Path, absent: torch.Tensor | None) -> Path:
    """The decoder's folder with the tensors of its fit."""
    shutil.copytree(stages.decoder, folder)
    save_file({} if absent is None else {"absent": absent}, folder / FITTED)
    return folder


def test_the_decoder_alone_reads_what_its_fit_took_for_empty(
    stages: StageFolders, opened: OpenBundle, tmp_path: Path
) -> None:
    parts = opened.bundle.parts
    fit = unfitted(parts)
    with torch.no_grad():
        fit.absent.normal_()
    prompt_SD = empty_prompt(fitted(stages, tmp_path / "decoder", fit.absent.detach()), parts)
    assert torch.allclose(prompt_SD, fit.scale(fit.absent))
    injector = opened.bundle.autoencoder.injector
    synthesizer = decoder_alone(opened, prompt_SD)
    prompts = synthesizer.prompts([Address(index=0, attempt=0), Address(index=7, attempt=1)], seed=3)
    assert torch.equal(prompts.prompt.embeds_BKD, prompt_SD.expand(2, -1, -1))
    assert not torch.equal(prompts.uniforms_NT[0], prompts.uniforms_NT[1])
    assert opened.bundle.autoencoder.injector is injector  # the bundle draws as before
    assert len(synthesizer.draw_valid(range(5), seed=0)[0]) == 5


def test_a_decoder_without_an_empty_prompt_says_why(stages: StageFolders, opened: OpenBundle, tmp_path: Path) -> None:
    parts = opened.bundle.parts
    slots, size = parts.slots.count, 32
    with pytest.raises(ModelError, match=r"has no best\.safetensors"):
        empty_prompt(stages.decoder, parts)
    for name, absent, reason in (
        ("none", None, f"holds no empty prompt of {slots} vectors"),
        ("other", torch.ones(slots + 1, size), f"holds no empty prompt of {slots} vectors"),
        ("zero", torch.zeros(slots, size), "never fitted without a record to read"),
    ):
        folder = fitted(stages, tmp_path / name, absent)
        with pytest.raises(ModelError, match=reason):
            empty_prompt(folder, parts)
    pretrained = {**parts.facts, "config": {"kind": "pretrained"}}
    other = type(parts)(tokenizer=parts.tokenizer, slots=parts.slots, longest=parts.longest, facts=pretrained)
    with pytest.raises(ModelError, match="a pretrained decoder was not fitted"):
        empty_prompt(stages.decoder, other)
