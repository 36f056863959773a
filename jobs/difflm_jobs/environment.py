"""The environment of a run: versions, processors and memory that its figures depend on."""

from __future__ import annotations

import importlib.metadata
import os

import psutil

from difflm.telemetry import JSON, host_facts

DISTRIBUTIONS = (
    *("difflm", "ray", "torch", "transformers", "tokenizers", "deepspeed", "peft"),
    *("pyarrow", "numpy", "scipy", "scikit-learn", "xgboost"),
)


def describe_environment() -> dict[str, JSON]:
    """Versions of what computes, and the machine's size; no name of a person, a host or a folder."""
    return {
        **host_facts(),
        "processors_usable": len(os.sched_getaffinity(0)),
        "memory_mib": round(psutil.virtual_memory().total / 2**20),
        "versions": {name: _version(name) for name in DISTRIBUTIONS},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
