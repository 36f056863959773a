"""The three stages' tasks: pure batches, schedules, states, and a decoder that did not learn to copy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from difflm.diffusion.priors import DiffusionPrior, SolverSettings, load_prior
from difflm.errors import TrainingError
from difflm.models.compact import CompactDecoderFit
from difflm.models.kl_schedule import AdaptiveBeta, CyclicalBeta
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.testing.bundles import TINY_SHAPE, StageFolders
from difflm.training.autoencoder_task import AutoencoderConfig, AutoencoderTask
from difflm.training.decoder_task import DecoderFitConfig, DecoderTask
from difflm.training.denoiser_task import DenoiserTask, read_latents
from difflm.training.diffusion_task import (
    DiffusionPriorConfig,
    GaussianPriorConfig,
    MixturePriorConfig,
    PriorBatches,
    finish_diffusion,
    fit_simple_prior,
)
from difflm.training.engine import PlainEngine
from difflm.training.loop import Event, LoopConfig, run_loop
from difflm.training.task import TaskSpec, TrainingTask, build_task

LOOP = LoopConfig(warmup_steps=1, evaluate_every=2, checkpoint_every=100)
DECODER = DecoderFitConfig(steps=2, batch_size=8, loop=LOOP)
AUTOENCODER = AutoencoderConfig(
    encoder=TINY_SHAPE.encoder,
    injector=TINY_SHAPE.injector,
    kl=AdaptiveBeta(start=0.1, factor=0.5, backtracking_interval=1),
    steps=4,
    batch_size=8,
    early_stopping_interval=2,
    validation_records=20,
    loop=LOOP,
)
DIFFUSION = DiffusionPriorConfig(width=8, blocks=1, steps=3, batch_size=16, ema_decay=0.5, loop=LOOP)


class MemoryIO:
    """A loop's surroundings that keep events only."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def resume_from(self) -> Path | None:
        return None

    def started(self, step: int) -> None:
        pass

    def log(self, event: Event) -> None:
        self.events.append(event)

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        pass


def _latents(directory: Path, rows: int = 60) -> Path:
    random = np.random.default_rng(0)
    (directory / "latents").mkdir(parents=True)
    for part, indices in enumerate(np.array_split(random.permutation(rows), 2)):
        means = (indices[:, None] * 0.1 + np.array([5.0, -1.0, 0.0])).astype(np.float32)
        columns: dict[str, Any] = {
            "index": indices,
            "mean": list(means),
            "log_variance": list(np.full((len(indices), 3), -3.0, np.float32)),
        }
        pq.write_table(pa.table(columns), directory / "latents" / f"part-{part}.parquet")
    return directory


@pytest.fixture
def spec(tiny_stages: StageFolders, tmp_path: Path) -> Callable[[str], TaskSpec]:
    def make(factory: str) -> TaskSpec:
        inputs = {"prepare": tiny_stages.prepared, "tokenizer": tiny_stages.decoder, "fit-decoder": tiny_stages.decoder}
        if factory == "diffusion":
            inputs["encode"] = _latents(tmp_path / "encode")
        configs = {"decoder": DECODER, "autoencoder": AUTOENCODER, "diffusion": DIFFUSION}
        config = configs[factory].model_dump(mode="json")
        return TaskSpec(
            factory=factory, config=config, inputs={name: str(path) for name, path in inputs.items()}, seed=5
        )

    return make


def _run(task: TrainingTask, steps: int) -> tuple[MemoryIO, dict[str, JSON]]:
    io = MemoryIO()
    engine = PlainEngine(task.module, gradient_clip=1.0)
    run_loop(task, engine, LOOP, io, seed=0)
    assert io.events[-1]["step"] == steps
    return io, task.summary()


STAGES = ("decoder", "autoencoder", "diffusion")


def test_gradient_checkpointing_trains_as_without(spec: Callable[[str], TaskSpec]) -> None:
    plain = spec("autoencoder")
    recomputed = replace(plain, config={**plain.config, "gradient_checkpointing": True})
    tasks = [build_task(each, "cpu") for each in (plain, recomputed)]
    wanted, found = ([event.get("loss") for event in _run(task, 4)[0].events] for task in tasks)
    assert found == pytest.approx(wanted)
    layers = [module for module in tasks[1].module.modules() if getattr(module, "gradient_checkpointing", False)]
    assert any(module.training for module in layers)


@pytest.mark.parametrize("kind", ["kv_memory", "prefix"])
def test_keys_and_values_cannot_be_recomputed(kind: str) -> None:
    with pytest.raises(ValidationError, match=rf"injector\.kind={kind}"):
        AutoencoderConfig.model_validate({"gradient_checkpointing": True, "injector": {"kind": kind}})


@pytest.mark.parametrize("factory", STAGES)
def test_batches_are_pure(factory: str, spec: Callable[[str], TaskSpec]) -> None:
    task_spec = spec(factory)
    first, second = build_task(task_spec, "cpu"), build_task(task_spec, "cpu")
    for place in ((0, 0, 0, 1), (3, 1, 1, 2), (0, 0, 0, 1)):
        one, other = first.batch(*place), second.batch(*place)
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], atol=0, rtol=0)
        second.batch(17, 0, 0, 1)
    assert any(
        not torch.equal(value, first.batch(1, 0, 0, 1)[name])
        for name, value in first.batch(0, 0, 0, 1).items()
        if name in {"grid_BG", "clean_BZ"}
    )


@pytest.mark.parametrize("factory", STAGES)
def test_validation_is_the_same_every_time_and_shared_by_ranks(factory: str, spec: Callable[[str], TaskSpec]) -> None:
    task = build_task(spec(factory), "cpu")
    whole = sum(count for count, _ in task.validation_batches(0, 1))
    assert whole == sum(count for rank in range(3) for count, _ in task.validation_batches(rank, 3))
    for (count, one), (_, other) in zip(task.validation_batches(0, 1), task.validation_batches(0, 1), strict=True):
        assert count > 0
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], atol=0, rtol=0)


@pytest.mark.parametrize("factory", STAGES)
def test_equal_seeds_build_equal_weights(factory: str, spec: Callable[[str], TaskSpec]) -> None:
    task_spec = spec(factory)
    first, second = build_task(task_spec, "cpu"), build_task(task_spec, "cpu")
    torch.testing.assert_close(first.module.state_dict(), second.module.state_dict(), atol=0, rtol=0)


def test_a_decoder_that_did_not_learn_to_copy_is_an_error(spec: Callable[[str], TaskSpec]) -> None:
    task = build_task(spec("decoder"), "cpu")
    with pytest.raises(TrainingError, match=r"after 2 steps the decoder does not copy.*raise decoder_fit\.steps"):
        _run(task, 2)


def test_the_decoders_curriculum_waits_for_copying(spec: Callable[[str], TaskSpec]) -> None:
    built = build_task(spec("decoder"), "cpu")
    assert isinstance(built, DecoderTask)
    assert bool(built.batch(1, 0, 0, 1)["keep_BS"].all())
    metrics = {"loss": 1.0, "nats_noisy": 5.0, "nats_none": 40.0}
    late = built.observe(1, metrics | {"nats_full": 30.0})
    assert late.objective > 1e3 - 1
    there = built.observe(1, metrics | {"nats_full": 2.0})
    assert there.objective == 1.0
    assert "copying is there" in (there.note or "")
    mixed = [built.batch(step, 0, 0, 1) for step in range(1, 30)]
    assert any(not bool(batch["keep_BS"].all()) for batch in mixed)
    noise = torch.cat([batch["noise_B"] for batch in mixed])
    assert noise.unique().tolist() == pytest.approx([0.0, 0.2, 0.5])
    other = build_task(spec("decoder"), "cpu")
    other.load_state_dict(built.state_dict())
    torch.testing.assert_close(other.batch(9, 0, 0, 1), built.batch(9, 0, 0, 1))
    assert other.summary() == built.summary()


def test_the_prefixes_of_the_curriculum_are_drawn_in_one_order(spec: Callable[[str], TaskSpec]) -> None:
    """Artifacts of one seed stay the same: kind, share and slots of every row, then its noise."""
    built = build_task(spec("decoder"), "cpu")
    assert isinstance(built, DecoderTask)
    clean = built.batch(150, 0, 0, 1)
    assert bool(clean["keep_BS"].all())
    assert not bool(clean["noise_B"].any())
    built.copied_at = 0
    assert bool(built.batch(0, 0, 0, 1)["keep_BS"].all())  # within the clean share, copied or not
    slots, seen = built.parts.slots.count, set[int]()
    for step in range(150, 160):
        batch = built.batch(step, 0, 0, 1)
        generator = torch_generator(5, "prefix", step, 0, 0)
        kind = torch.randint(0, 3, (8, 1), generator=generator)
        share = torch.rand(8, 1, generator=generator)
        some = torch.rand(8, slots, generator=generator) < share
        noise = torch.tensor([0.0, 0.2, 0.5])[torch.randint(0, 3, (8,), generator=generator)]
        wanted = torch.where(kind == 0, False, torch.where(kind == 1, some, True))
        torch.testing.assert_close(batch["keep_BS"], wanted)
        torch.testing.assert_close(batch["noise_B"], noise, atol=0, rtol=0)
        seen |= set(kind.flatten().tolist())
    assert seen == {0, 1, 2}


def test_the_decoders_validation_is_half_noisy_and_half_without_prefix(spec: Callable[[str], TaskSpec]) -> None:
    task = build_task(spec("decoder"), "cpu")
    module = task.module.eval()
    (_, batch), *_ = task.validation_batches(0, 1)
    fit = module.fit
    assert isinstance(fit, CompactDecoderFit)
    keep, quiet = torch.ones_like(batch["keep_BS"]), torch.zeros_like(batch["noise_B"])
    with torch.no_grad():
        torch.manual_seed(0)
        found = module(**batch)
        torch.manual_seed(0)
        fit(**batch)  # the full prefix, whose noise of nothing is drawn first
        noisy = fit(**{**batch, "keep_BS": keep, "noise_B": quiet + 0.5})
        none = fit(**{**batch, "keep_BS": ~keep, "noise_B": quiet})
    torch.testing.assert_close(found["loss"], (noisy["loss"] + none["loss"]) / 2)


def test_the_decoders_artifact_holds_each_weight_once(spec: Callable[[str], TaskSpec]) -> None:
    tensors = build_task(spec("decoder"), "cpu").artifact_tensors()
    pointers = [value.data_ptr() for value in tensors.values()]
    assert len(pointers) == len(set(pointers))
    assert any(name.startswith("model.") for name in tensors)


def test_beta_falls_and_training_stops_when_reconstruction_does_not_improve(spec: Callable[[str], TaskSpec]) -> None:
    task = build_task(spec("autoencoder"), "cpu")
    verdicts, betas = [], []
    for step, nats in enumerate((30.0, 20.0, 21.0, 19.0, 19.5, 19.6), start=1):
        verdicts.append(task.observe(step, {"reconstruction_nats": nats, "kl_nats": 1.0, "loss": 1.0}))
        betas.append(float(task.batch(step, 0, 0, 1)["beta"]))
    assert betas == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.0125])
    assert [verdict.stop for verdict in verdicts] == [False, False, False, False, False, True]
    assert "beta 0.1 -> 0.05" in (verdicts[2].note or "")
    assert verdicts[3].objective == 19.0


def test_the_summary_says_the_last_beta_of_every_schedule(spec: Callable[[str], TaskSpec]) -> None:
    given = spec("autoencoder")
    beta = CyclicalBeta(maximum=0.2, cycle_steps=4)
    config = AUTOENCODER.model_copy(update={"kl": beta}).model_dump(mode="json")
    task = build_task(replace(given, config=config), "cpu")
    task.observe(2, {"reconstruction_nats": 30.0, "kl_nats": 1.0, "loss": 1.0})
    assert task.summary()["beta"] == pytest.approx(0.1)  # of the second step: half way up


def test_the_autoencoder_trains_and_keeps_trainable_tensors_only(spec: Callable[[str], TaskSpec]) -> None:
    task = build_task(spec("autoencoder"), "cpu")
    assert isinstance(task, AutoencoderTask)
    io, summary = _run(task, 4)
    assert {event["kind"] for event in io.events} == {"train", "validation"}
    assert not [name for name in task.artifact_tensors() if name.startswith("decoder.")]
    assert summary["trainable_parameters"] == sum(value.numel() for value in task.artifact_tensors().values())


@pytest.mark.parametrize("factory", ["autoencoder", "diffusion"])
def test_states_round_trip(factory: str, spec: Callable[[str], TaskSpec], tmp_path: Path) -> None:
    task_spec = spec(factory)
    first, second = build_task(task_spec, "cpu"), build_task(task_spec, "cpu")
    _run(first, first.steps())
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    torch.testing.assert_close(second.state_dict(), first.state_dict(), atol=0, rtol=0)
    assert {name: value for name, value in second.summary().items() if name != "parameters"} == {
        name: value for name, value in first.summary().items() if name != "parameters"
    }


@pytest.mark.parametrize(("rows", "steps"), [(24, 300), (200, 372), (1_000, 1_856), (50_000, 2_000)])
def test_few_latents_get_few_steps_of_the_prior(rows: int, steps: int) -> None:
    config = DiffusionPriorConfig(width=8, blocks=1, steps=2_000, epochs=1_000.0)
    batches = PriorBatches(config, torch.randn(rows, 3), torch.zeros(rows, 3), seed=0, device="cpu")
    assert batches.steps() == steps


def test_the_prior_of_a_training_is_its_moving_average(spec: Callable[[str], TaskSpec], tmp_path: Path) -> None:

    task = build_task(spec("diffusion"), "cpu")
    assert isinstance(task, DenoiserTask)
    _run(task, 3)
    tensors = task.artifact_tensors()
    weight = dict(task.module.named_parameters())["denoiser.network.enter.weight"].detach()
    assert not torch.equal(tensors["network.enter.weight"], weight)
    save_file(tensors, tmp_path / "best.safetensors")
    finish_diffusion(tmp_path / "best.safetensors", DIFFUSION, tmp_path / "prior")
    prior = load_prior(tmp_path / "prior", SolverSettings(steps=5))
    assert isinstance(prior, DiffusionPrior)
    torch.testing.assert_close(prior.denoiser.state_dict()["network.enter.weight"], tensors["network.enter.weight"])
    mean, log_variance = read_latents(tmp_path / "encode" / "latents")
    torch.testing.assert_close(prior.scaler.mean_Z, mean.mean(dim=0))
    torch.testing.assert_close(
        prior.scaler.std_Z, (mean.var(dim=0, unbiased=False) + log_variance.exp().mean(dim=0)).sqrt()
    )
    assert task.observe(9, {"loss": 2.0}).objective < task.observe(8, {"loss": 1.0}).objective  # the last is kept


def test_latents_are_read_in_the_order_of_the_records(tmp_path: Path) -> None:
    mean, log_variance = read_latents(_latents(tmp_path) / "latents")
    torch.testing.assert_close(mean[:, 2], torch.arange(60) * 0.1)
    assert log_variance.shape == (60, 3)
    with pytest.raises(TrainingError, match="no latents in it; run the encode stage again"):
        read_latents(tmp_path)


@pytest.mark.parametrize("config", [MixturePriorConfig(components=2), GaussianPriorConfig()])
def test_simple_priors_are_fitted_from_latents(
    config: MixturePriorConfig | GaussianPriorConfig, tmp_path: Path
) -> None:
    fit_simple_prior(config, _latents(tmp_path) / "latents", tmp_path / "prior", seed=1)
    prior = load_prior(tmp_path / "prior", SolverSettings())
    assert prior.sample(torch.zeros(2, prior.noise_size)).shape == (2, 3)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(
        TrainingError, match="no training task 'other'; known are autoencoder, conditional, decoder, diffusion"
    ):
        build_task(TaskSpec(factory="other"), "cpu")
