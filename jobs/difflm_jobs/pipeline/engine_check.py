"""The decoding engine compared with what it would run on, before any work and as far as that is known."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from difflm.errors import ConfigError

if TYPE_CHECKING:
    from difflm.synthesis.decoding.vllm import VllmEngineConfig
    from difflm.synthesis.synthesizer import SamplingConfig
    from difflm_jobs.config import RuntimeConfig
    from difflm_jobs.pipeline.stage import Stage

_GPUS = "runtime.synthesis.pool.gpus_per_actor"


def check_engine(sampling: SamplingConfig, runtime: RuntimeConfig) -> None:
    """Refuse an engine that is not installed, whose GPU is missing, or that its actors have no room for.

    vLLM has to be installed on this machine too. For a GPU it is only looked here when the actors run here: on a
    cluster they may be on other machines, and each says so itself when it starts.

    Raises:
        ConfigError: names the setting and the remedy.
    """
    if sampling.engine.kind == "vllm":
        from difflm.synthesis.decoding.vllm import require_vllm

        address = runtime.cluster.address or os.environ.get("RAY_ADDRESS") or "local"
        require_vllm(gpu_here=address == "local")
        check_room(sampling, runtime)


def check_room(sampling: SamplingConfig, runtime: RuntimeConfig) -> None:
    """Check what `check_engine` can without looking at this machine.

    Raises:
        ConfigError: names the setting and the remedy.
    """
    if sampling.engine.kind == "vllm":
        _check_gpus(sampling.engine, runtime.synthesis.pool.gpus_per_actor)


def check_json(sampling: SamplingConfig, *, holds_json: bool) -> None:
    """Refuse the one choice that cannot keep JSON columns to their schema.

    Raises:
        ConfigError: names the setting and the remedy.
    """
    if holds_json and sampling.engine.kind == "builtin" and sampling.engine.constraint == "automaton":
        raise ConfigError(
            "parameters of tools are JSON, whose schema only llguidance knows; "
            "give --set sampling.engine.constraint=llguidance"
        )


def draws_rows(stages: Iterable[Stage]) -> bool:
    """Return whether any of the stages needs the engine."""
    return any(stage.name == "synthesize" for stage in stages)


def _check_gpus(engine: VllmEngineConfig, gpus: float) -> None:
    if not gpus:
        raise ConfigError(
            f"sampling.engine.kind is vllm, and {_GPUS} is 0: its actors would see no GPU; "
            f"give --set {_GPUS}={engine.tensor_parallel_size}"
        )
    if engine.tensor_parallel_size > max(gpus, 1):
        raise ConfigError(
            f"sampling.engine.tensor_parallel_size is {engine.tensor_parallel_size}, and {_GPUS} is {gpus:g}; "
            f"give --set {_GPUS}={engine.tensor_parallel_size}"
        )
    if gpus < 1 and engine.gpu_memory_utilization > gpus:
        raise ConfigError(
            f"sampling.engine.gpu_memory_utilization is {engine.gpu_memory_utilization:g}, and {_GPUS} is {gpus:g}: "
            f"actors that share a GPU do not fit into its memory; give at most {gpus:g}"
        )
