"""The lean pass over a compact Llama against its own modules: the same nats, the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difflm.models import prompt as prompts
from difflm.models.compact import CompactDecoderConfig, build_compact_llama
from difflm.models.lean_llama import is_lean
from difflm.models.prompt import Prompt, causal_nll

BOS, PAD, VOCABULARY = 1, 0, 310
SIZES = [
    CompactDecoderConfig(hidden_size=32, layers=2, heads=4, key_heads=1, intermediate_size=48),
    CompactDecoderConfig(hidden_size=48, layers=1, heads=6, key_heads=3, intermediate_size=64),
    CompactDecoderConfig(hidden_size=16, layers=1, heads=1, key_heads=1, intermediate_size=16),
]


def model_of(config: CompactDecoderConfig, *, longest: int = 40) -> Any:
    torch.manual_seed(0)
    model = build_compact_llama(config, vocabulary_size=VOCABULARY, bos_id=BOS, pad_id=PAD, longest=longest)
    with torch.no_grad():  # norms begin at 1, where a weight that is forgotten would not be missed
        for name, weight in model.named_parameters():
            weight.mul_(3.0) if weight.ndim > 1 else weight.uniform_(0.5, 2.0)
            assert weight.requires_grad, name
    return model


def texts(joined: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    ids_BT = torch.randint(2, VOCABULARY, (5, 12), generator=generator)
    if not joined:
        return ids_BT, torch.tensor([12, 3, 9, 1, 12]), None
    ids_BT[:, 1::3], joined_V = 300, torch.zeros(VOCABULARY, dtype=torch.bool)
    joined_V[300] = True
    return ids_BT, torch.tensor([12, 3, 9, 1, 12]), joined_V


def both(
    model: Any, joined: bool, monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool = False
) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Nats and gradients: lean, then by the modules."""
    ids_BT, lengths_B, joined_V = texts(joined)
    found = []
    for lean in (True, False):
        if not lean:
            monkeypatch.setattr(prompts, "is_lean", lambda model, inputs: False)
        model.zero_grad()
        embeds = nn.Parameter(torch.randn(5, 3, model.config.hidden_size, generator=torch.Generator().manual_seed(2)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            nats_BT = causal_nll(model, Prompt(embeds_BKD=embeds), ids_BT, lengths_B, bos_id=BOS, joined_V=joined_V)
        (nats_BT * torch.rand(nats_BT.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        assert embeds.grad is not None
        found.append((nats_BT.detach(), {**gradients, "prompt": embeds.grad}))
    return found


@pytest.mark.parametrize("config", SIZES, ids=lambda config: f"{config.heads} heads, {config.key_heads} of keys")
@pytest.mark.parametrize("joined", [False, True], ids=["one by one", "joined"])
def test_nats_and_gradients_are_those_of_the_modules(
    config: CompactDecoderConfig, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(config)
    (nats, gradients), (known, by_modules) = both(model, joined, monkeypatch)
    torch.testing.assert_close(nats, known, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == by_modules.keys() == {*dict(model.named_parameters()), "prompt"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, by_modules[name], rtol=2e-4, atol=2e-5, msg=lambda text, at=name: at + text
        )


def test_in_bfloat16_it_is_no_further_from_float32_than_the_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(SIZES[0])
    (exact, exactly), _ = both(model, True, monkeypatch)
    monkeypatch.undo()
    (lean, leanly), (modules, by_modules) = both(model, True, monkeypatch, bfloat16=True)
    assert lean.dtype == torch.float32
    assert (lean - exact).norm() < 1.5 * (modules - exact).norm()
    apart = [
        sum(float((each[name] - gradient).square().sum()) for name, gradient in exactly.items()) ** 0.5
        for each in (leanly, by_modules)
    ]
    assert apart[0] < 1.5 * apart[1]
    for name, gradient in exactly.items():
        assert (leanly[name] - gradient).norm() < 0.05 * gradient.norm(), name


def test_frozen_weights_in_bfloat16_pass_gradients_to_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(SIZES[1]).requires_grad_(False).to(torch.bfloat16)
    (nats, lean), (known, by_modules) = both(model, False, monkeypatch)
    assert lean.keys() == {"prompt"}
    torch.testing.assert_close(nats, known, rtol=0.05, atol=0.1)
    apart = (lean["prompt"] - by_modules["prompt"]).norm() / by_modules["prompt"].norm()
    assert apart < 0.05


def test_what_it_does_not_compute_is_left_to_the_modules() -> None:
    inputs = torch.zeros(1, 3, 32)
    model = model_of(SIZES[0])
    assert is_lean(model, inputs)
    handle = model.model.layers[1].mlp.up_proj.register_forward_hook(lambda *given: None)  # as private gradients do
    assert not is_lean(model, inputs)
    handle.remove()
    assert is_lean(model, inputs)
    model.model.layers[0].self_attn.k_proj.weight.data = torch.empty(0)  # as ZeRO-3 leaves weights between uses
    assert not is_lean(model, inputs)
    assert not is_lean(model_of(SIZES[0], longest=2000), inputs), "long texts need attention of little memory"
    biased = model_of(SIZES[0])
    biased.model.layers[0].mlp.down_proj = nn.Linear(48, 32)
    assert not is_lean(biased, inputs)
    assert not is_lean(nn.Linear(2, 2), inputs)
