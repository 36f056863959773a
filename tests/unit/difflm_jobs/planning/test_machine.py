"""The memory of this machine, of its container and of its GPUs."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from difflm_jobs.planning import machine
from difflm_jobs.planning.machine import this_machine


class NVMLError(Exception):
    """What the driver's library raises."""


class Driver(ModuleType):
    """`pynvml` of a machine with GPUs of these MiB; None is one whose memory it does not say."""

    NVMLError = NVMLError

    def __init__(self, *gpus_mib: float | None) -> None:
        super().__init__("pynvml")
        self.gpus_mib = gpus_mib

    def nvmlInit(self) -> None:
        if not self.gpus_mib:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus_mib)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        mib = self.gpus_mib[handle]
        if mib is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(total=int(mib * 2**20))


def test_this_machine_is_no_larger_than_its_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "none")))
    limit.write_text("max\n")
    whole = this_machine().memory_mib
    limit.write_text(f"{512 * 2**20}\n")
    assert this_machine().memory_mib == 512 < whole


def test_gpus_are_asked_of_their_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "pynvml", Driver(81559.0, 81559.0, None))
    assert this_machine().gpus_mib == (81559.0,), "those that this process may use"
    monkeypatch.setitem(sys.modules, "pynvml", Driver(None))
    assert this_machine().gpus_mib == (), "memory that the driver does not say"
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    assert this_machine().gpus_mib == (), "GPUs that are not NVIDIA's"


def test_a_machine_without_gpus_needs_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert this_machine().gpus_mib == ()
