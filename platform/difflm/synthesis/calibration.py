"""Calibration of a bundle: how often a value of every field begins with each token, in training rows and in draws.

Shape legend: N rows, F fields, V vocabulary.

What a decoder predicts on average is off by a few parts in a thousand for each of its values: optimization ends
somewhere, and an average of weights is no maximum. Once there is a bundle its own draws show by how much, and the
scores of a field's first tokens are corrected by the logarithm of the ratio, which of all changes that bring a marginal
to where it should be moves the distribution least (Csiszar 1975, I-projection). Few rows say little, so both counts
begin at `PSEUDO_ROWS`. Tokens that fewer training rows have than are protected stay as they are, and the other counts
are rounded to multiples of that number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from difflm.config import Config
from difflm.records.protection.rounding import rounded_count
from difflm.synthesis.bundle import Bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.decoding.corrections import CALIBRATION_NAME
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer

PSEUDO_ROWS: Final = 10.0
MOST_CELLS: Final = 400_000
"""Of a round of draws: rows of wide tables take longer, so there are fewer of them."""
Report = Callable[[int, int], None]


class CalibrationConfig(Config):
    """How often values are drawn is brought to how often they are in training rows, in rounds of draws."""

    rows: int = Field(default=16384, ge=0, description="most rows of a round; 0: no calibration")
    rounds: int = Field(default=2, ge=1)


def calibrate_bundle(
    directory: Path,
    train: pa.Table,
    config: CalibrationConfig,
    *,
    seed: int,
    least_rows: int = 1,
    report: Report = lambda done, of: None,
) -> bool:
    """Draw from a bundle and write what its scores are corrected by into it; return whether it takes such corrections.

    `train` are the training rows, normalised. It takes corrections where names of fields are read with values, for then
    it is known which field begins. Tokens that fewer than `least_rows` training rows have are not corrected.
    """
    if config.rows == 0:
        return False
    opened = OpenBundle(directory, SamplingConfig())
    bundle = opened.bundle
    if bundle.parts.joined_V is None:
        return False
    counts_FV = first_tokens(bundle, train)
    rounded_FV = torch.tensor([[rounded_count(rows, least_rows) for rows in row] for row in counts_FV.tolist()])
    corrected_FV = counts_FV >= least_rows
    share_FV = rounded_FV / rounded_FV.sum(dim=1, keepdim=True)
    rows = max(1, min(config.rows, train.num_rows, MOST_CELLS // len(bundle.schema.fields)))
    nats_FV = torch.zeros(counts_FV.shape)
    for number in range(config.rounds):
        report(number * rows, config.rounds * rows)
        drawer = Synthesizer(replace(bundle, corrections_FV=nats_FV), opened.config, device=opened.device)
        # Rows of their own: those that are drawn later are others, whatever their seed.
        drawn, _ = drawer.draw_valid(range(rows), seed=seed + number)
        if not drawn:
            return False  # what keeps a bundle from drawing is said where rows are asked for
        found_FV = first_tokens(bundle, bundle.codec.table_of([record for _, record in drawn]))
        wanted_FV, scale = len(drawn) * share_FV, PSEUDO_ROWS
        nats_FV = nats_FV + torch.where(corrected_FV, ((wanted_FV + scale) / (found_FV + scale)).log(), 0.0)
    _write(directory, nats_FV)
    write_hashes(directory)
    return True


def first_tokens(bundle: Bundle, table: pa.Table) -> Tensor:
    """Count the first tokens of the values of normalised rows, shape (F, V)."""
    grid = bundle.parts.slots.grid
    cells = bundle.parts.tokenizer.encode(bundle.codec.value_literals(table), grid).grid_NG
    size = len(bundle.parts.tokenizer.tokenizer)
    return torch.stack([torch.bincount(torch.from_numpy(cells[:, start]), minlength=size) for start in grid.starts])


def _write(directory: Path, nats_FV: Tensor) -> None:
    field_K, token_K = nats_FV.nonzero(as_tuple=True)
    nats_K = nats_FV[field_K, token_K].float()
    # By way of bytes: safetensors writes files that only their owner may read.
    (directory / CALIBRATION_NAME).write_bytes(save({"field": field_K, "token": token_K, "nats": nats_K.contiguous()}))
