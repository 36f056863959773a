"""Calibration: draws that begin their values as training rows do, what stays as it is, and files that are not one."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.errors import BundleError
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.calibration import CalibrationConfig, calibrate_bundle, first_tokens
from difflm.synthesis.decoding.corrections import CALIBRATION_NAME
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.testing.tables import mixed_table
from difflm.training.record_data import read_split

ROWS = 400
CONFIG = CalibrationConfig(rows=ROWS, rounds=2)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    return untrained_stages(tmp_path_factory.mktemp("calibration"), mixed_table(ROWS), shape=TINY_POOLED_SHAPE)


@pytest.fixture(scope="module")
def calibrated(stages: StageFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(stages.bundle, tmp_path_factory.mktemp("calibrated") / "bundle"))
    train = read_split(stages.prepared, "train", read_schema(stages.prepared))
    assert calibrate_bundle(folder, train, CONFIG, seed=1, least_rows=8)
    return folder


def _shares(bundle: Bundle, seed: int) -> Tensor:
    records, _ = Synthesizer(bundle, SamplingConfig(precision="float32")).draw_valid(range(ROWS), seed=seed)
    found_FV = first_tokens(bundle, bundle.codec.table_of([record for _, record in records]))
    return found_FV / found_FV.sum(dim=1, keepdim=True)


def test_draws_begin_their_values_as_training_rows_do(stages: StageFolders, calibrated: Path) -> None:
    before, after = load_bundle(stages.bundle), load_bundle(calibrated)
    train = read_split(stages.prepared, "train", before.schema)
    counts_FV = first_tokens(before, train)
    share_FV = counts_FV / ROWS
    common_FV = counts_FV >= 20
    off = [float((_shares(bundle, seed=99) - share_FV)[common_FV].abs().sum()) for bundle in (before, after)]
    assert off[1] < off[0] / 2
    assert (calibrated / CALIBRATION_NAME).stat().st_mode & 0o044, "others may read it, too"
    tensors = load_file(calibrated / CALIBRATION_NAME)
    assert int(counts_FV[tensors["field"], tensors["token"]].min()) >= 8, "what few rows have is not corrected"


def test_what_becomes_of_an_index_does_not_depend_on_the_others(calibrated: Path) -> None:
    bundle = load_bundle(calibrated)
    synthesizer = Synthesizer(bundle, SamplingConfig(precision="float32"))
    wanted, _ = synthesizer.draw_valid(range(60), seed=5)
    again, _ = synthesizer.draw_valid(range(10, 50), seed=5)
    assert again == [one for one in wanted if one[0] in range(10, 50)]
    assert again


def test_no_rounds_of_no_rows(stages: StageFolders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stages.bundle, tmp_path / "bundle"))
    train = read_split(stages.prepared, "train", read_schema(stages.prepared))
    assert not calibrate_bundle(folder, train, CalibrationConfig(rows=0), seed=1)
    assert not (folder / CALIBRATION_NAME).exists()


@pytest.mark.parametrize(
    "broken",
    [
        {"field": torch.tensor([99]), "token": torch.tensor([0]), "nats": torch.tensor([0.5])},
        {"field": torch.tensor([0]), "token": torch.tensor([-1]), "nats": torch.tensor([0.5])},
        {"field": torch.tensor([0]), "token": torch.tensor([0]), "nats": torch.tensor([float("nan")])},
        {"field": torch.tensor([0, 1]), "token": torch.tensor([0]), "nats": torch.tensor([0.5])},
        {"field": torch.tensor([0.0]), "token": torch.tensor([0]), "nats": torch.tensor([0.5])},
        {"field": torch.tensor([0]), "nats": torch.tensor([0.5])},
    ],
)
def test_a_file_that_is_no_calibration_is_refused(calibrated: Path, tmp_path: Path, broken: dict[str, Tensor]) -> None:
    folder = Path(shutil.copytree(calibrated, tmp_path / "bundle"))
    save_file(broken, folder / CALIBRATION_NAME)
    write_hashes(folder)
    with pytest.raises(BundleError, match=r"calibration\.safetensors: no corrections of this bundle.*assemble"):
        load_bundle(folder)
