"""Candidates: which is chosen how often, against closed forms and against plain draws that are sorted out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from difflm.models.prompt import Prompt
from difflm.records.kinds.codes import Allowed, IntervalSet
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.candidates import Candidates, candidates_for
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import StageFolders

END = 9
SAMPLING = SamplingConfig(steps=3, precision="float32", text_tokens=10)


class OnePrompt:
    """A source of prompts that are there at once."""

    def __init__(self, prompts: Prompts) -> None:
        self.prompts: Prompts | None = prompts

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        prompts, self.prompts = self.prompts, None
        return prompts


class StubDecoder:
    """Says how likely records of one token are in the table's order."""

    embeddings_VD = torch.zeros(1, 1)

    def __init__(self, nats: list[float]) -> None:
        self.nats_V = torch.tensor(nats)

    def nll(self, prompt: Prompt, ids_BT: Tensor, lengths_B: Tensor, *, temperature_B: Tensor) -> Tensor:
        assert lengths_B.tolist() == [2] * len(ids_BT)
        nats_BT = torch.zeros(ids_BT.shape)
        nats_BT[:, 0] = torch.nn.functional.cross_entropy(
            -self.nats_V.expand(len(ids_BT), -1) / temperature_B[:, None], ids_BT[:, 0], reduction="none"
        )
        return nats_BT


def _candidates(wanted: list[float], count: int) -> Candidates:
    stub: Any = SimpleNamespace(
        decoder=StubDecoder([-torch.tensor(share).log().item() for share in wanted]),
        empty_prompt=lambda rows: Prompt(embeds_BKD=torch.zeros(rows, 0, 1)),
    )
    tokenizer: Any = SimpleNamespace(opening_ids=(END,), in_order=list)
    return Candidates(autoencoder=stub, tokenizer=tokenizer, count=count, temperature=1.0)


def _group(index: int, tokens: list[int], drawn: list[float], failed: frozenset[int] = frozenset()) -> list[Decoded]:
    return [
        Decoded(
            address=Address(index=index, attempt=0, candidate=place),
            tokens=[token, END],
            failure="unfinished" if place in failed else None,
            nats=-torch.tensor(drawn[token]).log().item(),
        )
        for place, token in enumerate(tokens)
    ]


def _share(candidates: Candidates, drawn: list[float], groups: int, temperature: float | None = None) -> float:
    """Return how often token 0 is chosen of candidates that are drawn with these shares."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.multinomial(
        torch.tensor(drawn).expand(groups, -1), candidates.count, replacement=True, generator=generator
    )
    made = [_group(index, row, drawn) for index, row in enumerate(tokens.tolist())]
    chosen = candidates.chosen(made, [3] * groups, [temperature] * groups)
    return sum(item.tokens[0] == 0 for item in chosen) / groups


def test_two_candidates_are_chosen_as_the_closed_form_says() -> None:
    # Both alike: that one. Else token 0 with its weight .8 / .5 of .8 / .5 + .2 / .5.
    exact = 0.5**2 + 2 * 0.5 * 0.5 * 0.8
    found = _share(_candidates([0.8, 0.2], 2), [0.5, 0.5], 20_000)
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5)


def test_many_candidates_come_to_the_wanted_distribution() -> None:
    found = _share(_candidates([0.8, 0.2], 64), [0.3, 0.7], 4_000)
    assert found == pytest.approx(0.8, abs=0.03)


def test_a_temperature_is_that_of_both_distributions() -> None:
    tempered = 0.8**2 / (0.8**2 + 0.2**2)
    assert _share(_candidates([0.8, 0.2], 64), [0.5, 0.5], 4_000, temperature=0.5) == pytest.approx(tempered, abs=0.03)


def test_what_did_not_end_is_chosen_only_where_nothing_did() -> None:
    candidates = _candidates([0.999, 0.001], 3)
    groups = [
        _group(0, [0, 1, 0], [0.5, 0.5], frozenset({0, 2})),
        _group(1, [0, 1, 0], [0.5, 0.5], frozenset({0, 1, 2})),
    ]
    for seed in range(20):
        first, second = candidates.chosen(groups, [seed] * 2)
        assert first.failure is None
        assert second.failure == "unfinished"


def test_the_choice_is_by_seed_index_and_attempt_whatever_the_order() -> None:
    candidates = _candidates([0.6, 0.4], 4)
    groups = [_group(index, [0, 1, 1, 0], [0.5, 0.5]) for index in range(50)]
    whole = candidates.chosen(groups, [7] * 50)
    assert candidates.chosen([group[::-1] for group in groups[::-1]], [7] * 50) == whole[::-1]
    assert candidates.chosen(groups[13:14], [7]) == whole[13:14]
    assert candidates.chosen(groups, [8] * 50) != whole


def test_candidates_are_weighed_by_their_records_in_the_tables_order(any_order_stages: StageFolders) -> None:
    bundle = load_bundle(any_order_stages.bundle, solver=SAMPLING.solver_settings())
    asked = DrawPlans(bundle, text_tokens=SAMPLING.text_tokens).where(parse_condition("member", bundle.schema))
    drawer = Synthesizer(bundle, SAMPLING, plan=asked)
    assert drawer.candidates is not None
    prompts = drawer.prompts([Address(index=4, attempt=0), Address(index=9, attempt=0)], seed=2)
    assert [address.candidate for address in prompts.addresses] == [*range(8)] * 2
    items = drawer.engine.decode(OnePrompt(prompts))
    groups: dict[int, list[Decoded]] = {4: [], 9: []}
    for item in items:
        groups[item.address.index].append(item)
    chosen = drawer.candidates.chosen([groups[4], groups[9]], [2, 2])
    drawn = drawer.draw([4, 9], seed=2, attempt=0)
    assert [drawer.parse(item).record for item in chosen] == [draw.record for draw in drawn]
    decoder, tokenizer = bundle.autoencoder.decoder, bundle.parts.tokenizer
    for item in groups[4]:
        ids_T = torch.tensor(tokenizer.in_order(item.tokens))
        nats_T = decoder.nll(bundle.autoencoder.empty_prompt(1), ids_T[None], torch.tensor([len(ids_T)]))[0].double()
        opening = torch.tensor(tokenizer.opening_ids)
        nats = float(nats_T[~torch.isin(ids_T, opening)].sum())
        weight = drawer.candidates.weights([item], torch.ones(1))
        assert float(weight[0]) == pytest.approx(item.nats - nats, abs=1e-4)
        assert item.nats > 0


def test_the_first_is_as_good_where_nothing_comes_before_its_turn(any_order_stages: StageFolders) -> None:
    bundle = load_bundle(any_order_stages.bundle, solver=SAMPLING.solver_settings())
    some = {bundle.schema.names[0]: Allowed(codes=IntervalSet.points([0]), null=False)}

    def found(records: RecordSet, count: int = 8, **truncation: Any) -> bool:
        return candidates_for(bundle, records, count, Truncation(**truncation)) is not None

    assert not found(RecordSet())
    assert found(RecordSet(restriction=some, first=(1,)))
    assert not found(RecordSet(restriction=some, first=(1,)), count=1)
    assert not found(RecordSet(restriction=some, first=(1,)), top_k=3)
    assert not found(RecordSet(restriction=some, first=(1,)), top_p=0.9)
    assert found(RecordSet(restriction=some, first=(1,)), temperature=0.7)
    assert found(RecordSet(cells=lambda index: {}, first=()))
