"""A work folder belongs to the driver that took it over last; workers of an earlier one cannot write there any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist

from difflm.errors import StorageError, TrainingError
from difflm.runtime.training_worker import Peers, SharedFolderIO
from difflm.runtime.work_folder import take_over
from difflm.telemetry import read_events


@pytest.fixture
def alone(tmp_path: Path) -> object:
    """A process group of this process alone, as in a worker."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield None
    dist.destroy_process_group()


def test_what_an_earlier_driver_left_is_taken_over(tmp_path: Path) -> None:
    first = take_over(tmp_path / "work")
    (first.checkpoints / "step-00000004").mkdir()
    first.events.write_text("{}\n")
    second = take_over(tmp_path / "work")
    assert (second.checkpoints / "step-00000004").is_dir()
    assert second.events.read_text() == "{}\n"
    assert (first.lost, second.lost) == (True, False)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["life-000002"]


def test_a_worker_of_an_earlier_driver_writes_nothing(tmp_path: Path, alone: None) -> None:
    old = SharedFolderIO(take_over(tmp_path), Peers(), lambda folder, step: None)
    old.log({"kind": "train", "step": 1})
    own = take_over(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    written: list[Path] = []
    with pytest.raises(TrainingError, match=r"life-000001: another call went on with this training"):
        old.log({"kind": "train", "step": 2})
    with pytest.raises(TrainingError, match="another call went on"):
        old.checkpoint(2, written.append)
    with pytest.raises(TrainingError, match="another call went on"):
        old.started(0)
    assert written == []
    assert sorted(tmp_path.rglob("*")) == before
    assert read_events(own.events) == [{"kind": "train", "step": 1}]


def test_a_checkpoint_under_way_does_not_count(tmp_path: Path, alone: None) -> None:
    old = SharedFolderIO(take_over(tmp_path), Peers(), lambda folder, step: None)

    def write(partial: Path) -> None:
        (partial / "loop.json").write_text("{}")
        own.append(take_over(tmp_path))
        (partial / "task.pt").write_text("")

    own: list[object] = []
    with pytest.raises(TrainingError, match="another call went on"):
        old.checkpoint(4, write)
    assert not list(tmp_path.glob("life-*/checkpoints/step-*"))


def test_a_folder_that_comes_back_is_no_work(tmp_path: Path) -> None:
    first = take_over(tmp_path)
    (first.checkpoints / "step-00000008").mkdir()
    take_over(tmp_path)
    (first.checkpoints / "step-00000099").mkdir(parents=True)  # what a library of a locked-out worker might do
    third = take_over(tmp_path)
    assert [path.name for path in third.checkpoints.iterdir()] == ["step-00000008"]
    assert [path.name for path in tmp_path.iterdir()] == ["life-000003"]


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    own = take_over(tmp_path)
    with pytest.raises(StorageError, match=r"events\.jsonl: no space left"):
        with own.writing(own.events):
            raise OSError(28, "No space left on device")
