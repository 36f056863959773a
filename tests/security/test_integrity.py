"""Files that changed on a disk or on the way: noticed where they are used, by name, and made again where possible."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

import difflm
from difflm.artifacts.dataset import DATA, ENTRIES, JOB_NAME, Dataset, missing_ranges
from difflm.artifacts.storage import LocalStore
from difflm.artifacts.store import ArtifactStore
from difflm.errors import ArtifactError, BundleError
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import HASHES_NAME, check_files, write_hashes
from difflm.synthesis.sharing.container import pack
from difflm.testing.bundles import StageFolders


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["decoder/decoder.json", "bundle.json", "autoencoder.safetensors", "more"])
@pytest.mark.parametrize("device", [True, False])
def test_devices_and_pipes_are_no_files(bundle: Path, name: str, device: bool) -> None:
    """Reading one never ends."""
    path = bundle / name
    path.unlink(missing_ok=True)
    if device:
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    for look in (load_bundle, check_files):
        with pytest.raises(BundleError, match=f"{path}: is a device or a pipe"):
            look(bundle)


@pytest.mark.parametrize("name", ["README.md", "schema.json", "decoder/model", "more", ".hidden"])
def test_links_lead_nowhere_out_of_a_bundle(bundle: Path, name: str, tmp_path: Path) -> None:
    """What they lead to is the reader's own: it would be read, and `export` and `push` would hand it on."""
    outside = tmp_path / "secret"
    shutil.move(bundle / name, outside) if (bundle / name).exists() else outside.write_text("secret")
    (bundle / name).symlink_to(outside)
    looks: list[Callable[[Path], object]] = [load_bundle, check_files, partial(pack, path=tmp_path / "x.difflm")]
    for look in looks:
        with pytest.raises(BundleError, match=f"{bundle / name}: is a link that leads out of the bundle"):
            look(bundle)


def test_links_within_a_bundle_and_those_of_a_hubs_cache_are_followed(bundle: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--ada--people" / "blobs"
    cached = blobs.parent / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in bundle.rglob("*") if path.is_file()):
        shutil.copyfile(path, blobs / str(number))
        link = cached / path.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    load_bundle(cached)
    (tmp_path / "by another name").symlink_to(bundle)
    (bundle / "schema.json").rename(bundle / ".schema")
    (bundle / "schema.json").symlink_to(".schema")
    load_bundle(tmp_path / "by another name")
    shutil.move(bundle / "decoder" / "model", bundle / ".model")
    (bundle / "decoder" / "model").symlink_to(Path("..", ".model"))
    with pytest.raises(BundleError, match="model: is a link to a folder"):
        load_bundle(bundle)
    shutil.move(blobs, tmp_path / "elsewhere" / "blobs")
    blobs.symlink_to(tmp_path / "elsewhere" / "blobs")
    with pytest.raises(BundleError, match="is a link that leads out of the bundle"):
        load_bundle(cached)


@pytest.mark.parametrize(
    "name",
    [
        "autoencoder.safetensors",
        "bundle.json",
        "conditional/conditional.safetensors",
        "decoder/decoder.json",
        "decoder/model/model.safetensors",
        "decoder/tokenizer/tokenizer.json",
        "prior/prior.safetensors",
        "schema.json",
    ],
)
def test_one_bit_of_a_bundle_is_noticed(bundle: Path, name: str) -> None:
    flip(bundle / name)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(bundle)


def test_a_file_more_or_less_is_noticed_but_not_a_hidden_one(bundle: Path) -> None:
    (bundle / ".DS_Store").write_text("left by a file manager")
    check_files(bundle)
    strange = bundle / "decoder" / "model" / "adapter_config.json"
    strange.write_text("{}")
    with pytest.raises(BundleError, match=r"adapter_config\.json: does not belong to the bundle"):
        load_bundle(bundle)
    strange.unlink()
    shutil.rmtree(bundle / "conditional")
    with pytest.raises(BundleError, match=r"conditional/.* is missing from the bundle"):
        load_bundle(bundle)


@pytest.mark.parametrize("content", ["", "[]", "[" * 5000, '{"format_version": 2, "files": {}}', '{"files": 3}'])
def test_a_spoilt_list_of_hashes_is_named(bundle: Path, content: str) -> None:
    (bundle / HASHES_NAME).write_text(content)
    with pytest.raises(BundleError, match=r"hashes\.json: no list of hashes"):
        load_bundle(bundle)


def test_a_bundle_of_before_there_were_hashes_is_loaded_with_a_notice(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle / HASHES_NAME).unlink()
    with caplog.at_level(logging.WARNING):
        load_bundle(bundle)
    assert "has no hashes.json" in caplog.text


def test_a_bundle_of_before_that_lies_in_its_experiment_is_compared_with_its_manifest(
    stages: StageFolders, tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path)
    with store.create("bundle", "b" * 64, version=1, config={}, inputs={}) as draft:
        shutil.copytree(stages.bundle, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HASHES_NAME))
    folder = store.path("bundle", "b" * 64)
    check_files(folder)
    flip(folder / "schema.json")
    with pytest.raises(BundleError, match=r"schema\.json: changed"):
        check_files(folder)


def test_an_artifact_that_changed_is_not_gone_on_from(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.create("decoder", "d" * 64, version=1, config={}, inputs={}) as draft:
        (draft.path / "best.safetensors").write_bytes(bytes(100))
    artifact = store.find("decoder", "d" * 64)
    assert artifact is not None
    store.check(artifact)
    flip(artifact.path / "best.safetensors")
    with pytest.raises(ArtifactError, match=r"best\.safetensors: changed since it was written; remove .*decoder-d+ "):
        store.check(artifact)


def dataset_of(folder: Path) -> Dataset:
    dataset = Dataset(store=LocalStore(folder))
    dataset.write_json(JOB_NAME, {"fingerprint": "x"})
    for start, stop in missing_ranges([], 30, 10):
        dataset.commit(start, stop, pa.table({"n": list(range(start, stop))}), account={})
    return dataset


def test_a_damaged_part_does_not_count_and_is_drawn_again(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    part = tmp_path / DATA / "part-000000010-000000020.parquet"
    flip(part)
    assert len(dataset.entries()) == 3, "its length alone says nothing"
    sound = dataset.sound_entries()
    assert [(entry.start, entry.stop) for entry in sound] == [(0, 10), (20, 30)]
    dataset.remove_others(sound)
    assert not part.exists()
    assert [*missing_ranges([(entry.start, entry.stop) for entry in sound], 30, 10)] == [(10, 20)]


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../../secret"},
        {"file": "data/../../secret.parquet"},
        {"file": "data/part-000000000-000000099.parquet"},
        {"file": "/etc/passwd"},
        {"rows": -1},
        {"stop": -10},
        {"size": -1},
        {"sha256": "0"},
        {"given_up": [{"start": 5, "stop": 900, "reason": ""}]},
        {"given_up": [{"start": 9, "stop": 5, "reason": ""}], "rows": 14},
    ],
)
def test_an_entry_from_a_stranger_leads_nowhere_else(tmp_path: Path, changes: dict[str, object]) -> None:
    dataset = dataset_of(tmp_path)
    path = tmp_path / ENTRIES / "part-000000000-000000010.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert [entry.start for entry in dataset.entries()] == [10, 20]


@pytest.mark.parametrize("name", ["decoder/tokenizer/tokenizer_config.json", "decoder/model/config.json", "more.bin"])
def test_a_file_of_a_bundle_that_is_a_hole_is_not_read(bundle: Path, name: str) -> None:
    """In an archive it takes no room, and whoever reads it the memory."""
    (bundle / name).touch()
    os.truncate(bundle / name, 2**40)
    for look in (load_bundle, check_files):
        with pytest.raises(BundleError, match=r"has 1,099,511,627,776 bytes, and .* are the most but of tensors"):
            look(bundle)


@pytest.mark.parametrize(
    "text", ["[]", "{", "7", "{}", '{"says": "x", "voided_by": 7}', '{"voided_by": [], "says": null']
)
def test_a_promise_of_another_form_is_named_where_a_bundle_is_saved_again(
    bundle: Path, tmp_path: Path, text: str
) -> None:
    """The card tells of it, and nothing had read it before."""
    (bundle / "privacy.json").write_text(text)
    write_hashes(bundle)
    with pytest.raises(BundleError, match="its files do not fit each other"):
        difflm.load(bundle).save(tmp_path / "saved.difflm")
    assert not (tmp_path / "saved.difflm").exists()
