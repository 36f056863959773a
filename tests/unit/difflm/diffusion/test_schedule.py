"""The sampler's noise levels."""

import pytest
import torch

from difflm.diffusion.edm import karras_sigmas


def test_levels_fall_from_the_largest_to_the_smallest_and_end_at_zero() -> None:
    sigmas = karras_sigmas(50)
    assert sigmas.shape == (51,)
    assert sigmas.dtype == torch.float64
    assert float(sigmas[0]) == pytest.approx(80.0)
    assert float(sigmas[-2]) == pytest.approx(0.002)
    assert float(sigmas[-1]) == 0.0
    assert bool((sigmas.diff() < 0).all())


def test_rho_one_is_linear() -> None:
    assert karras_sigmas(5, sigma_min=1.0, sigma_max=5.0, rho=1.0).tolist() == pytest.approx([5, 4, 3, 2, 1, 0])


def test_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 steps"):
        karras_sigmas(1)
