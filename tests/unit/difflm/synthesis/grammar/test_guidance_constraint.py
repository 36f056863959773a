"""llguidance behind the seam of the decoding loop: valid records of any JSON Schema with any decoder's tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase

from difflm.errors import ModelError
from difflm.models.compact import fit_compact_tokenizer
from difflm.models.decoder import FrozenDecoder, load_causal_lm
from difflm.models.prompt import Prompt
from difflm.records.tokenization import PieceTokenizer, token_bytes
from difflm.synthesis.decoding.loop import decode
from difflm.synthesis.decoding.requests import Decoded, Prompts
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.draws import DrawQueue
from difflm.synthesis.grammar.guidance import GuidanceConstraint, guidance_constraint
from difflm.synthesis.grammar.json_schema import json_schema_grammar
from difflm.testing.lockstep import random_walks
from difflm.testing.models import byte_level_tokenizer, sentencepiece_tokenizer

CALL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["the quick fox", "State-gov", 'say "é"']},
        "note": {"type": "string", "maxLength": 6},
        "arguments": {
            "type": "object",
            "properties": {
                "ids": {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 999}, "maxItems": 3},
                "member": {"type": ["boolean", "null"]},
            },
            "required": ["ids"],
        },
        "price": {"type": "number", "minimum": 0, "maximum": 50},
    },
    "required": ["name", "arguments"],
}
VALIDATOR = jsonschema.Draft202012Validator(CALL)
RECORDS = st.fixed_dictionaries(
    {"name": st.sampled_from(CALL["properties"]["name"]["enum"])},
    optional={"note": st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=6)},
).flatmap(
    lambda head: st.fixed_dictionaries(
        {"ids": st.lists(st.integers(-5, 999), max_size=3)}, optional={"member": st.sampled_from([True, None])}
    ).map(lambda arguments: {**head, "arguments": arguments})
)


def _tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    texts = ['{"name": "the quick fox", "arguments": {"ids": [1, 2]}}', '"note": "river"'] * 4
    compact = fit_compact_tokenizer(
        fixed_texts=['{"name": ', "}"], category_literals=['"State-gov"'], texts=texts, vocabulary_size=300
    )
    return {
        "gpt2": byte_level_tokenizer("gpt2"),
        "qwen2": byte_level_tokenizer("qwen2"),
        "sentencepiece": sentencepiece_tokenizer(),
        "compact": compact,
    }


TOKENIZERS = _tokenizers()


@pytest.fixture(scope="module")
def constraints() -> dict[str, GuidanceConstraint]:
    grammar = json_schema_grammar(CALL)
    return {name: guidance_constraint(grammar, tokenizer) for name, tokenizer in TOKENIZERS.items()}


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    bytes_V = token_bytes(tokenizer)
    return b"".join(bytes_V[token] for token in tokens).decode()


def _in_order(record: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The record with its keys in the schema's order, as the grammar has them; hypothesis shuffles optional ones."""
    inner = schema["properties"]
    return {
        key: _in_order(record[key], inner[key]) if isinstance(record[key], dict) else record[key]
        for key in inner
        if key in record
    }


def _followed(constraint: GuidanceConstraint, wanted: list[int]) -> list[int]:
    """The tokens of a walk that chooses `wanted` wherever there is a choice, up to where it is final or leaves them."""
    walks, slot = constraint.walks(1), torch.tensor([0])
    runs = walks.begin(slot, [0])
    tokens: list[int] = runs.tokens_NF[0, : runs.lengths_N[0]].tolist()
    while not walks.final_N(slot)[0] and tokens == wanted[: len(tokens)]:
        choice = wanted[len(tokens)]
        if not walks.allowed_BA()[0, choice]:
            break
        runs = walks.advance(slot, torch.tensor([choice]))
        tokens += runs.tokens_NF[0, : runs.lengths_N[0]].tolist()
    return tokens


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_walk_spells_a_record_of_the_schema(name: str, constraints: dict[str, GuidanceConstraint]) -> None:
    texts = [
        _text(TOKENIZERS[name], tokens) for tokens in random_walks(constraints[name], range(40), seed=0, longest=400)
    ]
    for text in texts:
        VALIDATOR.validate(json.loads(text))
    assert len(set(texts)) > 30
    assert {"note" in text for text in texts} == {True, False}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=RECORDS)
def test_forced_runs_are_the_tokenizers_own(
    name: str, constraints: dict[str, GuidanceConstraint], record: dict[str, Any]
) -> None:
    tokenizer = TOKENIZERS[name]
    text = json.dumps(_in_order(record, CALL), ensure_ascii=False)
    wanted = list(PieceTokenizer(tokenizer).piece(text))
    assert _followed(constraints[name], wanted) == wanted


def test_forced_text_is_taken_in_one_run(constraints: dict[str, GuidanceConstraint]) -> None:
    walks = constraints["compact"].walks(1)
    runs = walks.begin(torch.tensor([0]), [0])
    assert _text(TOKENIZERS["compact"], runs.tokens_NF[0].tolist()) == '{"name": '
    quote_s = PieceTokenizer(TOKENIZERS["compact"]).piece('"State-gov"')
    runs = walks.advance(torch.tensor([0]), torch.tensor(quote_s))
    run = _text(TOKENIZERS["compact"], runs.tokens_NF[0, : runs.lengths_N[0]].tolist())
    assert run.startswith('"State-gov",')


@pytest.mark.parametrize("normalizer", [normalizers.NFC(), normalizers.Sequence([normalizers.NFKC()])])
def test_text_that_the_tokenizer_changes_is_spelled_unchanged(normalizer: normalizers.Normalizer) -> None:
    tokenizer = byte_level_tokenizer("qwen2")
    tokenizer.backend_tokenizer.normalizer = normalizer
    values = ["ae\u0301", "ao\u0308\u0323", "ae\u0302"]  # as neither form has any of them
    assert all(_text(tokenizer, tokenizer.encode(value)) != value for value in values)
    decomposed = {"type": "object", "properties": {"e\u0301": {"enum": values}}, "required": ["e\u0301"]}
    constraint = guidance_constraint(json_schema_grammar(decomposed), tokenizer)
    drawn = {_text(tokenizer, tokens) for tokens in random_walks(constraint, range(30), seed=0, longest=50)}
    assert drawn == {f'{{"e\u0301": "{value}"}}' for value in values}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_eos_ends_a_record_that_may_go_on(name: str) -> None:
    constraint = guidance_constraint(json_schema_grammar({"type": "integer", "minimum": 1}), TOKENIZERS[name])
    drawn = random_walks(constraint, range(30), seed=1, longest=20)
    ended = [tokens for tokens in drawn if tokens[-1] == TOKENIZERS[name].eos_token_id]
    assert ended
    assert all(1 <= int(_text(TOKENIZERS[name], tokens)) <= 2**53 for tokens in drawn)


def test_a_token_that_is_not_allowed_is_a_dead_end(constraints: dict[str, GuidanceConstraint]) -> None:
    walks = constraints["gpt2"].walks(2)
    slots = torch.tensor([0, 1])
    walks.begin(slots, [0, 1])
    wrong = int((~walks.allowed_BA()[0]).nonzero()[-1])  # the first is EOS
    right = int(walks.allowed_BA()[1].nonzero()[0])
    walks.advance(slots, torch.tensor([wrong, right]))
    assert walks.final_N(slots).tolist() == [False, False]
    assert walks.allowed_BA().any(dim=1).tolist() == [False, True]


def test_slots_are_kept_in_order_and_used_again(constraints: dict[str, GuidanceConstraint]) -> None:
    walks, fresh = constraints["gpt2"].walks(3), constraints["gpt2"].walks(1)
    walks.begin(torch.arange(3), range(3))
    choice = walks.allowed_BA()[2].nonzero()[0]
    walks.advance(torch.tensor([2]), choice)
    after = walks.allowed_BA()[2]
    walks.keep(torch.tensor([2, 0]))
    fresh.begin(torch.tensor([0]), [0])
    assert torch.equal(walks.allowed_BA(), torch.stack([after, fresh.allowed_BA()[0]]))
    again = walks.begin(torch.tensor([0]), [7])
    assert torch.equal(again.tokens_NF[0], fresh.begin(torch.tensor([0]), [7]).tokens_NF[0])
    assert torch.equal(walks.allowed_BA()[0], fresh.allowed_BA()[0])


def test_tokenizers_that_cannot_serve_are_named() -> None:
    tokenizer = byte_level_tokenizer("gpt2")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="has no EOS"):
        guidance_constraint(json_schema_grammar({"type": "integer"}), tokenizer)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_loop_decodes_records_of_a_schema(family: str, saved_decoder: Callable[[str], Path]) -> None:
    model, tokenizer = load_causal_lm(saved_decoder(family))
    decoder = FrozenDecoder(model, bos_id=tokenizer.bos_token_id, pad_id=tokenizer.eos_token_id).eval()
    constraint = guidance_constraint(json_schema_grammar(CALL), tokenizer)

    def drawn(slots: int) -> dict[int, Decoded]:
        def prompts(addresses: Any) -> Prompts:
            generators = [torch.Generator().manual_seed(address.index) for address in addresses]
            return Prompts(
                addresses=list(addresses),
                prompt=Prompt(embeds_BKD=torch.stack([torch.randn(2, decoder.width, generator=g) for g in generators])),
                uniforms_NT=torch.stack([torch.rand(200, generator=g) for g in generators]),
            )

        queue = DrawQueue(range(24), first_attempt=0, prompts=prompts)
        found = decode(decoder, constraint, queue, slots=slots, truncation=Truncation())
        return {item.address.index: item for item in found}

    few = drawn(5)
    assert few == drawn(24)
    assert all(item.failure is None for item in few.values())
    for item in few.values():
        VALIDATOR.validate(json.loads(_text(tokenizer, item.tokens)))
