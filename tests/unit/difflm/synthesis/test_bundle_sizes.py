"""Sizes of a bundle's autoencoder: numbers that ask for more than its tensors are refused before it is built."""

import json
import shutil
from pathlib import Path

import pytest

from difflm.errors import BundleError
from difflm.models.field_slots import SlotLayout
from difflm.models.injection.injector import KvMemoryConfig
from difflm.models.injection.prefix import PrefixConfig
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.testing.tables import mixed_table

HUGE = 10**8
PREFIX = TINY_POOLED_SHAPE.model_copy(update={"injector": PrefixConfig(positions=4, steered=2, rank=2, hidden_size=16)})
MEMORY = TINY_POOLED_SHAPE.model_copy(update={"injector": KvMemoryConfig(positions=4, hidden_size=16)})


def changed(bundle: Path, file: str, keys: tuple[str, ...], value: object) -> Path:
    """Write another number into a bundle, as its maker would."""
    facts = json.loads((bundle / file).read_text())
    part = facts
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (bundle / file).write_text(json.dumps(facts))
    write_hashes(bundle)
    return bundle


def refused(bundle: Path, part: str, key: str) -> None:
    changed(bundle, "bundle.json", ("autoencoder", part, key), HUGE)
    with pytest.raises(BundleError, match=r"autoencoder\.safetensors: its tensors are not those"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("injector", "learned_prefix"),
        ("injector", "hidden_size"),
        ("encoder", "layers"),
        ("encoder", "latent_per_slot"),
        ("encoder", "hidden_size"),
    ],
)
def test_numbers_of_slots(tmp_path: Path, tiny_stages: StageFolders, part: str, key: str) -> None:
    refused(Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle")), part, key)


@pytest.mark.parametrize(
    ("part", "key"),
    [("injector", "soft_tokens"), ("encoder", "layers"), ("encoder", "latent_size"), ("encoder", "hidden_size")],
)
def test_numbers_of_pooled_latents(tmp_path: Path, any_order_stages: StageFolders, part: str, key: str) -> None:
    refused(Path(shutil.copytree(any_order_stages.bundle, tmp_path / "bundle")), part, key)


@pytest.mark.parametrize(("shape", "keys"), [(PREFIX, ("positions", "rank", "hidden_size")), (MEMORY, ("positions",))])
def test_numbers_of_keys_and_values(tmp_path: Path, shape, keys: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    bundle = untrained_stages(tmp_path / "stages", mixed_table(20), shape=shape).bundle
    load_bundle(bundle)
    for key in keys:
        refused(Path(shutil.copytree(bundle, tmp_path / key)), "injector", key)


def test_more_cells_of_a_record_than_any_has(
    tmp_path: Path, tiny_stages: StageFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots are listed cell by cell."""
    bundle = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))
    fields = len(json.loads((bundle / "decoder" / "decoder.json").read_text())["widths"])
    assert fields >= 5
    monkeypatch.setattr(SlotLayout, "cells_SC", lambda _layout: pytest.fail("they are listed"))
    changed(bundle, "decoder/decoder.json", ("widths",), [2**20] * fields)
    with pytest.raises(BundleError, match=r"decoder\.json: widths add up to more than 4,194,304 tokens a record"):
        load_bundle(bundle)


def test_more_tokens_than_the_tokenizer_has(tmp_path: Path, tiny_stages: StageFolders) -> None:
    bundle = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))
    changed(bundle, "bundle.json", ("autoencoder", "tokens"), [0] * 100_000)
    with pytest.raises(BundleError, match=r"autoencoder\.safetensors: its tensors are not those"):
        load_bundle(bundle)
