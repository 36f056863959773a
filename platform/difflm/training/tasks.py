"""Tasks: what a `TaskSpec.factory` builds; modules are imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import cast

import torch

from difflm.errors import TrainingError
from difflm.training.task import TaskSpec, TrainingTask

TASKS: dict[str, str] = {
    "decoder": "difflm.training.decoder_task:build_decoder_task",
    "autoencoder": "difflm.training.autoencoder_task:build_autoencoder_task",
    "diffusion": "difflm.training.diffusion_task:build_diffusion_task",
    "conditional": "difflm.training.conditional_task:build_conditional_task",
    "language_model": "difflm.training.language_model_task:build_language_model_task",
    "toy": "difflm.testing.toy_task:build_toy_task",
}


def build_task(spec: TaskSpec, device: torch.device | str) -> TrainingTask:
    """The task of a specification, on `device`; TrainingError when `spec.factory` is not a key of TASKS."""
    if spec.factory not in TASKS:
        raise TrainingError(f"no training task {spec.factory!r}; known are {', '.join(sorted(TASKS))}")
    module, _, function = TASKS[spec.factory].partition(":")
    return cast(TrainingTask, getattr(importlib.import_module(module), function)(spec, device))
