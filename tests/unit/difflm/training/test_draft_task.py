"""Soft tokens through the vocabulary in a bundle: what is kept of them, and that a warm-up is gone on with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from difflm.errors import BundleError, ModelError
from difflm.models.bag_encoder import BagEncoderConfig
from difflm.models.building import build_autoencoder
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.encoder import PooledEncoderConfig
from difflm.models.injection.prefix import PrefixConfig, PrefixInjector
from difflm.models.injection.vocabulary import VocabularyConfig, VocabularyInjector
from difflm.models.kl_schedule import AdaptiveBeta, CapacityKl
from difflm.records.protection.settings import Protected
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_SHAPE, StageFolders, untrained_stages
from difflm.testing.models import save_decoder
from difflm.testing.tables import mixed_table
from difflm.training.autoencoder_task import AutoencoderConfig
from difflm.training.draft_task import DraftConfig, DraftModel, DraftTraining, WordsModel, with_used_tokens
from difflm.training.engine import PlainEngine
from difflm.training.loop import LoopConfig
from difflm.training.record_data import read_split
from difflm.training.task import TaskSpec, build_task

SHAPE = TINY_SHAPE.model_copy(update={"injector": VocabularyConfig(hidden_size=16)})
SAMPLING = SamplingConfig(steps=2, batch_size=4)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    folder = tmp_path_factory.mktemp("vocabulary")
    model = save_decoder(folder / "llama", "llama")
    table = mixed_table(60).select(["age", "city"])
    decoder = PretrainedDecoderConfig(model=str(model), dtype="float32", cells_per_slot=2)
    return untrained_stages(folder / "stages", table, decoder=decoder, shape=SHAPE)


def test_a_bundle_has_the_tokens_and_not_their_embeddings(stages: StageFolders) -> None:
    bundle = load_bundle(stages.bundle, solver=SAMPLING.solver_settings(), allow_local_base=True)
    injector = bundle.autoencoder.injector
    assert isinstance(injector, VocabularyInjector)
    tokens = json.loads((stages.bundle / "bundle.json").read_text())["autoencoder"]["tokens"]
    assert injector.tokens_U.tolist() == tokens
    assert tokens[0] == bundle.parts.tokenizer.pad_id
    kept = load_file(stages.bundle / "autoencoder.safetensors")
    assert not [name for name in kept if "embeddings_UD" in name or name.startswith("decoder.")]
    torch.testing.assert_close(injector.embeddings_UD, bundle.autoencoder.decoder.embeddings(injector.tokens_U))
    torch.testing.assert_close(injector.bias_U.detach(), kept["injector.bias_U"])


def test_a_bundle_draws_records_by_their_addresses(stages: StageFolders) -> None:
    bundle = load_bundle(stages.bundle, solver=SAMPLING.solver_settings(), allow_local_base=True)
    drawn = list(Synthesizer(bundle, SAMPLING).draw(range(6), seed=1, attempt=0))
    assert all(draw.record is not None for draw in drawn)
    assert list(Synthesizer(bundle, SAMPLING).draw([4], seed=1, attempt=0)) == [drawn[4]]


def test_a_bundle_without_its_tokens_says_so(stages: StageFolders, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(stages.bundle, folder)
    facts = json.loads((folder / "bundle.json").read_text())
    del facts["autoencoder"]["tokens"]
    (folder / "bundle.json").write_text(json.dumps(facts))
    write_hashes(folder)
    with pytest.raises(BundleError, match="lacks the tokens of training"):
        load_bundle(folder, allow_local_base=True)


def test_only_latents_that_are_aligned_with_slots_are_written_through_the_vocabulary(stages: StageFolders) -> None:
    pooled = SHAPE.model_copy(update={"encoder": PooledEncoderConfig(hidden_size=16, layers=1, heads=2)})
    with pytest.raises(ModelError, match=r"needs encoder\.kind=compact, not pooled"):
        build_autoencoder(pooled, stages.decoder, read_schema(stages.prepared))


def test_the_training_goes_on_with_the_draft(stages: StageFolders, tmp_path: Path) -> None:
    loop = LoopConfig(warmup_steps=1, evaluate_every=2, checkpoint_every=2)
    inputs = {"prepare": str(stages.prepared), "fit-decoder": str(stages.decoder)}
    assert SHAPE.encoder.kind == "compact"
    assert SHAPE.injector.kind == "vocabulary"
    drafting = DraftTraining(encoder=SHAPE.encoder, injector=SHAPE.injector, draft=DraftConfig(steps=3, batch_size=8))
    draft = build_task(TaskSpec(factory="draft", config=drafting.model_dump(mode="json"), inputs=inputs), "cpu")
    assert isinstance(draft.module, DraftModel)
    engine = PlainEngine(draft.module)
    for step in range(draft.steps()):
        engine.backward(engine.forward(draft.batch(step, 0, 0, 1))["loss"])
        engine.step(1e-2)
    tensors = {name: value.detach().clone() for name, value in draft.artifact_tensors().items()}
    save_file(tensors, tmp_path / "best.safetensors")
    config = AutoencoderConfig(
        encoder=SHAPE.encoder, injector=SHAPE.injector, kl=AdaptiveBeta(), batch_size=8, loop=loop
    )
    spec = TaskSpec(
        factory="autoencoder", config=config.model_dump(mode="json"), inputs={**inputs, "draft": str(tmp_path)}
    )
    task = build_task(spec, "cpu")
    assert {name: value.shape for name, value in task.artifact_tensors().items()} == {
        name: value.shape for name, value in tensors.items()
    }
    for name, value in task.artifact_tensors().items():
        torch.testing.assert_close(value.detach(), tensors[name])
    loss = task.module(**task.batch(0, 0, 0, 1))["loss"]
    loss.backward()
    assert all(value.grad is not None for value in task.artifact_tensors().values())


WORDS = TINY_SHAPE.model_copy(
    update={
        "encoder": BagEncoderConfig(hidden_size=16, latent_size=4),
        "injector": PrefixConfig(positions=4, steered=2, rank=3, hidden_size=8, words=2),
    }
)


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    folder = tmp_path_factory.mktemp("words")
    model = save_decoder(folder / "llama", "llama")
    table = mixed_table(60).select(["age", "city"])
    decoder = PretrainedDecoderConfig(model=str(model), dtype="float32", keys=False)
    return untrained_stages(folder / "stages", table, decoder=decoder, shape=WORDS)


def test_a_bundle_says_z_in_words_and_draws_by_addresses(worded: StageFolders) -> None:
    bundle = load_bundle(worded.bundle, solver=SAMPLING.solver_settings(), allow_local_base=True)
    injector = bundle.autoencoder.injector
    assert isinstance(injector, PrefixInjector)
    assert injector.positions == 4 + 2 * 3
    prompt = bundle.autoencoder.inject(torch.randn(3, 4))
    assert prompt.positions == injector.positions
    assert bundle.autoencoder.empty_prompt(2).positions == injector.positions
    drawn = list(Synthesizer(bundle, SAMPLING).draw(range(6), seed=1, attempt=0))
    assert all(draw.record is not None for draw in drawn)
    assert list(Synthesizer(bundle, SAMPLING).draw([4], seed=1, attempt=0)) == [drawn[4]]


def test_what_z_means_is_learned_as_a_draft_and_settled_then(worded: StageFolders, tmp_path: Path) -> None:
    inputs = {"prepare": str(worded.prepared), "fit-decoder": str(worded.decoder)}
    drafting = DraftTraining(
        encoder=WORDS.encoder,
        injector=WORDS.injector,
        draft=DraftConfig(steps=30, batch_size=16),
        capacity_nats=3.0,
    )
    draft = build_task(TaskSpec(factory="draft", config=drafting.model_dump(mode="json"), inputs=inputs), "cpu")
    assert isinstance(draft.module, WordsModel)
    engine, losses = PlainEngine(draft.module), []
    for step in range(draft.steps()):
        found = engine.forward(draft.batch(step, 0, 0, 1))
        losses.append(found["draft_nats"].item())
        engine.backward(found["loss"])
        engine.step(1e-2)
    assert sum(losses[-5:]) / 5 < losses[0] - 2.0
    metrics = {name: value.item() for name, value in found.items()}
    assert draft.observe(1, metrics).objective == pytest.approx(metrics["loss"])
    tensors = {name: value.detach().clone() for name, value in draft.artifact_tensors().items()}
    save_file(tensors, tmp_path / "best.safetensors")
    config = AutoencoderConfig(encoder=WORDS.encoder, injector=WORDS.injector, kl=CapacityKl(nats=3.0), batch_size=8)
    spec = TaskSpec(
        factory="autoencoder", config=config.model_dump(mode="json"), inputs={**inputs, "draft": str(tmp_path)}
    )
    task = build_task(spec, "cpu")
    kept = task.artifact_tensors()
    assert all(torch.equal(kept[name].detach(), value) for name, value in tensors.items())
    assert set(kept) == set(load_file(worded.bundle / "autoencoder.safetensors"))
    before = {name: value.detach().clone() for name, value in kept.items()}
    engine = PlainEngine(task.module)
    engine.backward(engine.forward(task.batch(0, 0, 0, 1))["loss"])
    engine.step(1e-2)
    moved = {name for name, value in task.artifact_tensors().items() if not torch.equal(value.detach(), before[name])}
    assert "injector.words.marks_FD" in moved
    assert "injector.slowed_KLXHE" in moved
    assert not moved & (set(tensors) - {"injector.words.marks_FD"})


def test_words_without_tokens_of_training_are_refused(worded: StageFolders) -> None:
    with pytest.raises(ModelError, match=r"encoder\.kind=bag lacks the tokens of training"):
        build_autoencoder(WORDS, worded.decoder, read_schema(worded.prepared))


def test_a_bundle_lists_no_token_of_fewer_rows_than_protection_asks_for(stages: StageFolders, tmp_path: Path) -> None:
    listed = [with_used_tokens(SHAPE, stages.prepared, stages.decoder).tokens]
    schema = read_schema(stages.prepared)
    for threshold in (8, len(read_split(stages.prepared, "train", schema)) + 1):
        shutil.copytree(stages.prepared, tmp_path / str(threshold))
        protected = schema.model_copy(update={"protected": Protected(threshold=threshold)})
        (tmp_path / str(threshold) / "schema.json").write_text(protected.to_json())
        listed.append(with_used_tokens(SHAPE, tmp_path / str(threshold), stages.decoder).tokens)
    everything, common, nothing = map(set, listed)
    assert everything > common > nothing
    assert len(nothing) == 1  # the padding
