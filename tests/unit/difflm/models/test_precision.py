"""The precision that the processor is fast in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from difflm.models.precision import fast_precision, resolve_precision

ASK = "from difflm.models.precision import fast_precision; print(fast_precision('cpu'))"
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with AVX512_BF16 that nothing rules out."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.mark.parametrize(
    "limit", [{"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"DNNL_MAX_CPU_ISA": "avx512_core"}]
)
def test_a_process_that_may_not_use_bfloat16_computes_in_float32(limit: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-c", ASK], env={**environment, **limit}, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "float32\n"


@pytest.mark.usefixtures("has_bfloat16")
def test_cpus_need_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_precision("cpu") == "bfloat16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert fast_precision("cpu") == "bfloat16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx512_core")
    assert fast_precision("cpu") == "float32"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert fast_precision("cpu") == "bfloat16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert fast_precision("cpu") == "float32"


@pytest.mark.parametrize(("supported", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_gpus_need_it_without_emulation(monkeypatch: pytest.MonkeyPatch, supported: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    assert fast_precision("cuda") == chosen


def test_other_devices_compute_in_float32() -> None:
    assert fast_precision("meta") == "float32"


def test_a_setting_other_than_auto_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"
    assert resolve_precision("float32", "cuda") == "float32"
    assert resolve_precision("auto", "cpu") == "float32"
