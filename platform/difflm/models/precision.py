"""Precision: what numbers models compute in, by default those that the processor is fast in.

On a CPU without instructions for bfloat16 its products are emulated, several times slower than float32.
"""

from __future__ import annotations

import os
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
PrecisionSetting = Literal["auto", "float32", "bfloat16"]

DESCRIPTION = "auto: bfloat16 where the processor computes in it, else float32"
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN reads the first that is set
_ISAS_WITHOUT_BFLOAT16 = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
)


def resolve_precision(setting: PrecisionSetting, device: torch.device | str) -> Precision:
    """Return the precision of a setting; `auto` is the one that the device is fast in."""
    return fast_precision(device) if setting == "auto" else setting


def fast_precision(device: torch.device | str) -> Precision:
    """Return bfloat16 where torch computes in it on this device of this machine, float32 where it would emulate it.

    On CPUs it needs AVX512_BF16 or AMX, and neither ATEN_CPU_CAPABILITY nor ONEDNN_MAX_CPU_ISA may rule them out.
    """
    match torch.device(device).type:
        case "cpu":
            fast = _cpu_has_bfloat16()
        case "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        case _:
            fast = False
    return "bfloat16" if fast else "float32"


def own_device() -> str:
    """Return where a process without further orders computes: the GPU that it sees, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _cpu_has_bfloat16() -> bool:
    cap = next((os.environ[name] for name in _ISA_VARIABLES if os.environ.get(name)), "")
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    used = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has and used and cap.upper() not in _ISAS_WITHOUT_BFLOAT16
