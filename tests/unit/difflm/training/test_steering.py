"""The whole chain on a small table: the decoder writes it by itself, and a latent of few nats still steers it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from difflm.models.compact import CompactDecoderConfig
from difflm.models.decoder_store import read_parts, write_compact_model
from difflm.models.kl_schedule import CapacityKl
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import Bundle, assemble_bundle, encode_table, load_bundle
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.telemetry import JSON
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.training.autoencoder_task import AutoencoderConfig
from difflm.training.decoder_task import DecoderFitConfig
from difflm.training.diffusion_task import DiffusionPriorConfig, finish_diffusion
from difflm.training.engine import PlainEngine
from difflm.training.loop import Event, LoopConfig, LoopResult, run_loop
from difflm.training.record_data import read_split
from difflm.training.task import TaskSpec, build_task

NATS = 2.0
LOOP = LoopConfig(learning_rate=5e-3, warmup_steps=5, evaluate_every=50, checkpoint_every=10_000)
SIZE = AutoencoderConfig().encoder.model_copy(update={"hidden_size": 32, "layers": 1, "heads": 2})
FIT = DecoderFitConfig(steps=300, batch_size=64, prefix_share=0.2, clean_share=0.1, loop=LOOP)
STEERING_LOOP = LOOP.model_copy(update={"evaluate_every": 20})
STEERING = AutoencoderConfig(encoder=SIZE, kl=CapacityKl(nats=NATS), steps=300, batch_size=64, loop=STEERING_LOOP)
PRIOR = DiffusionPriorConfig(width=32, blocks=1, steps=300, batch_size=128, ema_decay=0.98, loop=LOOP)


class SilentIO:
    """A loop's surroundings that keep nothing."""

    def resume_from(self) -> Path | None:
        return None

    def started(self, step: int) -> None:
        pass

    def log(self, event: Event) -> None:
        pass

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """A trained bundle, the table, and what the trainings said at their ends."""

    bundle: Bundle
    table: pa.Table
    decoder: dict[str, JSON]
    autoencoder: dict[str, JSON]


def _kinds(rows: int = 600) -> pa.Table:
    """Two kinds of people of equal number, whose every column tells the kind, each with noise of its own."""
    random = np.random.default_rng(0)
    kind = random.integers(0, 2, rows)
    home = np.where(random.random(rows) < 0.95, kind, 1 - kind)
    age = np.where(kind == 1, random.integers(50, 70, rows), random.integers(20, 40, rows))
    columns = {
        "home": pa.array(np.array(["town", "village"])[home]),
        "age": pa.array(age),
        "noise": pa.array(random.integers(0, 100, rows)),
        "kind": pa.array(np.array(["young", "old"])[kind]),
    }
    return pa.table(columns)


def _trained(
    factory: str,
    config: DecoderFitConfig | AutoencoderConfig | DiffusionPriorConfig,
    inputs: dict[str, Path],
    best: Path,
) -> tuple[LoopResult, dict[str, JSON]]:
    paths = {name: str(path) for name, path in inputs.items()}
    task = build_task(TaskSpec(factory=factory, config=config.model_dump(mode="json"), inputs=paths, seed=1), "cpu")
    result = run_loop(task, PlainEngine(task.module, gradient_clip=1.0), config.loop, SilentIO(), seed=0)
    save_file(result.best_tensors, best)
    return result, task.summary()


def _encoded(folders: StageFolders, bundle: Bundle, table: pa.Table) -> Path:
    import pyarrow.parquet as pq

    parts = list(encode_table(bundle.autoencoder, bundle.parts, bundle.shape, table, bundle.schema))
    mean, log_variance = (
        list(torch.cat([getattr(part, name) for part in parts]).numpy()) for name in ("mean_BZ", "log_variance_BZ")
    )
    target = folders.prepared.parent / "encoded" / "latents"
    target.mkdir(parents=True)
    columns = {"index": list(range(len(mean))), "mean": mean, "log_variance": log_variance}
    pq.write_table(pa.table(columns), target / "part-0.parquet")
    return target.parent


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Steered:
    root = tmp_path_factory.mktemp("steered")
    small = CompactDecoderConfig(hidden_size=32, layers=1, heads=2, intermediate_size=64)
    folders = untrained_stages(root, _kinds(), decoder=small, shape=STEERING.shape, prior=PRIOR)
    schema = read_schema(folders.prepared)
    table = read_split(folders.prepared, "train", schema)
    inputs = {"prepare": folders.prepared, "tokenizer": folders.decoder, "fit-decoder": folders.decoder}
    result, decoder = _trained("decoder", FIT, inputs, folders.decoder / "best.safetensors")
    write_compact_model(folders.decoder, read_parts(folders.decoder, schema), result.best_tensors)
    _, autoencoder = _trained("autoencoder", STEERING, inputs, folders.autoencoder / "best.safetensors")
    _assemble(folders)
    encoded = _encoded(folders, load_bundle(folders.bundle), table)
    _trained("diffusion", PRIOR, {"encode": encoded}, folders.prior / "best.safetensors")
    finish_diffusion(folders.prior / "best.safetensors", PRIOR, folders.prior)
    _assemble(folders)
    return Steered(bundle=load_bundle(folders.bundle), table=table, decoder=decoder, autoencoder=autoencoder)


def _assemble(folders: StageFolders) -> None:
    shutil.rmtree(folders.bundle)
    assemble_bundle(
        folders.bundle,
        prepared=folders.prepared,
        decoder=folders.decoder,
        autoencoder=folders.autoencoder,
        prior=folders.prior,
    )


def _drawn(steered: Steered, like: pa.Table | None, strength: float, count: int) -> pa.Table:
    plans = DrawPlans(steered.bundle, text_tokens=16)
    plan = plans.plain() if like is None else plans.varied(like, strength=strength)
    synthesizer = Synthesizer(steered.bundle, SamplingConfig(precision="float32"), plan=plan)
    records, _ = synthesizer.draw_valid(range(count), seed=3)
    return steered.bundle.codec.table_of(record for _, record in records)


def _is_old(table: pa.Table) -> npt.NDArray[np.bool_]:
    return np.array(table["kind"].to_pylist()) == "old"


def test_z_has_the_nats_that_were_asked_for_and_saves_the_decoder_most_of_them(steered: Steered) -> None:
    kl, alone = steered.autoencoder["kl_nats"], steered.decoder["nats_none"]
    left = steered.autoencoder["reconstruction_nats"]
    assert isinstance(kl, float)
    assert isinstance(alone, float)
    assert isinstance(left, float)
    assert kl == pytest.approx(NATS, abs=0.5)
    assert left < alone - NATS / 2


def test_the_kind_is_readable_from_z(steered: Steered) -> None:
    bundle = steered.bundle
    parts = encode_table(bundle.autoencoder, bundle.parts, bundle.shape, steered.table, bundle.schema)
    means = torch.cat([part.mean_BZ for part in parts]).numpy()
    old = _is_old(steered.table)
    probe = LogisticRegression(max_iter=1000).fit(means[:400], old[:400])
    assert probe.score(means[400:], old[400:]) > 0.75


def test_variations_of_a_record_keep_its_kind_the_more_the_weaker_they_are(steered: Steered) -> None:
    old = _is_old(steered.table)
    like = steered.table.filter(pa.array(old)).slice(0, 50)
    kept = [float(_is_old(_drawn(steered, like, strength, 200)).mean()) for strength in (0.0, 1.0)]
    assert kept[0] > 0.75
    assert kept[1] == pytest.approx(old.mean(), abs=0.2)


def test_draws_have_the_joint_distribution(steered: Steered) -> None:
    drawn = _drawn(steered, None, 0.0, 300)
    old, ages = _is_old(drawn), np.array(drawn["age"].to_pylist())
    assert old.mean() == pytest.approx(0.5, abs=0.15)
    assert np.mean((ages >= 45) == old) > 0.9
