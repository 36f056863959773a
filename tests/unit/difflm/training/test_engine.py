"""The plain engine in one process: accumulation, clipping, frozen parameters, and averages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from difflm.errors import TrainingError
from difflm.training.engine import PlainEngine


class Regression(nn.Module):
    """A linear model with a frozen part and an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1, bias=False)
        self.unused = nn.Parameter(torch.ones(1))
        self.frozen = nn.Parameter(torch.full((1,), 3.0), requires_grad=False)
        nn.init.ones_(self.linear.weight)

    def forward(self, values: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.linear(values) - self.frozen).square().mean()}


def batch(*rows: list[float]) -> dict[str, Tensor]:
    return {"values": torch.tensor(rows)}


def test_accumulated_micro_batches_equal_one_large_batch() -> None:
    whole, parts = Regression(), Regression()
    large = PlainEngine(whole, gradient_clip=1e9)
    small = PlainEngine(parts, gradient_clip=1e9, gradient_accumulation=2)
    large.backward(large.forward(batch([1.0, 2.0], [3.0, -1.0]))["loss"])
    for row in ([1.0, 2.0], [3.0, -1.0]):
        small.backward(small.forward(batch(row))["loss"])
    assert large.step(0.1) == pytest.approx(small.step(0.1))
    torch.testing.assert_close(whole.linear.weight, parts.linear.weight)


def test_the_norm_is_the_one_before_clipping() -> None:
    module = Regression()
    engine = PlainEngine(module, gradient_clip=1e-3)
    engine.backward(engine.forward(batch([1.0, 0.0]))["loss"])
    assert engine.step(0.0) == pytest.approx(4.0)


def test_frozen_parameters_and_gradients_that_are_not_finite_change_nothing() -> None:
    module = Regression()
    engine = PlainEngine(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    engine.backward(engine.forward(batch([float("inf"), 0.0]))["loss"])
    assert not torch.isfinite(torch.tensor(engine.step(0.1)))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_saved_state_holds_trainable_tensors_only(tmp_path: Path) -> None:
    engine = PlainEngine(Regression())
    engine.save(tmp_path)
    state = torch.load(tmp_path / "engine.pt", weights_only=True)
    assert set(state["weights"]) == set(state["moments"]["exp_avg"]) == {"linear.weight", "unused"}


def test_a_module_without_trainable_parameters_is_an_error() -> None:
    module = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(TrainingError, match="no trainable parameters"):
        PlainEngine(module)


def test_the_mean_over_one_rank_is_the_value_itself() -> None:
    engine = PlainEngine(Regression())
    assert engine.mean({"b": 2.0, "a": 1.0}, 3.0) == {"a": 1.0, "b": 2.0}
    with pytest.raises(TrainingError, match="weight 0"):
        engine.mean({"a": 1.0}, 0.0)
