"""What an encoder reads of a table: the value grid (compact), or its own tokens of the records' text (pretrained).

Shape legend: B batch, T encoder tokens, G grid cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from difflm.errors import ModelError
from difflm.models.encoder import CompactEncoderConfig, PretrainedEncoderConfig
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.record_schema import RecordSchema

EncoderInputs = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(rows_B, grid_BG) to the keyword arguments of the encoder's forward."""


def encoder_inputs(
    config: CompactEncoderConfig | PretrainedEncoderConfig,
    table: pa.Table,
    schema: RecordSchema,
    device: torch.device | str,
) -> EncoderInputs:
    """Inputs for the rows of `table`. ModelError names the first record that is longer than the encoder reads."""
    match config:
        case CompactEncoderConfig():
            return lambda rows_B, grid_BG: {"grid_BG": grid_BG}
        case PretrainedEncoderConfig():
            texts = JsonRecordCodec(schema).encode_table(table)
            return _PretrainedInputs(config, texts, device)


class _PretrainedInputs:
    """Token ids by the encoder's own tokenizer, padded per batch."""

    def __init__(self, config: PretrainedEncoderConfig, texts: Sequence[str], device: torch.device | str) -> None:
        from transformers import AutoConfig, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
            model: Any = AutoConfig.from_pretrained(config.model, revision=config.revision)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(
                f"cannot load the tokenizer of the encoder {config.model!r}: {reason}; "
                "save the model's tokenizer with it"
            ) from error
        if len(tokenizer) > model.vocab_size:
            raise ModelError(
                f"the tokenizer of the encoder {config.model!r} knows {len(tokenizer)} tokens but the model embeds "
                f"only {model.vocab_size}; give a model with its own tokenizer"
            )
        longest = min(config.longest, getattr(model, "max_position_embeddings", None) or config.longest)
        self.ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
        self.pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
        self.device = device
        for row, ids in enumerate(self.ids):
            if len(ids) > longest:
                raise ModelError(
                    f"record {row} has {len(ids)} tokens for the encoder {config.model!r}, which reads {longest}; "
                    f"raise encoder.longest (now {config.longest}) as far as the model allows, or leave out "
                    "long columns"
                )

    def __call__(self, rows_B: Tensor, grid_BG: Tensor) -> dict[str, Tensor]:
        chosen = [self.ids[row] for row in rows_B.tolist()]
        longest = max(map(len, chosen))
        ids_BT = torch.tensor([ids + [self.pad_id] * (longest - len(ids)) for ids in chosen], device=self.device)
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in chosen], device=self.device)
        return {"encoder_ids_BT": ids_BT, "encoder_mask_BT": mask_BT}
