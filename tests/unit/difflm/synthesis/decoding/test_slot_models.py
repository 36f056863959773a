"""Models slot by slot: every family gives the scores of a full forward pass, whatever the other slots do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from difflm.errors import ModelError
from difflm.models.decoder import FrozenDecoder, load_causal_lm
from difflm.models.prompt import Prompt, causal_logits
from difflm.synthesis.decoding import slot_model
from difflm.synthesis.decoding.kv_cache import SlotCache
from difflm.synthesis.decoding.llama import LlamaSlots, is_small_llama
from difflm.synthesis.decoding.slot_model import HuggingFaceSlots, SlotModel, read_prompts
from difflm.synthesis.grammar.constraint import Runs
from difflm.testing.models import DECODER_FAMILIES

TOKENS = torch.tensor([9, 3, 40, 17, 28])
SLOTS, EMPTY = 6, 5
KINDS = ("soft_prompt", "kv_memory", "embedding", "memory_and_tokens")


def _llama(**changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, "vocab_size": 50, "num_key_value_heads": 2, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3) if "bias" in name else parameter.mul_(4 if "proj" in name else 1)
    return model.eval()


def _prompt(kind: str, model: PreTrainedModel, generator: torch.Generator) -> Prompt:
    rows, soft, width = SLOTS - 1, 7 if kind != "embedding" else 0, model.config.hidden_size
    if kind == "soft_prompt":
        return Prompt(embeds_BKD=0.3 * torch.randn(rows, soft, width, generator=generator))
    shape = FrozenDecoder(model, bos_id=0, pad_id=0).memory_shape
    behind = 3 if kind == "memory_and_tokens" else 0
    return Prompt(
        embeds_BKD=0.3 * torch.randn(rows, behind, width, generator=generator),
        memory_BLXHKE=torch.randn(rows, shape.layers, 2, shape.heads, soft, shape.head_size, generator=generator),
        added_BD=0.3 * torch.randn(rows, width, generator=generator) if kind == "embedding" else None,
    )


class Play:
    """Random runs in six slots, one of them empty, each compared with the teacher-forced pass over what its slot has
    read.
    """

    def __init__(self, model: PreTrainedModel, slots: SlotModel, *, kind: str = "soft_prompt") -> None:
        self.model, self.slots = model, slots
        self.generator = torch.Generator().manual_seed(0)
        self.prompt = _prompt(kind, model, self.generator).to(model.dtype)
        soft = self.prompt.positions
        read = read_prompts(slots, self.prompt)
        self.cache = SlotCache(read, slots=SLOTS)
        self.slot_of_row = [4, 0, 2, 3, 1]
        self.cache.admit(read, torch.arange(SLOTS - 1), torch.tensor(self.slot_of_row))
        self.filled_B = torch.tensor([soft] * (SLOTS - 1) + [0])
        self.ids: list[list[int]] = [[] for _ in range(SLOTS)]

    def step(self) -> tuple[Tensor, list[int]]:
        """Scores of a round, and the slots that read something in it."""
        lengths_B = torch.randint(0, 4, (SLOTS,), generator=self.generator)
        lengths_B[EMPTY] = 0
        lengths_B[0] = lengths_B[0].clamp(min=1)
        tokens_BF = torch.randint(3, 50, (SLOTS, 3), generator=self.generator)
        self.cache.reserve(int((self.filled_B + lengths_B).max()) + 1)
        with torch.no_grad():
            scores_BA = self.slots.step(self.cache, Runs(tokens_NF=tokens_BF, lengths_N=lengths_B), self.filled_B)
        self.filled_B = self.filled_B + lengths_B
        for slot, (row, length) in enumerate(zip(tokens_BF.tolist(), lengths_B.tolist(), strict=True)):
            self.ids[slot] += row[:length]
        return scores_BA, [slot for slot, length in enumerate(lengths_B.tolist()) if length]

    def wanted_A(self, slot: int) -> Tensor:
        row = self.slot_of_row.index(slot)
        with torch.no_grad():
            tokens = torch.tensor([self.ids[slot]])
            return causal_logits(self.model, self.prompt.rows(slice(row, row + 1)), tokens)[0, -1, TOKENS]


def _check(
    model: PreTrainedModel, slots: SlotModel, *, rounds: int, tolerance: float, kind: str = "soft_prompt"
) -> None:
    play = Play(model, slots, kind=kind)
    for _ in range(rounds):
        scores_BA, read = play.step()
        for slot in read:
            torch.testing.assert_close(scores_BA[slot], play.wanted_A(slot), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_every_family_scores_as_teacher_forcing_does(
    family: str, kind: str, saved_decoder: Callable[[str], Path]
) -> None:
    model, _ = load_causal_lm(saved_decoder(family))
    model.train(False)
    # Further than Mistral's window of 24.
    _check(model, HuggingFaceSlots(model, TOKENS), rounds=25, tolerance=1e-4, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_slots_score_so_with_attention_of_single_operations_too(
    kind: str, saved_decoder: Callable[[str], Path]
) -> None:
    model, _ = load_causal_lm(saved_decoder("mistral"), attention="eager")
    model.train(False)
    _check(model, HuggingFaceSlots(model, TOKENS), rounds=20, tolerance=1e-4, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4, "tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True, "head_dim": 16},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    ],
)
def test_our_own_llama_scores_as_hugging_faces(changes: dict[str, Any], kind: str) -> None:
    model = _llama(**changes)
    assert is_small_llama(model)
    _check(
        model, LlamaSlots(model, TOKENS), rounds=30, tolerance=1e-4, kind=kind
    )  # beyond the first growth of cache and turns


def test_our_own_llama_in_bfloat16_is_as_close_as_hugging_faces() -> None:
    exact = _llama()
    low = _llama().to(torch.bfloat16)
    ours, theirs = Play(low, LlamaSlots(low, TOKENS)), Play(low, LlamaSlots(low, TOKENS))
    errors = []
    for _ in range(8):
        scores_BA, read = ours.step()
        theirs.step()
        for slot in read:
            reference = Play.wanted_A(_upcast(ours, exact), slot)
            errors.append(
                (
                    float((scores_BA[slot] - reference).abs().mean()),
                    float((theirs.wanted_A(slot) - reference).abs().mean()),
                )
            )
    mine, other = (sum(column) for column in zip(*errors, strict=True))
    assert mine < 1.3 * other


def _upcast(play: Play, model: PreTrainedModel) -> Play:
    exact = object.__new__(Play)
    exact.model, exact.ids, exact.slot_of_row = model, play.ids, play.slot_of_row
    exact.prompt = play.prompt.to(torch.float32)
    return exact


def test_what_is_no_small_llama_is_left_to_hugging_face(
    saved_decoder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_small_llama(load_causal_lm(saved_decoder("mistral"))[0])
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert not is_small_llama(_llama(rope_parameters=dynamic, max_position_embeddings=64))
    monkeypatch.setattr("difflm.synthesis.decoding.llama.MAX_PARAMETERS", 1000)
    assert not is_small_llama(_llama())


@pytest.mark.parametrize("kind", [LlamaSlots, HuggingFaceSlots])
def test_a_slot_of_nan_touches_no_other(kind: type[LlamaSlots] | type[HuggingFaceSlots]) -> None:
    model = _llama()
    slots = kind(model, TOKENS)
    sound, sick = Play(model, slots), Play(model, slots)
    for tensor in (*sick.cache.keys, *sick.cache.values):
        tensor[2] = torch.nan
    for _ in range(6):
        (wanted_BA, read), (scores_BA, _) = sound.step(), sick.step()
        others = [slot for slot in read if slot != 2]
        assert torch.equal(scores_BA[others], wanted_BA[others])
        if 2 in read:
            assert not bool(scores_BA[2].isfinite().any())


def test_prompts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _llama()
    slots = LlamaSlots(model, TOKENS)
    embeds = torch.randn(9, 5, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = read_prompts(slots, Prompt(embeds_BKD=embeds))
        monkeypatch.setattr(slot_model, "PREFILL_TOKENS", 11)
        pieces = read_prompts(slots, Prompt(embeds_BKD=embeds))
    for one, other in zip((*whole.keys, *whole.values), (*pieces.keys, *pieces.values), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_layers_whose_past_is_no_attention_are_refused() -> None:
    model = _llama()
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ModelError, match=r"linear_attention.*choose a decoder"):
        HuggingFaceSlots(model, TOKENS)
