"""A `Constraint` over llguidance: grammars that no automaton over tokens can hold, with the tokenizer of any decoder.

Shape legend: B slots, N of them, A active tokens (the whole vocabulary, V), W words of 32 bits, one bit per token, F
tokens of the longest run.

A matcher per slot keeps a parser and says which tokens may come next. It works on bytes, so every way to cut a text
into tokens is allowed, and the model chooses among them. Only where the text is forced, one way has to be chosen for
it: the one in which the decoder's own tokenizer cuts the forced text, without those tokens at its end that would be cut
otherwise if something else followed; they are drawn. So a run is what the model knows if it was trained on texts cut as
a whole. Two cases are left: behind a drawn token that the tokenizer would not have cut there (a model that knows its
tokenizer gives it little mass), and where training cut texts at borders of its own, as `RecordTokenizer` does: a run
may join what training kept apart, if the vocabulary has a token for it.

A tokenizer may change text before it cuts it (Qwen2's into NFC). llguidance would then force a cut of the changed text,
which the grammar refuses, so it is given the tokenizer without its Unicode normal forms: text that they would leave
alone is cut as ever, and other text as it is. A tokenizer that changes forced text in another way (small letters) makes
a dead end of it.

A record is final when nothing may follow, which is what closes an object, or when EOS is drawn where it may end and
may go on (a number on its own); EOS stands for no bytes. A matcher that gives up (its limits on memory and time) allows
nothing, which the decoding loop counts as a dead end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from llguidance import LLExecutor, LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask_par
from torch import Tensor

from difflm.errors import ModelError, SchemaError
from difflm.records.tokenization import token_bytes
from difflm.synthesis.grammar.constraint import Choices, Runs
from difflm.synthesis.grammar.json_schema import GrammarText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_RUN = 4096  # tokens: a grammar may force text without an end
MAX_COMPILED = 256  # grammars that are kept for indices to come
_UNICODE_FORMS = frozenset({"NFC", "NFD", "NFKC", "NFKD"})

Words = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceConstraint:
    """Grammars compiled for one tokenizer; `start` gives the matcher that the records of an index begin with. Made by
    `guidance_constraint`.
    """

    tokens_A: Tensor
    usable_W: Words
    eos_id: int
    start: Callable[[int], LLMatcher]
    executor: LLExecutor

    def walks(self, slots: int) -> GuidanceWalks:
        """Return walks for so many slots."""
        return GuidanceWalks(
            constraint=self,
            starts=[None] * slots,
            matchers=[None] * slots,
            masks_BW=np.zeros((slots, len(self.usable_W)), np.int32),
            final_B=np.zeros(slots, np.bool_),
        )


def guidance_constraint(
    grammar: GrammarText, tokenizer: PreTrainedTokenizerBase, *, device: torch.device | str = "cpu"
) -> GuidanceConstraint:
    """Compile one grammar for every index. About a second for a vocabulary of 100,000 tokens.

    Raises ModelError for a tokenizer that has no EOS or is not of the `tokenizers` library, and SchemaError for a
    grammar that llguidance refuses.
    """
    return indexed_guidance_constraint(lambda index: grammar, tokenizer, device=device)


def indexed_guidance_constraint(
    grammars: Callable[[int], GrammarText],
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: torch.device | str = "cpu",
) -> GuidanceConstraint:
    """Compile a grammar for each index when its record begins: some milliseconds, but for those used lately.

    Raises the errors of `guidance_constraint`, SchemaError about the grammar of index 0 only: another one that
    llguidance refuses is a dead end for its index.
    """
    eos_id = tokenizer.eos_token_id
    if not isinstance(eos_id, int):
        raise ModelError("the tokenizer has no EOS, which ends records that may go on; choose a decoder that has one")
    known = _tokenizer(tokenizer, eos_id)

    @lru_cache(maxsize=MAX_COMPILED)
    def compiled(grammar: GrammarText) -> LLMatcher:
        return LLMatcher(known, grammar.serialized(), log_level=0)

    first = compiled(grammars(0))
    if first.is_error():
        raise SchemaError(f"llguidance refuses the grammar: {' '.join(first.get_error().split())}; mend the schema")
    bytes_V = token_bytes(tokenizer)
    # Records are spelled by `token_bytes`; a token that llguidance takes for other bytes would spell something else.
    usable_V = np.array([bool(value) and value == known.decode_bytes([token]) for token, value in enumerate(bytes_V)])
    usable_V = np.append(usable_V, np.zeros(max(0, known.vocab_size - len(bytes_V)), np.bool_))
    usable_V[eos_id] = True
    return GuidanceConstraint(
        tokens_A=torch.arange(len(bytes_V), device=device),
        usable_W=_words(usable_V),
        eos_id=eos_id,
        start=lambda index: compiled(grammars(index)),
        executor=LLExecutor(num_threads=torch.get_num_threads()),
    )


def _tokenizer(tokenizer: PreTrainedTokenizerBase, eos_id: int) -> LLTokenizer:
    """Build the tokenizer as `llguidance.hf.from_tokenizer` does, but for Unicode normal forms."""
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"llguidance cannot read a {type(tokenizer).__name__}; choose a decoder with a tokenizer.json")
    backend: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    backend |= {"normalizer": _without_forms(backend["normalizer"]), "padding": None, "truncation": None}
    return LLTokenizer(json.dumps(backend), eos_token=eos_id)


def _without_forms(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if normalizer is None or normalizer["type"] in _UNICODE_FORMS:
        return None
    if normalizer["type"] != "Sequence":
        return normalizer
    kept = [inner for each in normalizer["normalizers"] if (inner := _without_forms(each)) is not None]
    return {"type": "Sequence", "normalizers": kept} if kept else None


def _words(bits_V: npt.NDArray[np.bool_]) -> Words:
    padded_V = np.zeros(-(-len(bits_V) // 32) * 32, np.bool_)
    padded_V[: len(bits_V)] = bits_V
    return np.packbits(padded_V, bitorder="little").view(np.int32)


@dataclass(slots=True, kw_only=True)
class GuidanceWalks:
    """`Walks` of matchers; `masks_BW` says what may come next, and is zero for slots that are final."""

    constraint: GuidanceConstraint
    starts: list[LLMatcher | None]
    matchers: list[LLMatcher | None]
    masks_BW: Words
    final_B: npt.NDArray[np.bool_]

    def begin(self, slots_N: Tensor, indices: Sequence[int]) -> Runs:
        slots = slots_N.tolist()
        for slot, index in zip(slots, indices, strict=True):
            start, matcher = self.constraint.start(index), self.matchers[slot]
            # One that has been used knows more of its lexer's states.
            if matcher is None or self.starts[slot] is not start or not matcher.reset():
                self.starts[slot], self.matchers[slot] = start, start.deep_copy()
            self.final_B[slot], self.masks_BW[slot] = False, 0
        return self._follow(slots, [[] for _ in slots])

    def choices(self) -> Choices | None:
        return None  # a mask is what the matcher gives

    def allowed_BA(self) -> Tensor:
        bits_BV = np.unpackbits(self.masks_BW.view(np.uint8), axis=1, bitorder="little")
        tokens_A = self.constraint.tokens_A
        return torch.from_numpy(bits_BV[:, : len(tokens_A)]).to(tokens_A.device).bool()

    def advance(self, slots_N: Tensor, choice_N: Tensor) -> Runs:
        slots, chosen = slots_N.tolist(), choice_N.tolist()  # the place of an active token is its id
        for slot, token in zip(slots, chosen, strict=True):
            if token == self.constraint.eos_id:
                self._end(slot, final=True)
            else:
                self._matcher(slot).consume_token(token)
        return self._follow(slots, [[token] for token in chosen])

    def final_N(self, slots_N: Tensor) -> Tensor:
        return torch.from_numpy(self.final_B[slots_N.cpu().numpy()]).to(slots_N.device)

    def keep(self, slots_N: Tensor) -> None:
        kept_N = slots_N.cpu().numpy()
        self.starts = [self.starts[slot] for slot in kept_N]
        self.matchers = [self.matchers[slot] for slot in kept_N]
        self.masks_BW, self.final_B = self.masks_BW[kept_N], self.final_B[kept_N]

    def grow(self, slots: int) -> None:
        self.starts += [None] * slots
        self.matchers += [None] * slots
        self.masks_BW = np.concatenate([self.masks_BW, np.zeros((slots, self.masks_BW.shape[1]), np.int32)])
        self.final_B = np.concatenate([self.final_B, np.zeros(slots, np.bool_)])

    def _matcher(self, slot: int) -> LLMatcher:
        matcher = self.matchers[slot]
        assert matcher is not None
        return matcher

    def _end(self, slot: int, *, final: bool) -> None:
        """End a record that nothing may follow; if it is not final, that is a dead end."""
        self.final_B[slot], self.masks_BW[slot] = final, 0

    def _follow(self, slots: Sequence[int], runs: list[list[int]]) -> Runs:
        """Add to each run what is forced behind it, and find what may come next."""
        going = [(slot, run) for slot, run in zip(slots, runs, strict=True) if not self.final_B[slot]]
        while going:
            for slot, run in going:
                self._jump(slot, run)
            going = [(slot, run) for slot, run in going if not self.final_B[slot]]
            going = self._only_choices(going)
        width = max(map(len, runs), default=0)
        tokens_NF = torch.tensor([run + [0] * (width - len(run)) for run in runs], dtype=torch.int64)
        lengths_N = torch.tensor([len(run) for run in runs], dtype=torch.int64)
        device = self.constraint.tokens_A.device
        return Runs(tokens_NF=tokens_NF.view(len(runs), width).to(device), lengths_N=lengths_N.to(device))

    def _jump(self, slot: int, run: list[int]) -> None:
        """Take the text that is forced."""
        matcher = self._matcher(slot)
        forced = matcher.compute_ff_tokens()
        if forced:
            run += forced[: matcher.try_consume_tokens(forced)]
        if matcher.is_stopped():
            self._end(slot, final=not matcher.is_error())

    def _only_choices(self, going: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
        """Compute masks; those that leave one token take it and go on, those that leave EOS alone are final."""
        alive = [(slot, run) for slot, run in going if not self._matcher(slot).is_error()]
        if not alive:
            return []
        places = [slot for slot, _ in alive]
        fill_next_token_bitmask_par(
            self.constraint.executor, [(self._matcher(slot), slot) for slot in places], self.masks_BW
        )
        masks_NW = self.masks_BW[places] & self.constraint.usable_W
        self.masks_BW[places] = masks_NW
        counts_N = np.bitwise_count(masks_NW.view(np.uint32)).sum(axis=1)
        again = []
        for row in np.flatnonzero(counts_N == 1).tolist():
            slot, run = alive[row]
            word = int(np.flatnonzero(masks_NW[row])[0])
            token = 32 * word + (int(masks_NW[row, word]) & 0xFFFFFFFF).bit_length() - 1
            if token == self.constraint.eos_id:
                self._end(slot, final=True)
            elif len(run) < LONGEST_RUN:
                run.append(token)
                self._matcher(slot).consume_token(token)
                again.append((slot, run))
        return again
