"""What the driver makes of errors that reach it through Ray Train."""

from typing import Any

import pytest

from difflm.errors import StorageError
from difflm.runtime.training import _one_line, _raise_deliberate


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
