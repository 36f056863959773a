"""The decoding loop: against a reference in step, in any batch, with failing records, and without bias."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import Prompt
from difflm.synthesis.decoding.loop import decode
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.decoding.slot_model import HuggingFaceSlots
from difflm.synthesis.grammar.automaton import Automaton, AutomatonBuilder
from difflm.synthesis.grammar.constraint import Constraint
from difflm.testing.lockstep import decode_in_step, nats_in_step

VOCABULARY, WIDTH, SOFT, MOST = 24, 32, 3, 40
RECORDS = 300


JOINED = (2, 5, 21)
"""Tokens that the grammar forces behind another: they can be read with it."""


def _decoder(seed: int = 0, *, joined: Sequence[int] = ()) -> FrozenDecoder:
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        initializer_range=0.3,
        eos_token_id=None,
    )
    joined_V = torch.isin(torch.arange(VOCABULARY), torch.tensor(joined)) if joined else None
    return FrozenDecoder(LlamaForCausalLM(config), bos_id=0, pad_id=1, joined_V=joined_V)


def _grammar() -> Automaton:
    """2 3, one to five digits 10-19 or the literal 8 9 9, 4 5 6, six tokens of text in quotes 7 or 20, and 21 22 23."""
    builder = AutomatonBuilder()
    start = builder.state()
    number = builder.chain(start, (2, 3))
    ends, state = set(), number
    for _ in range(5):
        after = builder.state()
        builder.transitions[state] |= dict.fromkeys(range(10, 20), after)
        ends.add(after)
        state = after
    builder.transitions[number][8] = builder.chain(builder.state(), ())  # a literal of its own, forced throughout
    literal = builder.chain(builder.transitions[number][8], (9, 9))
    behind = builder.chain(builder.join(ends | {literal}, 4), (5, 6))
    text, closing, closed = builder.state(), builder.state(), builder.state()
    builder.transitions[behind] |= {7: text, 20: closed}
    builder.transitions[text] |= {**dict.fromkeys(range(10, 16), text), 7: closed}
    builder.bounds[text] = (closing, 6)
    builder.transitions[closing][7] = closed
    final = builder.chain(builder.join({closed}, 21), (22, 23))
    return builder.build(start=start, final=final)


def _prompts(records: int, *, most: int = MOST) -> tuple[Prompt, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embeds_NKD = torch.randn(records, SOFT, WIDTH, generator=generator)
    return Prompt(embeds_BKD=embeds_NKD), torch.rand(records, most, generator=generator)


def _other_prompts(kind: str, records: int) -> Prompt:
    """Those of the other injections: a memory, or something added to embeddings behind none."""
    generator = torch.Generator().manual_seed(1)
    positions = SOFT if kind == "kv_memory" else 0
    return Prompt(
        embeds_BKD=torch.zeros(records, 0, WIDTH),
        memory_BLXHKE=torch.randn(records, 2, 2, 4, positions, WIDTH // 4, generator=generator),
        added_BD=torch.randn(records, WIDTH, generator=generator) if kind == "embedding" else None,
    )


class Given:
    """A source of prompts by index, asked for no more than it hands out."""

    def __init__(
        self, prompt: Prompt, uniforms_NT: Tensor, order: Sequence[int] | None = None, *, scored: bool = False
    ) -> None:
        self.prompt, self.uniforms_NT, self.scored = prompt, uniforms_NT, scored
        self.order: Iterator[int] = iter(range(len(prompt)) if order is None else order)
        self.taken = 0

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        indices = list(islice(self.order, most))
        if not indices:
            return None
        self.taken += len(indices)
        rows = torch.tensor([index % len(self.prompt) for index in indices])
        return Prompts(
            addresses=[Address(index=index, attempt=0) for index in indices],
            prompt=self.prompt.rows(rows),
            uniforms_NT=self.uniforms_NT[rows],
            scored=self.scored,
        )


def _decode(
    source: Given,
    *,
    slots: int,
    constraint: Constraint | None = None,
    decoder: FrozenDecoder | None = None,
    **sampling: Any,
) -> list[Decoded]:
    truncation = Truncation(**sampling)
    items = decode(decoder or _decoder(), constraint or _grammar(), source, slots=slots, truncation=truncation)
    return sorted(items, key=lambda item: item.address.index)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.6}])
@pytest.mark.parametrize("joined", [(), JOINED], ids=["apart", "joined"])
def test_records_tell_how_likely_they_were(sampling: dict[str, Any], joined: Sequence[int]) -> None:
    decoder, grammar = _decoder(joined=joined), _grammar()
    prompt, uniforms_NT = _prompts(40)
    items = _decode(Given(prompt, uniforms_NT, scored=True), slots=7, decoder=decoder, **sampling)
    wanted = nats_in_step(decoder, grammar, prompt, [item.tokens for item in items], Truncation(**sampling))
    assert [item.nats for item in items] == pytest.approx(wanted, abs=1e-4)
    assert {item.nats for item in _decode(Given(prompt, uniforms_NT), slots=7, decoder=decoder, **sampling)} == {0.0}


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.6, "top_p": 0.8, "top_k": 7}])
def test_records_are_those_of_the_reference_whatever_the_slots(sampling: dict[str, Any]) -> None:
    prompt, uniforms = _prompts(RECORDS)
    wanted = decode_in_step(_decoder(), _grammar(), prompt, uniforms, Truncation(**sampling))
    assert len({tuple(tokens or ()) for tokens in wanted}) > RECORDS / 3
    backwards = list(range(RECORDS))[::-1]
    for slots, order in ((1, range(20)), (7, None), (64, backwards), (1000, None)):
        found = _decode(Given(prompt, uniforms, order), slots=slots, **sampling)
        assert [item.tokens for item in found] == wanted[: len(found)]
        assert {item.failure for item in found} == {None}
        assert len(found) == (20 if slots == 1 else RECORDS)


def test_hugging_faces_forward_pass_gives_the_same_records(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, uniforms = _prompts(100)
    ours = _decode(Given(prompt, uniforms), slots=16)
    monkeypatch.setattr(
        "difflm.synthesis.decoding.loop.slot_model", lambda decoder, tokens: HuggingFaceSlots(decoder.model, tokens)
    )
    assert _decode(Given(prompt, uniforms), slots=16) == ours


@pytest.mark.parametrize("slots", [7, 64])
def test_tokens_that_are_read_with_others_give_the_records_of_the_reference(
    slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, uniforms = _prompts(100)
    decoder = _decoder(joined=JOINED)
    wanted = decode_in_step(decoder, _grammar(), prompt, uniforms, Truncation())
    assert wanted != decode_in_step(_decoder(), _grammar(), prompt, uniforms, Truncation())
    found = _decode(Given(prompt, uniforms), slots=slots, decoder=decoder)
    assert [item.tokens for item in found] == wanted
    monkeypatch.setattr(
        "difflm.synthesis.decoding.loop.slot_model", lambda decoder, tokens: HuggingFaceSlots(decoder.model, tokens)
    )
    assert _decode(Given(prompt, uniforms), slots=slots, decoder=decoder) == found


@pytest.mark.parametrize("kind", ["kv_memory", "embedding"])
def test_other_injections_give_the_records_of_the_reference(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, (_, uniforms) = _other_prompts(kind, 60), _prompts(60)
    wanted = decode_in_step(_decoder(), _grammar(), prompt, uniforms, Truncation())
    assert len({tuple(tokens or ()) for tokens in wanted}) > 60 / 3
    for slots in (7, 64):
        assert [item.tokens for item in _decode(Given(prompt, uniforms), slots=slots)] == wanted
    monkeypatch.setattr(
        "difflm.synthesis.decoding.loop.slot_model", lambda decoder, tokens: HuggingFaceSlots(decoder.model, tokens)
    )
    assert [item.tokens for item in _decode(Given(prompt, uniforms), slots=16)] == wanted


def test_a_source_without_end_is_read_as_it_is_used() -> None:
    source = Given(*_prompts(10), order=count())  # type: ignore[arg-type]
    items = decode(_decoder(), _grammar(), source, slots=8, truncation=Truncation())
    assert len(list(islice(items, 50))) == 50
    assert source.taken <= 50 + 2 * 8


def test_a_prompt_of_nan_fails_alone() -> None:
    prompt, uniforms = _prompts(60)
    whole = _decode(Given(prompt, uniforms), slots=8)
    sick = prompt.embeds_BKD.clone()
    sick[[3, 4, 31]] = torch.nan
    found = _decode(Given(Prompt(embeds_BKD=sick), uniforms), slots=8)
    assert [item.address.index for item in found if item.failure == "not_finite"] == [3, 4, 31]
    assert [item for item in found if item.failure is None] == [
        item for item in whole if item.address.index not in {3, 4, 31}
    ]


def test_records_without_room_are_unfinished() -> None:
    prompt, uniforms = _prompts(40)
    whole = _decode(Given(prompt, uniforms), slots=8)
    lengths = sorted(len(item.tokens) for item in whole)
    most = lengths[20]
    assert lengths[0] < most < lengths[-1]
    found = _decode(Given(prompt, uniforms[:, :most]), slots=8)
    for item, full in zip(found, whole, strict=True):
        assert item.tokens == full.tokens[:most]
        assert (item.failure is None) == (len(full.tokens) <= most)
        assert item.failure in {None, "unfinished"}


def _automaton(build: Callable[[AutomatonBuilder, int], int]) -> Automaton:
    builder = AutomatonBuilder()
    start = builder.state()
    return builder.build(start=start, final=build(builder, start))


def test_a_record_without_a_choice_needs_no_model() -> None:
    forced = _automaton(lambda builder, start: builder.chain(start, (5, 6, 7)))
    found = _decode(Given(*_prompts(9)), slots=4, constraint=forced)
    assert [item.tokens for item in found] == [[5, 6, 7]] * 9


def test_circles_and_dead_ends_end() -> None:
    def circle(builder: AutomatonBuilder, start: int) -> int:
        builder.transitions[start][5] = start
        return builder.state()

    def dead_end(builder: AutomatonBuilder, start: int) -> int:
        builder.transitions[start] |= {5: builder.state(), 6: builder.state()}
        return builder.state()

    found = _decode(Given(*_prompts(6)), slots=4, constraint=_automaton(circle))
    assert {item.failure for item in found} == {"unfinished"}
    found = _decode(Given(*_prompts(6)), slots=4, constraint=_automaton(dead_end))
    assert {item.failure for item in found} == {"dead_end"}


def test_masks_do_not_bias_a_model_that_knows_the_format() -> None:
    """A decoder fitted to short records: drawn freely and under the grammar, the same records in the same shares."""
    torch.manual_seed(0)
    records = [([2, 3, 10, 4], 0.45), ([2, 3, 10, 11, 4], 0.25), ([2, 3, 12, 4], 0.2), ([2, 3, 12, 12, 4], 0.1)]
    ids_NT = torch.tensor([[0, *tokens, *[1] * (6 - len(tokens))] for tokens, _ in records])
    shares_N = torch.tensor([share for _, share in records])
    decoder = _decoder()
    model = decoder.model.requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    prompt_1KD = 0.1 * torch.ones(1, SOFT, WIDTH)
    for _ in range(150):
        inputs = torch.cat([prompt_1KD.expand(4, -1, -1), model.get_input_embeddings()(ids_NT)], dim=1)
        log_NTV = torch.log_softmax(model(inputs_embeds=inputs).logits[:, SOFT:-1], dim=-1)
        nats_NT = -log_NTV.gather(2, ids_NT[:, 1:, None]).squeeze(2)
        loss = (shares_N * nats_NT.sum(dim=1)).sum()  # padding ends a record for the free draws
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.requires_grad_(False)

    def grammar(builder: AutomatonBuilder, start: int) -> int:
        digits = builder.chain(start, (2, 3))
        one, two = builder.state(), builder.state()
        builder.transitions[digits] |= dict.fromkeys(range(10, 20), one)
        builder.transitions[one] |= dict.fromkeys(range(10, 20), two)
        return builder.join({one, two}, 4)

    count_of_draws = 4000
    uniforms = torch.rand(count_of_draws, 6, generator=torch.Generator().manual_seed(2))
    prompts = Prompt(embeds_BKD=prompt_1KD.expand(count_of_draws, -1, -1))
    anything = _automaton(lambda builder, start: _any_token(builder, start, 5))
    masked = _decode(Given(prompts, uniforms), slots=500, constraint=_automaton(grammar), decoder=decoder)
    free = _decode(Given(prompts, uniforms[:, :5]), slots=500, constraint=anything, decoder=decoder)
    texts = [tuple(token for token in item.tokens if token != 1) for item in free]
    valid = {tuple(tokens) for tokens, _ in records}
    assert sum(text in valid for text in texts) > 0.97 * count_of_draws  # the model knows the format
    for tokens in valid:
        shares = [
            sum(text == tokens for text in side) / count_of_draws for side in (texts, [tuple(i.tokens) for i in masked])
        ]
        assert abs(shares[0] - shares[1]) < 0.03  # three standard errors of a difference of two shares
    assert abs(sum(tuple(item.tokens) == (2, 3, 10, 4) for item in masked) / count_of_draws - 0.45) < 0.05


def _any_token(builder: AutomatonBuilder, start: int, steps: int) -> int:
    state = start
    for _ in range(steps):
        after = builder.state()
        builder.transitions[state] |= dict.fromkeys(range(VOCABULARY), after)
        state = after
    return state
