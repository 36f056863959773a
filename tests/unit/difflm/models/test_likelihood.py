"""The likelihood against a log-softmax by hand, and whatever the padding is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from difflm.models.decoder import EAGER_TOKENS, FrozenDecoder, load_causal_lm
from difflm.models.prompt import Prompt
from difflm.testing.models import DECODER_FAMILIES

BOS = 1


@pytest.fixture(params=DECODER_FAMILIES)
def decoder(request: pytest.FixtureRequest, saved_decoder: Callable[[str], Path]) -> FrozenDecoder:
    model, _ = load_causal_lm(saved_decoder(request.param))
    return FrozenDecoder(model, bos_id=BOS, pad_id=0)


def _inputs(decoder: FrozenDecoder, lengths: list[int]) -> tuple[Prompt, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prompt = Prompt(embeds_BKD=0.05 * torch.randn(len(lengths), 5, decoder.width, generator=generator))
    ids = torch.randint(3, 300, (len(lengths), max(lengths)), generator=generator)
    return prompt, ids, torch.tensor(lengths)


@torch.no_grad()
def test_it_is_the_log_softmax_of_the_tokens_behind_prompt_and_bos(decoder: FrozenDecoder) -> None:
    prompt, ids, lengths = _inputs(decoder, [9, 9])
    found = decoder.nll(prompt, ids, lengths)
    embed = decoder.model.get_input_embeddings()
    read = torch.cat([prompt.embeds_BKD, embed(torch.full((2, 1), BOS)), embed(ids)], dim=1)
    logs = torch.log_softmax(decoder.model(inputs_embeds=read).logits, dim=-1)
    wanted = -logs[:, 5:-1].gather(2, ids[:, :, None])[..., 0]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_nothing_and_counts_nothing(decoder: FrozenDecoder) -> None:
    prompt, ids, lengths = _inputs(decoder, [30, 7, 18])
    together = decoder.nll(prompt, ids, lengths)
    other_padding = torch.where(torch.arange(30) < lengths[:, None], ids, 77)
    torch.testing.assert_close(decoder.nll(prompt, other_padding, lengths), together, atol=1e-5, rtol=1e-5)
    for row, length in enumerate(lengths.tolist()):
        alone = Prompt(embeds_BKD=prompt.embeds_BKD[row : row + 1])
        wanted = decoder.nll(alone, ids[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, :length], wanted[0], atol=1e-4, rtol=1e-4)
        assert bool((together[row, length:] == 0).all())


@pytest.mark.parametrize(("length", "attention"), [(EAGER_TOKENS, "eager"), (EAGER_TOKENS + 1, "sdpa")])
def test_short_texts_are_attended_to_eagerly_and_gradients_are_the_same(
    length: int, attention: str, saved_decoder: Callable[[str], Path]
) -> None:
    found = []
    for by_length in (False, True):
        model, _ = load_causal_lm(saved_decoder("llama"), attention="sdpa")
        decoder = FrozenDecoder(model, bos_id=BOS, pad_id=0)
        if by_length:
            decoder.attend_by_length()
        prompt, ids, lengths = _inputs(decoder, [length, 7])
        vectors = prompt.embeds_BKD.requires_grad_()
        decoder.nll(prompt, ids, lengths).sum().backward()
        found.append(vectors.grad)
    assert decoder.model.config._attn_implementation == attention
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_tokens_read_with_the_one_in_front_are_given_and_take_no_position(decoder: FrozenDecoder) -> None:
    prompt, ids, lengths = _inputs(decoder, [8, 5])
    ids[:, 0], ids[:, 3] = 301, 302  # behind BOS, and in the middle
    ids[0, 6] = 301
    decoder.joined_V = torch.isin(torch.arange(400), torch.tensor([301, 302]))
    found = decoder.nll(prompt, ids, lengths)
    embed = decoder.model.get_input_embeddings()

    def read(token: int, also: int | None = None) -> torch.Tensor:
        vector: torch.Tensor = embed(torch.tensor(token))
        return vector if also is None else vector + embed(torch.tensor(also))

    for row, names in enumerate(([0, 3, 6], [0, 3])):
        tokens, length = [BOS, *ids[row].tolist()], int(lengths[row])
        places = [place for place in range(length) if place - 1 not in names]  # of the tokens with a position
        vectors = [read(tokens[place], tokens[place + 1] if place in names else None) for place in places]
        text = torch.cat([prompt.embeds_BKD[row], torch.stack(vectors)])[None]
        logs = torch.log_softmax(decoder.model(inputs_embeds=text).logits[0, 5:], dim=-1)
        wanted = torch.zeros(ids.shape[1])
        for position, place in enumerate(places):
            target = place + 1 if place in names else place
            wanted[target] = -logs[position, ids[row, target]]
        torch.testing.assert_close(found[row], wanted, atol=1e-4, rtol=1e-4)


def test_a_frozen_decoder_stays_in_evaluation_mode(decoder: FrozenDecoder) -> None:
    decoder.train()
    assert not decoder.training
    assert not any(module.training for module in decoder.modules())
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


def _gradient(decoder: FrozenDecoder) -> tuple[torch.Tensor, int]:
    """The gradient at the prompt, and the bytes that the backward pass kept for it."""
    prompt, ids, lengths = _inputs(decoder, [30, 30, 30, 30])
    embeds = prompt.embeds_BKD.requires_grad_()
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = decoder.nll(prompt, ids, lengths).sum()
    torch.autograd.backward(loss)
    assert embeds.grad is not None
    return embeds.grad, sum(kept.values())


def test_recomputed_layers_give_the_same_gradient_from_less_memory(decoder: FrozenDecoder) -> None:
    wanted, kept = _gradient(decoder)
    decoder.recompute_layers()
    decoder.train(False)
    found, less = _gradient(decoder)
    torch.testing.assert_close(found, wanted)
    assert less < 0.7 * kept
    dropouts = [module for module in decoder.modules() if isinstance(module, torch.nn.Dropout)]
    assert not any(module.training for module in dropouts)
