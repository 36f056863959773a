"""Decoding: drawing from masked scores, and the cache against a full forward pass."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from difflm.models.decoder import load_causal_lm
from difflm.synthesis.automaton import AutomatonBuilder
from difflm.synthesis.cache import preallocated_cache
from difflm.synthesis.decoding import Walk, draw
from difflm.testing.models import DECODER_FAMILIES

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
def test_no_temperature_leaves_the_automaton(temperature: float, uniform: float) -> None:
    builder = AutomatonBuilder()
    start = builder.state()
    final = builder.state()
    builder.transitions[start] |= {3: final, 5: final}
    automaton = builder.build(start=start, final=final)
    generator = torch.Generator().manual_seed(1)
    walk = Walk.begin(automaton, 50, torch.device("cpu"))
    logits = 100 * torch.randn(50, 8, generator=generator)
    tokens = walk.advance(logits, torch.full((50,), uniform), temperature)
    assert set(tokens.tolist()) <= {3, 5}
    assert bool(walk.ended_B.all())
    if temperature < 1e-5:
        assert tokens.tolist() == torch.where(logits[:, 3] > logits[:, 5], 3, 5).tolist()


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


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@torch.no_grad()
def test_step_by_step_gives_the_logits_of_a_full_pass(family: str, saved_decoder: Callable[[str], Path]) -> None:
    model, _ = load_causal_lm(saved_decoder(family))
    model.train(False)
    generator = torch.Generator().manual_seed(0)
    inputs = 0.1 * torch.randn(3, 50, model.config.hidden_size, generator=generator)
    whole = model(inputs_embeds=inputs, use_cache=False).logits
    cache = preallocated_cache(model.config.num_hidden_layers, 50)
    parts = [model(inputs_embeds=inputs[:, :9], past_key_values=cache, use_cache=True, logits_to_keep=1).logits]
    for place in range(9, 50):
        step = inputs[:, place : place + 1]
        parts.append(model(inputs_embeds=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, 8:], atol=1e-4, rtol=1e-4)
    assert cache.get_seq_length() == 50
