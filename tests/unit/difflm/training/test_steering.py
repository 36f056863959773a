"""The whole chain on a small table: the decoder writes it by itself and after what is given, and a latent steers it."""

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

from difflm.models.autoencoder import AutoencoderShape
from difflm.models.compact import CompactDecoderConfig
from difflm.models.decoder_store import read_parts, write_compact_model
from difflm.models.encoder import PooledEncoderConfig
from difflm.models.injection.injector import SoftPromptConfig
from difflm.models.kl_schedule import CapacityKl
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import Bundle, assemble_bundle, encode_table, load_bundle
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlan, DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.telemetry import JSON
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.training.autoencoder_task import AutoencoderConfig
from difflm.training.decoder_task import DecoderFitConfig
from difflm.training.diffusion_task import DiffusionPriorConfig, finish_diffusion
from difflm.training.engine import PlainEngine
from difflm.training.loop import Event, LoopConfig, LoopResult, run_loop
from difflm.training.record_data import read_split
from difflm.training.steered_task import Steering
from difflm.training.task import TaskSpec, build_task

NATS = 1.0
LOOP = LoopConfig(learning_rate=5e-3, warmup_steps=5, evaluate_every=50, checkpoint_every=10_000)
SHAPE = AutoencoderShape(
    encoder=PooledEncoderConfig(hidden_size=32, layers=1, heads=2, latent_size=4),
    injector=SoftPromptConfig(soft_tokens=2, hidden_size=32, empty=True),
)
FIT = DecoderFitConfig(steps=300, batch_size=64, loop=LOOP)
STEERING = Steering(shape=SHAPE, nats=NATS)
GOING_ON = AutoencoderConfig(
    encoder=SHAPE.encoder,
    injector=SHAPE.injector,
    kl=CapacityKl(nats=NATS),
    steps=60,
    batch_size=64,
    loop=LOOP.model_copy(update={"learning_rate": 1e-3, "evaluate_every": 20}),
)
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
    factory: str, config: dict[str, JSON], loop: LoopConfig, inputs: dict[str, Path], best: Path
) -> tuple[LoopResult, dict[str, JSON]]:
    paths = {name: str(path) for name, path in inputs.items()}
    task = build_task(TaskSpec(factory=factory, config=config, inputs=paths, seed=1), "cpu")
    result = run_loop(task, PlainEngine(task.module, gradient_clip=1.0), loop, SilentIO(), seed=0)
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
    folders = untrained_stages(root, _kinds(), decoder=small, shape=SHAPE, prior=PRIOR)
    schema = read_schema(folders.prepared)
    table = read_split(folders.prepared, "train", schema)
    inputs = {"prepare": folders.prepared, "tokenizer": folders.decoder, "fit-decoder": folders.decoder}
    fit: dict[str, JSON] = {"fit": FIT.model_dump(mode="json"), "steering": STEERING.model_dump(mode="json")}
    result, decoder = _trained("steered_decoder", fit, LOOP, inputs, folders.decoder / "best.safetensors")
    parts = read_parts(folders.decoder, schema)
    write_compact_model(folders.decoder, parts, result.best_tensors)
    going_on = GOING_ON.model_dump(mode="json")
    _, autoencoder = _trained("autoencoder", going_on, GOING_ON.loop, inputs, folders.autoencoder / "best.safetensors")
    _assemble(folders)
    encoded = _encoded(folders, load_bundle(folders.bundle), table)
    prior = PRIOR.model_dump(mode="json")
    _trained("diffusion", prior, LOOP, {"encode": encoded}, folders.prior / "best.safetensors")
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


def _drawn(steered: Steered, plan: Callable[[DrawPlans], DrawPlan], count: int) -> pa.Table:
    plans = DrawPlans(steered.bundle, text_tokens=16)
    synthesizer = Synthesizer(steered.bundle, SamplingConfig(precision="float32"), plan=plan(plans))
    records, _ = synthesizer.draw_valid(range(count), seed=3)
    assert len(records) == count
    return steered.bundle.codec.table_of(record for _, record in records)


def _is_old(table: pa.Table) -> npt.NDArray[np.bool_]:
    return np.array(table["kind"].to_pylist()) == "old"


def test_z_has_the_nats_that_were_asked_for_and_saves_the_decoder_most_of_them(steered: Steered) -> None:
    for summary in (steered.decoder, steered.autoencoder):
        kl = summary["kl_nats"]
        assert isinstance(kl, float)
        assert kl == pytest.approx(NATS, abs=0.4)
    alone, told = steered.decoder["nats_empty"], steered.decoder["nats_told"]
    going_on = steered.autoencoder["reconstruction_nats"]
    assert isinstance(alone, float)
    assert isinstance(told, float)
    assert isinstance(going_on, float)
    assert told < alone - 0.3
    assert going_on < alone - 0.3


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
    kept = [
        float(_is_old(_drawn(steered, lambda plans, s=strength: plans.varied(like, strength=s), 200)).mean())
        for strength in (0.0, 1.0)
    ]
    assert kept[0] > 0.75
    assert kept[1] == pytest.approx(old.mean(), abs=0.2)


def _ages(table: pa.Table) -> npt.NDArray[np.int64]:
    return np.array(table["age"].to_pylist())


def test_draws_have_the_joint_distribution(steered: Steered) -> None:
    drawn = _drawn(steered, lambda plans: plans.plain(), 300)
    old = _is_old(drawn)
    assert old.mean() == pytest.approx(0.5, abs=0.15)
    assert np.mean((_ages(drawn) >= 45) == old) > 0.9


def test_what_is_written_first_leads_the_rest(steered: Steered) -> None:
    """Conditions on the last column, classes of it and gaps before it: the earlier columns follow from it."""
    schema = steered.bundle.schema
    where = parse_condition('kind == "old"', schema)
    drawn = _drawn(steered, lambda plans: plans.where(where), 150)
    assert _is_old(drawn).all()
    assert np.mean(_ages(drawn) >= 45) > 0.9
    balanced = _drawn(steered, lambda plans: plans.balanced("kind"), 150)
    assert _is_old(balanced).sum() == 75
    assert np.mean((_ages(balanced) >= 45) == _is_old(balanced)) > 0.9
    given = steered.table.slice(0, 150)
    place = given.schema.get_field_index("age")
    gaps = given.set_column(place, given.schema.field("age"), pa.nulls(150, given.schema.field("age").type))
    imputed = _drawn(steered, lambda plans: plans.imputed(gaps), 150)
    assert imputed.drop(["age"]) == given.drop(["age"])
    assert np.mean((_ages(imputed) >= 45) == _is_old(given)) > 0.9
