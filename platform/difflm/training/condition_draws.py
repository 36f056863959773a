"""Drawing training examples of conditions: a random restriction, and a row that satisfies it.

A denoiser learns E[x | x_sigma, restriction] when every row it sees under a restriction is a uniform draw among the
rows that satisfy it. Two ways keep that exact, whatever the restrictions' own distribution:

- one column, the anchor, gets a random set first, and the row is drawn from the rows inside it. Rare values can so be
  shown far more often than they occur;
- every further column gets a random partition of its values that knows nothing of the row, and the part of it that the
  row falls into.

Shape legend: B batch, N rows, M of them with a value, K bins of one field, C features of all fields.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from difflm.diffusion.conditional import ConditionBins, FieldBins, FloatArray

SINGLE_SHARE = 0.7
RARE_POWER = 1 / 3  # of a bin's rows, is how often it is the anchor: rare ones far more than they occur
NARROWEST = 0.003


class FieldDraws(Protocol):
    """Random sets of one column's values, as features of shape (B, K)."""

    def anchor(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` rows (B,) drawn from as many random sets, and the sets' features."""
        ...

    def cell(self, rows_B: Tensor, generator: torch.Generator) -> Tensor:
        """Features of that part of a random partition, one per row, which the row is in."""
        ...


class CategoryDraws:
    """Sets of bins: one bin, or a random half of them."""

    def __init__(self, bin_N: Tensor, count: int) -> None:
        self.bin_N, self.count = bin_N, count
        self.order_N = torch.argsort(bin_N, stable=True)
        self.counts_K = torch.bincount(bin_N, minlength=count)
        self.starts_K = self.counts_K.cumsum(0) - self.counts_K

    def anchor(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        bin_B = torch.multinomial(self.counts_K.double().pow(RARE_POWER), count, replacement=True, generator=generator)
        place_B = (torch.rand(count, generator=generator, dtype=torch.float64) * self.counts_K[bin_B]).long()
        rows_B = self.order_N[self.starts_K[bin_B] + place_B]
        natural_B = torch.rand(count, generator=generator) >= SINGLE_SHARE
        rows_B = torch.where(natural_B, torch.randint(len(self.bin_N), (count,), generator=generator), rows_B)
        sets_BK = torch.where(natural_B[:, None], self._half(rows_B, generator), self._single(rows_B))
        return rows_B, sets_BK

    def cell(self, rows_B: Tensor, generator: torch.Generator) -> Tensor:
        single_B1 = torch.rand(len(rows_B), 1, generator=generator) < SINGLE_SHARE
        return torch.where(single_B1, self._single(rows_B), self._half(rows_B, generator))

    def _single(self, rows_B: Tensor) -> Tensor:
        return 1.0 - torch.nn.functional.one_hot(self.bin_N[rows_B], self.count).float()

    def _half(self, rows_B: Tensor, generator: torch.Generator) -> Tensor:
        """Each bin falls to one side or the other with odds of its own draw; the row's side is the set."""
        odds_B1 = torch.rand(len(rows_B), 1, generator=generator)
        side_BK = torch.rand(len(rows_B), self.count, generator=generator) < odds_B1
        own_B1 = side_BK.gather(1, self.bin_N[rows_B][:, None])
        return (side_BK != own_B1).float()


class NumberDraws:
    """Intervals between two values, what lies outside of one, and missing values on either side."""

    def __init__(self, code_N: Tensor, bins: FieldBins) -> None:
        self.code_N, self.nullable = code_N, bins.nullable
        edges_K = torch.tensor(bins.edges, dtype=torch.float64)
        self.low_K, self.high_K = edges_K[:-1], edges_K[1:]
        self.present = int((~code_N.isnan()).sum())
        ordered = torch.sort(code_N)  # missing values, NaN, come last
        self.sorted_M, self.order_N = ordered.values[: self.present].contiguous(), ordered.indices

    def anchor(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        low_B, high_B = self._interval(count, generator)
        first_B = torch.searchsorted(self.sorted_M, low_B)
        after_B = torch.searchsorted(self.sorted_M, high_B, right=True)
        # Without a missing value in training no share of the draws goes to it.
        missing_B = torch.rand(count, generator=generator) < (0.1 if self.present < len(self.code_N) else 0.0)
        first_B = torch.where(missing_B, self.present, first_B)
        after_B = torch.where(missing_B, len(self.code_N), after_B)
        place_B = (torch.rand(count, generator=generator, dtype=torch.float64) * (after_B - first_B)).long()
        high_B = torch.where(missing_B, low_B - 1, high_B)
        return self.order_N[first_B + place_B], self._features(low_B, high_B, outside_B=None, null_B=missing_B)

    def cell(self, rows_B: Tensor, generator: torch.Generator) -> Tensor:
        count, own_B = len(rows_B), self.code_N[rows_B]
        low_B, high_B = self._interval(count, generator)
        single_B = torch.rand(count, generator=generator) < SINGLE_SHARE / 2
        missing_B = own_B.isnan()
        low_B, high_B = (torch.where(single_B & ~missing_B, own_B, bound) for bound in (low_B, high_B))
        outside_B = (own_B < low_B) | (own_B > high_B)
        joined_B = torch.rand(count, generator=generator) < 0.3  # missing values go with those of the interval
        alone_B = missing_B & ~joined_B
        high_B = torch.where(alone_B, low_B - 1, high_B)
        null_B = missing_B | (joined_B & ~outside_B & ~single_B)
        return self._features(low_B, high_B, outside_B=outside_B, null_B=null_B)

    def _interval(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Values at two ranks: widths of every order, at the low end, the high end or between."""
        draws_3B = torch.rand(3, count, generator=generator, dtype=torch.float64)
        width_B = (draws_3B[0] * math.log(NARROWEST)).exp()
        place_B = (draws_3B[1] * 2.0 - 0.5).clamp(0.0, 1.0)  # a quarter of them at each end
        last = self.present - 1
        low_B = (place_B * (1.0 - width_B) * last).round().long()
        high_B = ((place_B * (1.0 - width_B) + width_B) * last).round().long()
        return self.sorted_M[low_B], self.sorted_M[high_B]

    def _features(self, low_B: Tensor, high_B: Tensor, *, outside_B: Tensor | None, null_B: Tensor) -> Tensor:
        first_BK = torch.maximum(low_B[:, None], self.low_K)
        # Beyond 2**53 adding 1 changes nothing.
        after_B = torch.maximum(high_B + 1.0, torch.nextafter(high_B, torch.full_like(high_B, math.inf)))
        after_BK = torch.minimum(after_B[:, None], self.high_K)
        share_BK = ((after_BK - first_BK) / (self.high_K - self.low_K).clamp(min=1.0)).clamp(0.0, 1.0)
        if outside_B is not None:
            share_BK = torch.where(outside_B[:, None], 1.0 - share_BK, share_BK)
        features_BK = torch.where(share_BK <= 0.0, 1.0, (1.0 - share_BK) / 2.0).float()
        return torch.cat([features_BK, (~null_B)[:, None].float()], dim=1) if self.nullable else features_BK


class ConditionDraws:
    """Training examples for all columns of a table."""

    def __init__(self, bins: ConditionBins, codes_NF: FloatArray) -> None:
        self.size, self.rows = bins.size, len(codes_NF)
        self.fields: list[FieldDraws] = []
        self.places: list[slice] = []
        start = 0
        for place, field in enumerate(bins.fields):
            if field.features > 1:  # a column of one value has nothing to ask for
                self.fields.append(_field_draws(field, codes_NF[:, place]))
                self.places.append(slice(start, start + field.features))
            start += field.features

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` rows (B,) and the features (B, C) of restrictions that they satisfy."""
        features_BC = torch.zeros(count, self.size)
        if not self.fields:
            return torch.randint(self.rows, (count,), generator=generator), features_BC
        anchor_B = torch.randint(len(self.fields), (count,), generator=generator)
        rows_B = torch.empty(count, dtype=torch.long)
        for place, field in enumerate(self.fields):
            (mine_M,) = torch.nonzero(anchor_B == place, as_tuple=True)
            if len(mine_M) == 0:
                continue
            rows_B[mine_M], features_BC[mine_M, self.places[place]] = field.anchor(len(mine_M), generator)
        further_BF = self._further(count, generator)
        for place, field in enumerate(self.fields):
            (mine_M,) = torch.nonzero(further_BF[:, place] & (anchor_B != place), as_tuple=True)
            features_BC[mine_M, self.places[place]] = field.cell(rows_B[mine_M], generator)
        return rows_B, features_BC

    def _further(self, count: int, generator: torch.Generator) -> Tensor:
        """Which columns beside the anchor are restricted: none for 40 % of the rows, one or two, or any number."""
        kind_B1, share_B1 = torch.rand(2, count, 1, generator=generator)
        few = min(1.0, 1.5 / max(1, len(self.fields) - 1))
        share_B1 = torch.where(kind_B1 < 0.4, 0.0, torch.where(kind_B1 < 0.75, few, share_B1))
        return torch.rand(count, len(self.fields), generator=generator) < share_B1


def _field_draws(field: FieldBins, codes_N: FloatArray) -> FieldDraws:
    missing_N = np.isnan(codes_N)
    if field.ordered:
        if not missing_N.all():
            return NumberDraws(torch.from_numpy(np.ascontiguousarray(codes_N)), field)
        return CategoryDraws(torch.full((len(codes_N),), field.count), field.features)
    bins_N = np.searchsorted(np.asarray(field.edges, dtype=np.float64), codes_N, side="right") - 1
    return CategoryDraws(torch.from_numpy(np.where(missing_N, field.count, bins_N)), field.features)
