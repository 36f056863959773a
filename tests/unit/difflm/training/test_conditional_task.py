"""The conditional prior's task: it begins as the prior, learns conditions, and ends as files that sample."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from difflm.diffusion.conditional import ConditionBins, load_conditional
from difflm.diffusion.priors import DiffusionPrior, SolverSettings, load_prior
from difflm.errors import ModelError
from difflm.records.kinds.codes import Allowed, IntervalSet
from difflm.testing.bundles import StageFolders
from difflm.training.conditional_task import (
    BasePrior,
    ConditionsConfig,
    build_conditional_task,
    finish_conditional,
)
from difflm.training.denoiser_task import DenoiserTask
from difflm.training.engine import PlainEngine
from difflm.training.task import TaskSpec

CONFIG = ConditionsConfig(steps=2, batch_size=16)


@pytest.fixture
def spec(tiny_stages: StageFolders, tmp_path: Path) -> TaskSpec:
    prior = load_prior(tiny_stages.prior, SolverSettings())
    rows, size = pq.read_metadata(tiny_stages.prepared / "train.parquet").num_rows, prior.noise_size
    random = np.random.default_rng(0)
    (tmp_path / "encode" / "latents").mkdir(parents=True)
    columns = {
        "index": np.arange(rows),
        "mean": list(random.normal(size=(rows, size)).astype(np.float32)),
        "log_variance": list(np.full((rows, size), -3.0, np.float32)),
    }
    pq.write_table(pa.table(columns), tmp_path / "encode" / "latents" / "part-0.parquet")
    inputs = {"prepare": tiny_stages.prepared, "encode": tmp_path / "encode", "train-diffusion": tiny_stages.prior}
    return TaskSpec(
        factory="conditional",
        config=CONFIG.model_dump(mode="json"),
        inputs={name: str(path) for name, path in inputs.items()},
        seed=3,
    )


def _task(spec: TaskSpec) -> DenoiserTask:
    return build_conditional_task(spec, "cpu")


def test_batches_are_pure_and_rows_fit_their_conditions(spec: TaskSpec) -> None:
    first, second = _task(spec), _task(spec)
    for place in ((0, 0, 0, 1), (3, 1, 1, 2)):
        one, other = first.batch(*place), second.batch(*place)
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        second.batch(9, 0, 0, 1)
    assert not torch.equal(first.batch(1, 0, 0, 1)["condition_BC"], first.batch(2, 0, 0, 1)["condition_BC"])
    weights = [weight for rank in range(2) for weight, _ in first.validation_batches(rank, 2)]
    assert weights == [2, 2]


def test_at_first_it_is_the_prior_whatever_the_condition(spec: TaskSpec, tiny_stages: StageFolders) -> None:
    task, prior = _task(spec), load_prior(tiny_stages.prior, SolverSettings())
    assert isinstance(prior, DiffusionPrior)
    batch = task.batch(0, 0, 0, 1)
    conditioned = task.module.denoiser(batch["clean_BZ"], batch["sigma_B"], batch["condition_BC"])
    torch.testing.assert_close(conditioned, prior.denoiser(batch["clean_BZ"], batch["sigma_B"]))


def test_training_ends_as_files_that_sample(spec: TaskSpec, tiny_stages: StageFolders, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    task = _task(spec)
    engine = PlainEngine(task.module)
    for step in range(3):
        engine.backward(engine.forward(task.batch(step, 0, 0, 1))["loss"])
        engine.step(1e-2)
        task.after_step(step + 1)
    best = tmp_path / "best.safetensors"
    save_file({name: value.clone().contiguous() for name, value in task.artifact_tensors().items()}, best)
    inputs = spec.inputs
    finish_conditional(best, Path(inputs["prepare"]), Path(inputs["train-diffusion"]), tmp_path / "conditional")
    loaded = load_conditional(tmp_path / "conditional", SolverSettings(steps=4))
    noise = torch.randn(5, loaded.noise_size, generator=torch.Generator().manual_seed(0))
    one = loaded.bins.features({"city": Allowed(codes=IntervalSet.points([0]), null=False)})
    drawn = loaded.sample(noise, one.expand(5, -1))
    assert drawn.shape == (5, loaded.noise_size)
    assert not torch.allclose(drawn, loaded.sample(noise, torch.zeros(5, loaded.bins.size)))
    torch.testing.assert_close(loaded.sample(noise[2:3], one[None]), drawn[2:3], atol=1e-4, rtol=1e-4)


def test_state_goes_round(spec: TaskSpec) -> None:
    task, other = _task(spec), _task(spec)
    for average in task.ema.averages.values():
        average += 1.0
    other.load_state_dict(task.state_dict())
    assert all(torch.equal(value, other.artifact_tensors()[name]) for name, value in task.artifact_tensors().items())


def test_only_a_diffusion_prior_can_be_taught(tmp_path: Path) -> None:
    (tmp_path / "prior.json").write_text('{"kind": "gaussian", "format_version": 1, "latent_size": 2}')
    with pytest.raises(ModelError, match=r"kind 'gaussian' cannot be taught conditions; set prior\.kind=diffusion"):
        BasePrior.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("conditional.json", None, "can be read"),
        ("conditional.json", '{"format_version": 9}', "format_version is 9"),
        ("conditional.safetensors", "no tensors", "not the weights that conditional.json describes"),
    ],
)
def test_damaged_files_are_named(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    sizes = '"latent_size": 2, "sigma_data": 0.5, "width": 8, "blocks": 1, "bins": []'
    (tmp_path / "conditional.json").write_text(f'{{"format_version": 1, {sizes}}}')
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        load_conditional(tmp_path, SolverSettings())
    assert ConditionBins.from_json([]).size == 0
