"""Decoding engines: the one seam behind which prompts become records, and the choice among those that stand there.

`builtin` decodes in this process (`decoding`), under an automaton over tokens or under llguidance's grammars; `vllm`
hands prompts to vLLM on a GPU. Every choice serves every record set, and a draw is addressed in the same way.

The automaton bounds free text by tokens, the grammars of llguidance by characters: there, text that takes more than
its share of tokens leaves its record unfinished, and the draw is rejected. They also let the model spell a value in any
tokens, where the automaton has those of training only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field

from difflm.config import Config
from difflm.errors import ConfigError, ModelError
from difflm.models.decoder import FrozenDecoder
from difflm.synthesis.bundle import Bundle
from difflm.synthesis.decoding.corrections import Corrections
from difflm.synthesis.decoding.loop import decode
from difflm.synthesis.decoding.requests import Decoded, PromptSource
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.decoding.vllm import VllmEngine, VllmEngineConfig, require_soft_prompt, vllm_model
from difflm.synthesis.grammar.constraint import Constraint, RecordSet
from difflm.synthesis.grammar.forced_cells import ForcedCells
from difflm.synthesis.grammar.guidance import indexed_guidance_constraint
from difflm.synthesis.grammar.lark import table_larks
from difflm.synthesis.grammar.tables import longest_record, longest_spelling, record_grammar


class BuiltinEngineConfig(Config):
    """Records are decoded in this process, on any device."""

    kind: Literal["builtin"] = "builtin"
    constraint: Literal["automaton", "llguidance"] = Field(
        default="automaton", description="what keeps records valid; with llguidance values may be spelled in any tokens"
    )


EngineConfig = Annotated[BuiltinEngineConfig | VllmEngineConfig, Field(discriminator="kind")]


class DecodingEngine(Protocol):
    """A decoder with the records that each index may become."""

    def decode(self, source: PromptSource) -> Iterator[Decoded]:
        """Decode every prompt of a source into the tokens of one of these records, or the reason why it became none.

        Each address comes back once, in the order in which the records end. A record has T tokens at most (the width of
        its prompt's `uniforms_NT`) and EOS, so every one ends. What it becomes depends on its prompt, its numbers and
        its index alone, exactly as far as the engine's own file says.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltinEngine:
    """The decoding loop of this process, with at most `slots` records under way."""

    decoder: FrozenDecoder
    constraint: Constraint
    slots: int
    truncation: Truncation
    corrections: Corrections | None = None

    def decode(self, source: PromptSource) -> Iterator[Decoded]:
        """See `DecodingEngine`."""
        return decode(
            self.decoder,
            self.constraint,
            source,
            slots=self.slots,
            truncation=self.truncation,
            corrections=self.corrections,
        )


def max_tokens(config: EngineConfig, bundle: Bundle, *, text_tokens: int) -> int:
    """Return T, the tokens within which any record of a bundle ends, unless its free text takes more than its share."""
    if isinstance(config, BuiltinEngineConfig) and config.constraint == "automaton":
        return longest_record(bundle.schema, bundle.parts.tokenizer, text_tokens=text_tokens)
    return longest_spelling(bundle.codec, text_tokens=text_tokens)


def load_engine(
    config: EngineConfig,
    bundle: Bundle,
    records: RecordSet,
    *,
    slots: int,
    truncation: Truncation,
    text_tokens: int,
) -> DecodingEngine:
    """Load the configured engine with a bundle's decoder. vLLM loads its own copy, so the bundle's leaves the GPU.

    Raises:
        ConfigError: vLLM is not installed, there is no GPU for it, or it cannot read what the injector writes.
        ModelError: llguidance cannot read the decoder's tokenizer.
        ValueError: a record set that leaves a column nothing.
    """
    if not (isinstance(config, BuiltinEngineConfig) and config.constraint == "automaton"):
        _check_characters(bundle, records)
    match config:
        case BuiltinEngineConfig():
            constraint = _constraint(config, bundle, records, text_tokens)
            return BuiltinEngine(
                decoder=bundle.autoencoder.decoder,
                constraint=constraint,
                slots=slots,
                truncation=truncation,
                corrections=_corrections(bundle, records, constraint),
            )
        case VllmEngineConfig():
            require_soft_prompt(bundle.shape.injector.kind)
            dtype: torch.dtype = bundle.autoencoder.decoder.embeddings_VD.dtype
            decoder = bundle.autoencoder.decoder.to("cpu")
            torch.cuda.empty_cache()
            return VllmEngine(
                config,
                vllm_model(bundle.folder / "decoder", bundle.parts, dtype=dtype),
                decoder,
                positions=bundle.autoencoder.injector.positions
                + max_tokens(config, bundle, text_tokens=text_tokens)
                + 2,  # BOS and EOS
                grammars=table_larks(bundle.codec, records),
                truncation=truncation,
            )


def _corrections(bundle: Bundle, records: RecordSet, constraint: Constraint) -> Corrections | None:
    """Arrange a bundle's corrections for the draws that they were made of: those that are given nothing first."""
    if bundle.corrections_FV is None or records.first is not None:
        return None
    return Corrections.of(bundle.corrections_FV, bundle.parts, constraint.tokens_A)


def _check_characters(bundle: Bundle, records: RecordSet) -> None:
    """Refuse what only the automaton knows: pairs of digits, joined names, and fields in another order."""
    if bundle.parts.tokenizer.pieces.numbers:
        raise ConfigError(
            "the bundle's decoder writes numbers in pairs of digits, which llguidance and vLLM cannot read; draw with "
            "sampling.engine.kind=builtin and constraint=automaton, or fit it with decoder.number_pairs=false"
        )
    if bundle.parts.joined_V is not None:
        raise ConfigError(
            "the bundle's decoder reads a field's name together with the value before, which llguidance and vLLM "
            "cannot do; draw with sampling.engine.kind=builtin and constraint=automaton, or fit it with "
            "decoder.number_pairs=false"
        )
    if records.first is not None:
        raise ConfigError(
            "conditions and gaps are written first, which llguidance and vLLM cannot do; draw with "
            "sampling.engine.kind=builtin and constraint=automaton"
        )


def _constraint(config: BuiltinEngineConfig, bundle: Bundle, records: RecordSet, text_tokens: int) -> Constraint:
    schema, tokenizer = bundle.schema, bundle.parts.tokenizer
    device = bundle.autoencoder.decoder.embeddings_VD.device
    if config.constraint == "llguidance":
        return indexed_guidance_constraint(table_larks(bundle.codec, records), tokenizer.tokenizer, device=device)
    grammar = record_grammar(
        schema,
        tokenizer,
        text_tokens=text_tokens,
        restriction=records.restriction,
        first=records.first or (),
        device=device,
    )
    if bundle.parts.joined_V is not None and not grammar.names_forced:
        raise ModelError("the decoder reads names with the values before them, and a value's end is open; fit it again")
    if records.cells is None:
        return grammar.automaton
    return ForcedCells.of(grammar, tokenizer, records.cells, ahead=records.first is not None)
