"""The bundle: what is in it, what is not, and what a damaged one says."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from difflm.errors import BundleError
from difflm.models.decoder_store import read_tensors
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.tables import mixed_table


@pytest.fixture
def copied(tmp_path: Path, tiny_stages: StageFolders) -> Path:
    return Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))


def test_a_bundle_round_trips_wherever_it_is_moved(copied: Path, tiny_stages: StageFolders) -> None:
    bundle = load_bundle(copied)
    trained = read_tensors(tiny_stages.autoencoder / "best.safetensors")
    found = dict(bundle.autoencoder.named_parameters())
    for name, value in trained.items():
        torch.testing.assert_close(found[name].detach(), value, atol=0, rtol=0)
    assert not any(value.requires_grad for value in bundle.autoencoder.parameters())
    assert bundle.schema.to_json() == (tiny_stages.prepared / "schema.json").read_text()
    assert bundle.prior.noise_size == bundle.parts.slots.count * 2


def test_whoever_may_read_one_of_its_files_may_read_all(tiny_stages: StageFolders) -> None:
    """safetensors writes files for their owner alone; a server often runs as another user than the training did."""
    files = [path for path in tiny_stages.bundle.rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {(tiny_stages.bundle / "bundle.json").stat().st_mode}


def test_only_what_generation_needs_is_in_it(copied: Path) -> None:
    files = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("decoder/")} == {
        "bundle.json",
        "hashes.json",
        "schema.json",
        "autoencoder.safetensors",
        "conditional/conditional.json",
        "conditional/conditional.safetensors",
        "prior/prior.json",
        "prior/prior.safetensors",
    }
    assert {name.split("/")[1] for name in files if name.startswith("decoder/")} == {
        "decoder.json",
        "tokenizer",
        "model",
    }


def test_no_training_row_is_in_it(tmp_path: Path) -> None:
    words = [f"{chr(97 + index % 26)}qz{chr(97 + index // 26)}vuwx" for index in range(60)]
    table = mixed_table(60).append_column("person", pa.array([f"{word} Miller" for word in words]))
    table = table.append_column("login", pa.array(words))
    bundle = untrained_stages(tmp_path, table).bundle
    assert not list(bundle.rglob("*.parquet"))
    texts = [*words, *(note.strip() for note in mixed_table(60)["note"].to_pylist())]
    for path in (path for path in bundle.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [text for text in texts if text.encode() in content], path


AGAIN = "(assemble the bundle|assemble it) again"


@pytest.mark.parametrize(
    ("content", "remedy"),
    [("{", AGAIN), (json.dumps({"format_version": 99}), "pip install -U difflm"), (json.dumps({}), AGAIN)],
)
def test_another_format_is_refused(copied: Path, content: str, remedy: str) -> None:
    (copied / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=rf"bundle\.json: .*{remedy}"):
        load_bundle(copied)


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: it has no bundle\.json; give the folder"):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"runs is no bundle: nothing is there; give a run, "):
        load_bundle(tmp_path / "runs")


@pytest.mark.parametrize(
    "name",
    ["schema.json", "autoencoder.safetensors", "decoder/decoder.json", "prior/prior.json", "prior/prior.safetensors"],
)
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match=f"{name.replace('.', '[.]')} is missing from the bundle; assemble"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["decoder/tokenizer", "decoder/model"])
def test_a_missing_folder_is_named(copied: Path, name: str) -> None:
    shutil.rmtree(copied / name)
    with pytest.raises(BundleError, match=f"{name} is missing from the bundle; assemble"):
        load_bundle(copied)


def _change(bundle: Path, file: str, name: str, value: torch.Tensor | None) -> None:
    path = bundle / file
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path)
    write_hashes(bundle)  # whoever means harm, or assembles by hand, writes these too


@pytest.mark.parametrize("value", [None, torch.zeros(3)])
def test_tensors_of_another_autoencoder_are_named(copied: Path, value: torch.Tensor | None) -> None:
    _change(copied, "autoencoder.safetensors", "head.linear.bias", value)
    with pytest.raises(BundleError, match=r"autoencoder\.safetensors: .*head\.linear\.bias.*assemble the bundle again"):
        load_bundle(copied)


def test_tensors_of_another_prior_are_named(copied: Path) -> None:
    _change(copied, "prior/prior.safetensors", "network.enter.weight", torch.zeros(2, 2))
    with pytest.raises(BundleError, match=r"prior\.safetensors: not the weights"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["autoencoder.safetensors", "prior/prior.safetensors"])
def test_damaged_tensors_are_named(copied: Path, name: str) -> None:
    (copied / name).write_bytes(b"damaged")
    write_hashes(copied)
    with pytest.raises(BundleError, match=name.rpartition("/")[2]):
        load_bundle(copied)


def test_a_shape_that_no_version_knows_is_named(copied: Path) -> None:
    facts = json.loads((copied / "bundle.json").read_text())
    facts["autoencoder"]["encoder"]["kind"] = "other"
    (copied / "bundle.json").write_text(json.dumps(facts))
    write_hashes(copied)
    with pytest.raises(BundleError, match=r"bundle\.json: autoencoder\.encoder"):
        load_bundle(copied)


def test_a_schema_of_another_version_is_named(copied: Path) -> None:
    facts = json.loads((copied / "schema.json").read_text())
    (copied / "schema.json").write_text(json.dumps(facts | {"format_version": 5}))
    write_hashes(copied)
    with pytest.raises(BundleError, match=r"schema\.json: format_version is 5"):
        load_bundle(copied)
