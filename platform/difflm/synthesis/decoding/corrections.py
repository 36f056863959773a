"""Corrections of the scores of a field's first token, as the calibration of a bundle left them.

calibration.safetensors   K corrections: `field` (its place in the schema), `token` (its id), `nats` (what is added)

Shape legend: B slots, F fields, V vocabulary, A active tokens, K corrections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from difflm.errors import ModelError
from difflm.models.decoder_store import DecoderParts, read_tensors
from difflm.synthesis.grammar.constraint import Runs

CALIBRATION_NAME: Final = "calibration.safetensors"
MOST_NATS: Final = 50.0
"""Of a correction; beyond, a file is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """Row `row_V[v]` of `nats_RA` is added to the scores behind name v; the last row, of no name, is zero."""

    row_V: Tensor
    nats_RA: Tensor

    @classmethod
    def of(cls, nats_FV: Tensor, parts: DecoderParts, tokens_A: Tensor) -> Corrections:
        """Arrange corrections for the active tokens of a grammar; names are read with values."""
        fields, vocabulary = nats_FV.shape
        row_V = torch.full((vocabulary + 1,), fields, device=tokens_A.device)
        row_V[list(parts.tokenizer.opening_ids or ())] = torch.arange(fields, device=tokens_A.device)
        nats_RV = torch.cat([nats_FV, nats_FV.new_zeros((1, vocabulary))]).to(tokens_A.device)
        return cls(row_V=row_V, nats_RA=nats_RV[:, tokens_A])

    def __call__(self, read: Runs, corrected_B: Tensor, place_BL: Tensor | None) -> Tensor:
        """Return what to add to scores of active tokens behind what was read: of all, or of those at some places.

        It is zero for the slots that are not to be corrected.
        """
        assert read.also_NF is not None
        name_B = read.also_NF.gather(1, (read.lengths_N - 1).clamp(min=0)[:, None]).squeeze(1)
        # Without a name it is -1, whose row is that of no name.
        row_B = torch.where(corrected_B, self.row_V[name_B], len(self.nats_RA) - 1)
        return self.nats_RA[row_B] if place_BL is None else self.nats_RA[row_B[:, None], place_BL]


def read_corrections(directory: Path, parts: DecoderParts) -> Tensor | None:
    """Read the corrections (F, V) of a bundle, None where it has none.

    Raises:
        ModelError: they are not of this bundle's fields and tokens; names the file.
    """
    path = directory / CALIBRATION_NAME
    if not path.is_file():
        return None
    tensors = read_tensors(path)
    shape = (len(parts.slots.grid.widths), len(parts.tokenizer.tokenizer))
    fault = f"{path}: no corrections of this bundle; assemble the bundle again"
    if set(tensors) != {"field", "token", "nats"} or parts.joined_V is None:
        raise ModelError(fault)
    field_K, token_K, nats_K = (tensors[name] for name in ("field", "token", "nats"))
    places = (field_K, token_K)
    if any(one.dtype != torch.int64 or one.dim() != 1 for one in places) or nats_K.dtype != torch.float32:
        raise ModelError(fault)
    if not field_K.shape == token_K.shape == nats_K.shape or not bool((nats_K.abs() < MOST_NATS).all()):
        raise ModelError(fault)
    if any(bool(((one < 0) | (one >= size)).any()) for one, size in zip(places, shape, strict=True)):
        raise ModelError(fault)
    nats_FV = torch.zeros(shape)
    nats_FV[field_K, token_K] = nats_K
    return nats_FV
