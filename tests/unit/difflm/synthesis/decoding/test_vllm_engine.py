"""vLLM behind the decoding seam: the same contract as the engine in this process, against a double of vLLM."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import pytest
import torch

from difflm.errors import ConfigError
from difflm.models.decoder import FrozenDecoder, load_causal_lm
from difflm.models.prompt import Prompt
from difflm.records.tokenization import token_bytes
from difflm.synthesis.decoding.loop import decode
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.decoding.vllm import VllmEngine, VllmEngineConfig, VllmModel
from difflm.synthesis.draws import DrawQueue
from difflm.synthesis.grammar.guidance import guidance_constraint
from difflm.synthesis.grammar.json_schema import json_schema_grammar

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer"}}, "required": ["n"]}
GRAMMAR = json_schema_grammar(SCHEMA)
SOFT, MOST = 3, 60


@pytest.fixture
def decoder(saved_decoder: Callable[[str], Path]) -> FrozenDecoder:
    model, tokenizer = load_causal_lm(saved_decoder("llama"))
    return FrozenDecoder(model, bos_id=tokenizer.bos_token_id, pad_id=tokenizer.eos_token_id)


@pytest.fixture
def model(saved_decoder: Callable[[str], Path]) -> VllmModel:
    folder = saved_decoder("llama")
    return VllmModel(model=str(folder), tokenizer=folder, dtype=torch.float32)


def _queue(decoder: FrozenDecoder, indices: Sequence[int], *, most: int = MOST, broken: int | None = None) -> DrawQueue:
    def prompts(addresses: Sequence[Address]) -> Prompts:
        generators = [torch.Generator().manual_seed(7 * address.index + address.attempt) for address in addresses]
        embeds_NKD = torch.stack([0.1 * torch.randn(SOFT, decoder.width, generator=g) for g in generators])
        for row, address in enumerate(addresses):
            if address.index == broken:
                embeds_NKD[row, 1, 2] = torch.nan
        uniforms_NT = torch.stack([torch.rand(most, generator=g) for g in generators])
        return Prompts(addresses=list(addresses), prompt=Prompt(embeds_BKD=embeds_NKD), uniforms_NT=uniforms_NT)

    return DrawQueue(indices, first_attempt=0, prompts=prompts)


def _engine(
    decoder: FrozenDecoder, model: VllmModel, requests: int = 8, truncation: Truncation | None = None
) -> VllmEngine:
    return VllmEngine(
        VllmEngineConfig(requests=requests),
        model,
        decoder,
        positions=SOFT + MOST + 2,
        grammars=lambda index: GRAMMAR,
        truncation=truncation or Truncation(),
    )


def _records(engine: VllmEngine, queue: DrawQueue) -> dict[int, Decoded]:
    items = list(engine.decode(queue))
    found = {item.address.index: item for item in items}
    assert len(found) == len(items)
    return found


@pytest.mark.usefixtures("vllm_installed")
def test_both_engines_give_every_address_a_record_of_the_grammar(decoder: FrozenDecoder, model: VllmModel) -> None:
    theirs = _records(_engine(decoder, model), _queue(decoder, range(12)))
    _, tokenizer = load_causal_lm(model.model)
    constraint = guidance_constraint(GRAMMAR, tokenizer)
    items = decode(decoder, constraint, _queue(decoder, range(12)), slots=8, truncation=Truncation())
    ours = {item.address.index: item for item in items}
    assert set(theirs) == set(ours) == set(range(12))
    validator, bytes_V = jsonschema.Draft202012Validator(SCHEMA), token_bytes(tokenizer)
    for item in (*theirs.values(), *ours.values()):
        assert item.failure is None
        validator.validate(json.loads(b"".join(bytes_V[token] for token in item.tokens)))


@pytest.mark.usefixtures("vllm_installed")
def test_a_record_depends_on_its_address_only(decoder: FrozenDecoder, model: VllmModel) -> None:
    together = _records(_engine(decoder, model), _queue(decoder, range(6)))
    assert _records(_engine(decoder, model, requests=2), _queue(decoder, [5, 3, 1])) == {
        index: together[index] for index in (5, 3, 1)
    }
    assert len({tuple(item.tokens) for item in together.values()}) > 1


@pytest.mark.usefixtures("vllm_installed")
def test_a_record_without_room_is_unfinished_in_both(decoder: FrozenDecoder, model: VllmModel) -> None:
    theirs = _records(_engine(decoder, model), _queue(decoder, range(3), most=4))
    constraint = guidance_constraint(GRAMMAR, load_causal_lm(model.model)[1])
    ours = decode(decoder, constraint, _queue(decoder, range(3), most=4), slots=3, truncation=Truncation())
    assert {item.failure for item in theirs.values()} == {item.failure for item in ours} == {"unfinished"}


@pytest.mark.usefixtures("vllm_installed")
def test_a_prompt_that_is_not_finite_touches_no_other(decoder: FrozenDecoder, model: VllmModel) -> None:
    whole = _records(_engine(decoder, model), _queue(decoder, range(4)))
    broken = _records(_engine(decoder, model), _queue(decoder, range(4), broken=2))
    assert broken == {**whole, 2: Decoded(address=Address(index=2, attempt=0), tokens=[], failure="not_finite")}


@pytest.mark.usefixtures("vllm_installed")
def test_greedy_decoding_does_not_depend_on_the_numbers(decoder: FrozenDecoder, model: VllmModel) -> None:
    embeds_NKD = torch.randn(1, SOFT, decoder.width, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    uniforms_NT = torch.rand(3, MOST, generator=torch.Generator().manual_seed(1))

    def tokens(truncation: Truncation) -> list[list[int]]:
        queue = DrawQueue(
            range(3),
            first_attempt=0,
            prompts=lambda chosen: Prompts(
                addresses=list(chosen), prompt=Prompt(embeds_BKD=embeds_NKD), uniforms_NT=uniforms_NT
            ),
        )
        return [item.tokens for item in _records(_engine(decoder, model, truncation=truncation), queue).values()]

    first, *others = tokens(Truncation(top_k=1))
    assert others == [first, first]
    first, *others = tokens(Truncation())
    assert others != [first, first]


@pytest.mark.usefixtures("vllm_installed")
def test_without_a_gpu_the_remedy_is_named(
    decoder: FrozenDecoder, model: VllmModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no GPU was found; use a machine with one"):
        _engine(decoder, model)


@pytest.mark.usefixtures("vllm_installed")
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("vllm", "not installed here; pip install vllm"),
        ("vllm.sampling_params", "cannot be imported .*; install it anew"),
    ],
)
def test_without_vllm_the_remedy_is_named(
    decoder: FrozenDecoder, model: VllmModel, monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=message):
        _engine(decoder, model)
