"""Exponential moving average of parameters, with a warm-up so that the first steps do not linger.

While a learning rate is high, weights jitter around what they have learned; their average does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """average <- d * average + (1 - d) * parameter, with d = min(decay, (1 + step) / (10 + step))."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.averages = {
            name: value.detach().clone() for name, value in module.named_parameters() if value.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the parameters after optimizer step `step` (counted from 1)."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        parameters = dict(module.named_parameters())
        names = list(self.averages)
        torch._foreach_lerp_([self.averages[n] for n in names], [parameters[n].detach() for n in names], 1.0 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, average in self.averages.items():
            average.copy_(state[name])

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """Put the averages in the place of the module's parameters, for reading; what was there comes back."""
        parameters = dict(module.named_parameters())
        own = {name: parameters[name].detach().clone() for name in self.averages}
        self._copy(self.averages, parameters)
        try:
            yield
        finally:
            self._copy(own, parameters)

    @staticmethod
    @torch.no_grad()
    def _copy(values: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            parameters[name].copy_(value)
