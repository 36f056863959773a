"""What the driver makes of errors that reach it through Ray Train."""

from pathlib import Path
from typing import Any

import pytest

from difflm.errors import DiffLMError, StorageError
from difflm.runtime.training import (
    PlainEngineConfig,
    TrainingJob,
    WorkersConfig,
    _one_line,
    _raise_deliberate,
    raise_recorded,
    train,
)
from difflm.runtime.work_folder import WorkFolder
from difflm.training.loop import LoopConfig
from difflm.training.task import TaskSpec


class TrainingFailed(Exception):
    """Like Ray Train's: the failures of the workers by rank."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors")
        self.worker_failures = failures


class Wrapped(StorageError, RuntimeError):
    """An error that is of the original class and of a remote call's, with a traceback in its text."""


@pytest.mark.parametrize("kind", [StorageError, Wrapped])
def test_an_error_on_purpose_keeps_its_class(kind: Any) -> None:
    failure = kind("Traceback ...\n  somewhere\n/runs/x: no space left for writing (0 MiB free)")
    with pytest.raises(StorageError, match=r"^/runs/x: no space left for writing") as caught:
        _raise_deliberate(TrainingFailed({0: RuntimeError("a peer vanished"), 1: failure}))
    assert type(caught.value) is StorageError
    assert caught.value.exit_code == 2


def test_any_other_error_is_left_to_the_caller() -> None:
    error = TrainingFailed({1: ValueError("no\nsuch thing"), 0: RuntimeError("a peer vanished")})
    _raise_deliberate(error)
    assert _one_line(error) == "rank 0: RuntimeError: a peer vanished; rank 1: ValueError: such thing"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"kind": 7, "message": []}', '{"summary": 7, "steps": "x"}']
)
def test_files_of_a_work_folder_that_somebody_changed_are_errors_on_purpose(tmp_path: Path, text: str) -> None:
    """A copy of a run is gone on with; what was read of it were JSON's own errors, and keys that it lacks."""
    spec = TaskSpec(factory="toy", config={}, inputs={}, seed=1)
    job = TrainingJob(
        name="toy",
        spec=spec,
        loop=LoopConfig(),
        engine=PlainEngineConfig(),
        workers=WorkersConfig(),
        work_dir=tmp_path / "work",
        output_dir=tmp_path / "out",
    )
    own = WorkFolder(tmp_path / "work" / "life-000001")
    own.finished.mkdir(parents=True)
    (own.finished / "best.safetensors").touch()
    own.events.touch()
    own.result.write_text(text)
    own.failure.write_text(text)
    with pytest.raises(DiffLMError):
        raise_recorded(own)
    with pytest.raises(DiffLMError, match="work"):
        train(job)
    (tmp_path / "work" / "job.json").write_text(text)
    with pytest.raises(DiffLMError, match="work"):
        train(job)
