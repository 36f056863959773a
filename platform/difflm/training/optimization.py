"""Optimization: the learning-rate schedule and the parameter groups that every engine shares."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import nn

Schedule = Literal["cosine", "constant"]

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
FINAL_SHARE = 0.01
"""The cosine schedule ends at this share of the peak learning rate."""


def learning_rate_at(step: int, total: int, *, peak: float, warmup_steps: int, schedule: Schedule) -> float:
    """Learning rate of optimizer step `step` (0-based) of `total`: linear warm-up to `peak`, then cosine decay or
    constant.

    A pure function of its arguments: a resumed run needs no scheduler state. A warm-up that is not shorter than the
    run is cut to a tenth of it, so that short runs still reach the peak.
    """
    warmup = warmup_steps if warmup_steps < total else total // 10
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (FINAL_SHARE + (1.0 - FINAL_SHARE) * cosine)


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer may change, in the module's own order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def named_trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The same by their names, without those of no numbers (a learned prefix of none), which have no state either."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad and value.numel()}


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups over trainable parameters only: matrices decay, vectors and scalars (biases, norms) do not."""
    trainable = trainable_parameters(module)
    decayed = [parameter for parameter in trainable if parameter.ndim >= 2]
    plain = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
