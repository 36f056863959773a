"""LiRA by hand, on losses that say who was there, on losses that say nothing, and with too few shadows."""

import numpy as np
import pytest

from difflm_evaluators.privacy.likelihood_ratio import evaluate_ratio, likelihood_ratios


def _losses(gap: float, seed: int, records: int = 600, models: int = 9) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Losses of records that are hard or easy, lower by `gap` where a model had them; and who had them."""
    random = np.random.default_rng(seed)
    hard_N, had_SN = random.normal(20, 10, records), random.random((models, records)) < 0.5
    had_SN[1, :], had_SN[2, :] = True, False  # every record is on both sides of the shadows
    return hard_N - gap * had_SN + random.normal(0, 1, had_SN.shape), had_SN


def test_the_ratio_finds_what_the_loss_alone_cannot() -> None:
    losses_SN, had_SN = _losses(3.0, 0)
    found = evaluate_ratio(losses_SN[0], had_SN[0], losses_SN[1:], had_SN[1:])
    assert found.ratio.value > 0.95  # two unit Gaussians 3 apart: 0.983, less what eight shadows do not know
    assert found.loss.value < 0.65
    assert found.rate.value > 0.5


def test_losses_that_know_nothing_tell_nothing() -> None:
    losses_SN, had_SN = _losses(0.0, 1)
    found = evaluate_ratio(losses_SN[0], had_SN[0], losses_SN[1:], had_SN[1:])
    low, high = found.ratio.interval
    assert low < 0.5 < high


def test_by_hand() -> None:
    had_SN = np.array([[True], [True], [False], [False]])
    shadows_SN = np.array([[1.0], [3.0], [5.0], [7.0]])  # 2 and 6, each with a deviation of sqrt(2)
    ratio = likelihood_ratios(np.array([3.0]), shadows_SN, had_SN)
    assert ratio == pytest.approx([(-1 + 9) / 4])


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="3 shadow models are too few"):
        likelihood_ratios(np.zeros(2), np.zeros((3, 2)), np.ones((3, 2), dtype=bool))
    with pytest.raises(ValueError, match="record 1 is on one side"):
        likelihood_ratios(np.zeros(2), np.zeros((4, 2)), np.array([[True, True], [False, True]] * 2))
