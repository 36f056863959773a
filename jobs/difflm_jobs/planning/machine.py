"""The machine that this process is on: its memory, its GPUs, and whether stages run on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from difflm_jobs.config import RuntimeConfig

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The memory of one machine and of each of its GPUs, in MiB."""

    memory_mib: float
    gpus_mib: tuple[float, ...]


def this_machine() -> Machine:
    """Measure this machine, or the container around this process; what other programs use is not taken off."""
    memory = float(psutil.virtual_memory().total)
    for path in map(Path, _CGROUP_LIMITS):
        if path.is_file() and (limit := path.read_text().strip()).isdigit():
            memory = min(memory, float(limit))
    return Machine(memory_mib=memory / 2**20, gpus_mib=_gpus_mib())


def _gpus_mib() -> tuple[float, ...]:
    """Ask the driver's library: torch would keep hundreds of MiB on a GPU as soon as it looked.

    GPUs whose memory the driver does not say, or that are not NVIDIA's, are left out.
    """
    import torch

    visible = torch.cuda.device_count()
    if visible == 0:
        return ()
    import pynvml

    found: list[float] = []
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            found.append(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index)).total / 2**20)
    except pynvml.NVMLError:
        pass
    return tuple(found[:visible])


def runs_here(runtime: RuntimeConfig) -> bool:
    """Say whether the stages run on this machine and no other."""
    return (runtime.cluster.address or os.environ.get("RAY_ADDRESS") or "local") == "local"
