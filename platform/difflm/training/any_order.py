"""Records in any order: the fields of a batch's records written in other orders than the table's.

Shape legend: B records, T tokens, F fields.

A record is segments, each a field's own text and its value, and the text behind all. Where the own texts are single
tokens, no two alike, the order of the segments can be changed and is still readable. A decoder that is fitted on
records whose segments stand in any order can be given any cells first, and writes the others as they follow from these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflm.records.tokenization import RecordTokenizer

FEW = 3
"""Conditions name this many fields at most, as a rule."""


def opening_tokens(tokenizer: RecordTokenizer) -> Tensor | None:
    """Return the token that each field begins with, shape (F,); None where a field has none of its own."""
    return None if tokenizer.opening_ids is None else torch.tensor(tokenizer.opening_ids)


def fields_of(ids_BT: Tensor, lengths_B: Tensor, opening_F: Tensor) -> Tensor:
    """Return the field of every token, shape (B, T): F for the text behind all, F + 1 for padding."""
    fields = len(opening_F)
    place_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    field_BT = torch.isin(ids_BT, opening_F).long().cumsum(dim=1) - 1
    last_B1 = lengths_B[:, None] - 1
    return torch.where(place_T < last_B1, field_BT, torch.where(place_T == last_B1, fields, fields + 1))


def counted_tokens(ids_BT: Tensor, lengths_B: Tensor, opening_F: Tensor | None) -> Tensor:
    """Say which tokens a decoder has to predict, shape (B, T): not those that only tell which field follows."""
    counted_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
    return counted_BT if opening_F is None else counted_BT & ~torch.isin(ids_BT, opening_F)


def reorder(ids_BT: Tensor, lengths_B: Tensor, opening_F: Tensor, rank_BF: Tensor) -> Tensor:
    """Return the same tokens with the fields of every record in the order of their ranks (B, F), whole numbers."""
    fields = len(opening_F)
    field_BT = fields_of(ids_BT, lengths_B, opening_F)
    behind_B2 = rank_BF.new_tensor([fields, fields + 1]).expand(len(rank_BF), 2)
    key_BT = torch.cat([rank_BF, behind_B2], dim=1).gather(1, field_BT)
    return ids_BT.gather(1, torch.argsort(key_BT, dim=1, stable=True))


def draw_ranks(count: int, fields: int, generator: torch.Generator) -> Tensor:
    """Draw the ranks (B, F) of the fields of records that are not in the table's order.

    Some fields come first, few of them in half of the records and any number in the other half, in an order of their
    own; then the rest as in the table.
    """
    few_B = torch.rand(count, generator=generator) < 0.5
    part_B = torch.where(
        few_B,
        torch.randint(1, FEW + 1, (count,), generator=generator) / fields,
        torch.rand(count, generator=generator),
    )
    first_BF = torch.rand(count, fields, generator=generator) < part_B[:, None]
    drawn_BF = torch.where(first_BF, torch.rand(count, fields, generator=generator), 1.0 + torch.arange(fields))
    return drawn_BF.argsort(dim=1, stable=True).argsort(dim=1, stable=True)


def placed_first(ranks_BF: Tensor, field_B: Tensor) -> Tensor:
    """Return the ranks with one field of every record moved to the front."""
    return ranks_BF.scatter(1, field_B[:, None], -1).argsort(dim=1, stable=True).argsort(dim=1, stable=True)


RARE_POWER = 1 / 3
"""Of a value's rows, is how often it stands first: rare ones far more than they occur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RareFirst:
    """Rows that are drawn for the value of one field, which then stands first: rare values more often than they occur.

    Whatever rows are drawn for it, given this value the other fields are distributed as in the table. So the decoder
    learns what follows from rare values, as long as it is not taught the first value itself by such rows.
    """

    order_FN: Tensor
    starts_FC: Tensor
    counts_FC: Tensor

    @classmethod
    def of(cls, class_NF: Tensor) -> RareFirst:
        """Sort rows by the class of every field, (N, F)."""
        class_FN = class_NF.T.cpu()
        classes = int(class_FN.max()) + 1
        counts_FC = torch.stack([torch.bincount(class_N, minlength=classes) for class_N in class_FN])
        return cls(
            order_FN=class_FN.argsort(dim=1, stable=True),
            starts_FC=counts_FC.cumsum(dim=1) - counts_FC,
            counts_FC=counts_FC,
        )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw fields (B,), and a row for the class of each that was drawn (B,)."""
        field_B = torch.randint(len(self.order_FN), (count,), generator=generator)
        weight_BC = self.counts_FC[field_B].double().pow(RARE_POWER) * (self.counts_FC[field_B] > 0)
        class_B = torch.multinomial(weight_BC, 1, generator=generator).squeeze(1)
        place_B = torch.rand(count, generator=generator, dtype=torch.float64) * self.counts_FC[field_B, class_B]
        return field_B, self.order_FN[field_B, self.starts_FC[field_B, class_B] + place_B.long()]
