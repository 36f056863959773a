"""Adapters on a pretrained encoder: what they are put on, what stays frozen, and that an artifact gives it all back."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.errors import BundleError, ModelError
from difflm.models.autoencoder import Autoencoder, AutoencoderShape
from difflm.models.building import build_autoencoder
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.encoder import PretrainedEncoder, PretrainedEncoderConfig
from difflm.models.injection.injector import SoftPromptConfig
from difflm.models.pretrained import LoraConfig, adapted_layers
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import encode_table, load_bundle, load_trainable
from difflm.synthesis.bundle_files import write_hashes
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.models import save_decoder, save_encoder
from difflm.testing.tables import mixed_table
from difflm.training.engine import PlainEngine
from difflm.training.optimizer import named_trainable_parameters

FAMILIES = ("bert", "t5", "mistral", "gpt2")
IDS, MASK = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 0, 0]]), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A text model of every family: encoders, and causal ones read as encoders."""
    root = tmp_path_factory.mktemp("models")
    found = {family: save_encoder(root / family, family) for family in ("bert", "t5")}  # type: ignore[arg-type]
    return found | {family: save_decoder(root / family, family) for family in ("mistral", "gpt2")}  # type: ignore[arg-type]


def _encoder(folder: Path, lora: LoraConfig | None, *, seed: int = 0) -> PretrainedEncoder:
    torch.manual_seed(seed)
    return PretrainedEncoder(PretrainedEncoderConfig(model=str(folder), lora=lora)).eval()


def _base(encoder: PretrainedEncoder) -> dict[str, Tensor]:
    """The encoder's own weights, by the names that they have without adapters."""
    state = encoder.model.state_dict()
    return {name.replace(".base_layer", ""): value.clone() for name, value in state.items() if "lora_" not in name}


@pytest.mark.parametrize("family", FAMILIES)
def test_only_adapters_of_any_encoder_are_trained(family: str, folders: dict[str, Path]) -> None:
    plain, encoder = (_encoder(folders[family], lora) for lora in (None, LoraConfig(rank=3)))
    torch.testing.assert_close(encoder(IDS, MASK), plain(IDS, MASK), atol=2e-6, rtol=1e-5)
    trained = named_trainable_parameters(encoder)
    layers = adapted_layers(plain.model, "all-linear")
    assert sum(value.numel() for value in trained.values()) == sum(
        3 * (read + written) for read, written in layers.values()
    )
    assert len(trained) == 2 * len(layers)
    assert all("lora_" in name for name in trained)
    before, adapters = _base(encoder), {name: value.detach().clone() for name, value in trained.items()}
    assert before.keys() == _base(plain).keys()
    engine = PlainEngine(encoder, weight_decay=0.1)
    engine.set_training(True)
    for _ in range(2):
        engine.backward(engine.forward({"encoder_ids_BT": IDS, "encoder_mask_BT": MASK}).square().mean())  # type: ignore[attr-defined]
        assert all(value.grad is None for value in encoder.parameters() if not value.requires_grad)
        engine.step(1e-2)
    assert all(torch.equal(value, before[name]) for name, value in _base(encoder).items())
    assert all(not torch.equal(value, adapters[name]) for name, value in trained.items())


def test_adapters_are_drawn_from_the_seed(folders: dict[str, Path]) -> None:
    once, again, other = (_encoder(folders["bert"], LoraConfig(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    differing = {name for name in once if not torch.equal(once[name], other[name])}
    assert differing == {name for name in once if "lora_A" in name}


def test_adapters_drop_out_in_training_only(folders: dict[str, Path]) -> None:
    encoder = _encoder(folders["mistral"], LoraConfig(dropout=0.5))  # Mistral has no dropout of its own
    _draw_adapters(encoder)
    torch.testing.assert_close(encoder(IDS, MASK), encoder(IDS, MASK), atol=0, rtol=0)
    encoder.train()
    assert not torch.equal(encoder(IDS, MASK), encoder(IDS, MASK))


def _draw_adapters(module: torch.nn.Module) -> None:
    """Numbers in place of the zeros that adapters begin with."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.5)


def test_targets_are_the_ends_of_names(folders: dict[str, Path]) -> None:
    model = _encoder(folders["bert"], None).model
    chosen = adapted_layers(model, ("query", "attention.output.dense"))
    assert set(chosen.values()) == {(32, 32)}
    assert {name.split(".")[-1] for name in chosen} == {"query", "dense"}
    assert len(chosen) == 4, "of two layers each"
    assert adapted_layers(model, ("query",)) == adapted_layers(model, "query")
    assert not any(name.startswith("pooler") for name in adapted_layers(model, "all-linear")), "nobody reads it"


@pytest.mark.parametrize("targets", [("query", "q_proj"), "uery", "pooler.dense", ()])
def test_targets_that_no_layer_has_are_named(targets: str | tuple[str, ...], folders: dict[str, Path]) -> None:
    culprit = r"it is empty" if not targets else r"no linear layer of BertModel is called '[a-z_.]+'"
    wanted = rf"^autoencoder\.encoder\.lora\.targets: {culprit}; its layers are dense, key, query, value; give"
    with pytest.raises(ModelError, match=wanted):
        _encoder(folders["bert"], LoraConfig(targets=targets))


def test_what_is_not_chosen_changes_no_artifacts_name() -> None:
    """A stage's identity is the hash of these."""
    encoder = PretrainedEncoderConfig(model="x")
    assert AutoencoderShape(encoder=encoder).model_dump(mode="json")["encoder"] == {
        "kind": "pretrained",
        "model": "x",
        "revision": None,
        "latent_size": 256,
        "longest": 512,
    }
    assert "encoder_sha256" not in AutoencoderShape().model_dump(mode="json")
    assert "attention" not in PretrainedDecoderConfig(model="x").model_dump(mode="json")


def test_without_peft_the_remedy_is_said(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"encoder\.lora needs the package peft .*lora=null"):
        _encoder(folders["bert"], LoraConfig())


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> tuple[StageFolders, Path]:
    """Stage folders and a bundle with adapters that say something, and the encoder below them."""
    root = tmp_path_factory.mktemp("adapted")
    base = Path(shutil.copytree(folders["bert"], root / "bert"))
    shape = AutoencoderShape(
        encoder=PretrainedEncoderConfig(model=str(base), latent_size=6, lora=LoraConfig(rank=2)),
        injector=SoftPromptConfig(hidden_size=16, soft_tokens=3),
    )
    stages = untrained_stages(root / "stages", mixed_table(40), shape=shape)
    path = stages.autoencoder / "best.safetensors"
    tensors = {name: torch.randn_like(value) if "lora_B" in name else value for name, value in load_file(path).items()}
    save_file(tensors, path)
    shutil.copyfile(path, stages.bundle / "autoencoder.safetensors")
    write_hashes(stages.bundle)
    return stages, base


def _read_back(stages: StageFolders) -> tuple[Autoencoder, AutoencoderShape]:
    shape = AutoencoderShape.model_validate_json((stages.autoencoder / "autoencoder.json").read_text())
    module, _ = build_autoencoder(shape, stages.decoder, read_schema(stages.prepared))
    load_trainable(module, stages.autoencoder / "best.safetensors")
    return module, shape


def test_an_artifact_and_a_bundle_hold_adapters_and_give_equal_posteriors(adapted: tuple[StageFolders, Path]) -> None:
    stages, _ = adapted
    held = load_file(stages.bundle / "autoencoder.safetensors")
    own = {name for name in held if name.startswith("encoder.")}
    assert own
    assert all("lora_" in name for name in own)
    module, shape = _read_back(stages)
    bundle, table = load_bundle(stages.bundle), pq.read_table(stages.prepared / "train.parquet")
    assert bundle.shape == shape
    (first,) = encode_table(module.eval(), bundle.parts, shape, table, bundle.schema)
    (second,) = encode_table(bundle.autoencoder, bundle.parts, bundle.shape, table, bundle.schema)
    torch.testing.assert_close(first.mean_BZ, second.mean_BZ, atol=0, rtol=0)
    fresh, _ = build_autoencoder(shape, stages.decoder, bundle.schema)
    (untrained,) = encode_table(fresh.eval(), bundle.parts, shape, table, bundle.schema)
    assert not torch.allclose(first.mean_BZ, untrained.mean_BZ), "the adapters say something"


def test_another_encoder_below_the_adapters_is_noticed(
    adapted: tuple[StageFolders, Path], saved_encoder: Callable[[str], Path]
) -> None:
    stages, base = adapted
    save_encoder(base, "bert", seed=1)
    with pytest.raises(BundleError, match=r"the weights of '.*bert' changed since this was trained"):
        load_bundle(stages.bundle)
    shutil.copytree(saved_encoder("bert"), base, dirs_exist_ok=True)
    load_bundle(stages.bundle)
