"""Drawing from masked scores: inverse transform, temperature, top-k, top-p."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from difflm.synthesis.decoding.sampling import Truncation, draw

ONE = 1.0 - 2.0**-24  # the largest uniform number in single precision


@pytest.mark.parametrize("uniform", [0.0, 1e-30, 0.5, ONE])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 80.0, 1e30])
def test_a_masked_place_is_never_drawn(uniform: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(200, 9, generator=generator)
    masked = torch.rand(200, 9, generator=generator) < 0.6
    masked[:, 4] = False
    masked[:, [0, 8]] = True  # where rounding would end
    chosen = draw(scores.masked_fill(masked, -torch.inf), torch.full((200,), uniform))
    assert not bool(masked[torch.arange(200), chosen].any())


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-6, 1.0, 1e6, 1e300])
@pytest.mark.parametrize("uniform", [0.0, ONE])
def test_no_temperature_leaves_the_mask(temperature: float, uniform: float) -> None:
    scores = 100 * torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    masked = scores.clone()
    masked[:, [0, 1, 2, 4, 6, 7]] = -torch.inf
    chosen = draw(Truncation(temperature=temperature).scores_BA(masked), torch.full((50,), uniform))
    assert set(chosen.tolist()) <= {3, 5}
    if temperature < 1e-5:
        assert chosen.tolist() == torch.where(scores[:, 3] > scores[:, 5], 3, 5).tolist()


def test_drawn_frequencies_are_the_softmax() -> None:
    scores = torch.tensor([0.3, -1.0, -torch.inf, 1.2, 0.0])
    count = 50_000
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(2))
    chosen = draw(scores.expand(count, -1), uniform)
    seen = torch.bincount(chosen, minlength=5).double()
    wanted = torch.softmax(scores.double(), dim=0) * count
    kept = wanted > 0
    assert float(seen[~kept].sum()) == 0
    assert chisquare(seen[kept].numpy(), wanted[kept].numpy()).pvalue > 0.01


def test_uniform_numbers_cut_the_unit_interval_in_order() -> None:
    scores = torch.tensor([0.25, 0.5, 0.25]).log().expand(5, -1)
    assert draw(scores, torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501])).tolist() == [0, 0, 1, 1, 2]


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any),
    top_p=st.floats(0.01, 1.0),
    top_k=st.none() | st.integers(1, 14),
)
def test_truncation_keeps_the_likeliest_of_what_is_allowed(weights: list[int], top_p: float, top_k: int | None) -> None:
    # Zero weight: forbidden by the grammar.
    masked = torch.tensor([weights], dtype=torch.float64).log()
    kept = (Truncation(top_p=top_p, top_k=top_k).scores_BA(masked)[0] > -torch.inf).tolist()
    assert not any(keep for keep, weight in zip(kept, weights, strict=True) if weight == 0)
    descending = sorted(weights, reverse=True)
    least = descending[min(top_k or len(weights), len(weights)) - 1]
    among = [weight for weight in weights if weight and weight >= least]
    inside = [weight for keep, weight in zip(kept, weights, strict=True) if keep]
    outside = [weight for weight in among if weight < min(inside)]
    assert sorted(inside) + sorted(outside) == sorted(inside) + sorted(set_difference(among, inside))
    assert sum(inside) >= top_p * sum(among) * (1 - 1e-9)
    smaller = [weight for weight in inside if weight > min(inside)]  # without those that tie for the last place
    assert sum(smaller) <= top_p * sum(among) * (1 + 1e-9)


def set_difference(all_of: list[int], some: list[int]) -> list[int]:
    """What is left of a list when each of some is taken out once."""
    left = list(all_of)
    for item in some:
        left.remove(item)
    return left


def test_the_mass_is_that_of_the_tempered_distribution() -> None:
    masked = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    kept = [(Truncation(temperature=t, top_p=0.7).scores_BA(masked) > -torch.inf).sum().item() for t in (0.2, 1.0, 5.0)]
    assert kept == [1, 2, 3]


def test_top_k_of_one_is_greedy() -> None:
    scores = torch.randn(40, 7, generator=torch.Generator().manual_seed(3))
    uniform = torch.rand(40, generator=torch.Generator().manual_seed(4))
    assert draw(Truncation(top_k=1).scores_BA(scores), uniform).tolist() == scores.argmax(dim=1).tolist()


@pytest.mark.parametrize("places", [1, 31, 32, 33, 1000])
def test_it_is_the_first_place_of_the_running_sum_above_the_threshold(places: int) -> None:
    generator = torch.Generator().manual_seed(places)
    scores_BA = 5 * torch.randn(2000, places, generator=generator)
    scores_BA[torch.rand(scores_BA.shape, generator=generator) < 0.5] = -torch.inf
    scores_BA[:, 0] = torch.where(scores_BA.isinf().all(dim=1), 0.0, scores_BA[:, 0])
    uniform_B = torch.rand(2000, generator=generator)
    running_BA = scores_BA.double().softmax(dim=1).cumsum(dim=1)
    wanted_B = torch.searchsorted(running_BA, uniform_B.double()[:, None], right=True).squeeze(1)
    assert (draw(scores_BA, uniform_B) == wanted_B).float().mean() > 0.998  # a place next to it where they are equal
    heavy_B = scores_BA.gather(1, draw(scores_BA, uniform_B)[:, None]).isfinite()
    assert heavy_B.all()
