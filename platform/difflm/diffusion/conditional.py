"""The conditional prior: a restriction of columns as one vector, and latents of records that satisfy it.

Condition bins: a restriction of columns as one vector of numbers, which is what a conditional denoiser reads.

Every column's codes are cut into bins: one per category, quantiles of training values for numbers and dates, and one
for a missing value. A bin's feature says how much of it is excluded: 0 nothing, 1 everything, and for a bin that the
restriction cuts, half the excluded share, so that a sliver left of a bin still differs from nothing. All zeros is no
condition.

Shape legend: F fields, K bins of one field, C features of all fields.

The conditional prior: latents of records that satisfy a restriction of their columns.

A denoiser that reads the restriction as features (`condition_bins`) learns E[x | x_sigma, values in their sets], so the
same sampler draws from p(z | restriction). It is a second set of weights: sampling without a condition never sees it.

Shape legend: B batch, Z latent size, C condition features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.artifacts.manifest import read_facts
from difflm.diffusion.edm import ConditionedDenoiser
from difflm.diffusion.priors import DiffusionPrior, SolverSettings, diffusion_prior
from difflm.errors import ModelError
from difflm.records.kinds.codes import Allowed, Restriction, whole_domain
from difflm.records.protection.rounding import rounded_edges
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    Field,
    IdentifierField,
    JsonField,
    RecordSchema,
    TextField,
)

QUANTILES = 64
ROWS_PER_BIN = 10
MAX_CATEGORIES = 128
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldBins:
    """Bin k of a field holds its codes edges[k] <= code < edges[k + 1]; `nullable` adds a bin for missing values."""

    name: str
    edges: tuple[int, ...]
    nullable: bool
    ordered: bool

    @property
    def count(self) -> int:
        return len(self.edges) - 1

    @property
    def features(self) -> int:
        return self.count + self.nullable

    def excluded(self, allowed: Allowed) -> list[float]:
        """Return the features of this field."""
        shares = [_overlap(allowed, low, high) / (high - low) for low, high in pairwise(self.edges)]
        return [_feature(share) for share in shares] + ([0.0 if allowed.null else 1.0] if self.nullable else [])


def _overlap(allowed: Allowed, low: int, high: int) -> int:
    return sum(max(0, min(high, last + 1) - max(low, first)) for first, last in allowed.codes.spans)


def _feature(share: float) -> float:
    return 1.0 if share <= 0 else 0.0 if share >= 1 else (1.0 - share) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionBins:
    """The bins of all fields, in the order of the schema."""

    fields: tuple[FieldBins, ...]

    @classmethod
    def fit(cls, schema: RecordSchema, codes_NF: FloatArray) -> ConditionBins:
        """Bins of a training split given as codes, NaN where a value is missing.

        The edges go into the bundle, so they are values of at least ROWS_PER_BIN training rows or quantiles that far
        apart, rounded: they say little about single rows.
        """
        fields = (_fit_field(field, codes_NF[:, place]) for place, field in enumerate(schema.fields))
        return cls(fields=tuple(fields))

    @property
    def size(self) -> int:
        """C."""
        return sum(field.features for field in self.fields)

    def features(self, restriction: Restriction) -> Tensor:
        """Return the vector of a restriction, shape (C,)."""
        parts: list[float] = []
        for field in self.fields:
            allowed = restriction.get(field.name)
            parts += [0.0] * field.features if allowed is None else field.excluded(allowed)
        return torch.tensor(parts)

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"name": f.name, "edges": list(f.edges), "nullable": f.nullable, "ordered": f.ordered} for f in self.fields
        ]

    @classmethod
    def from_json(cls, facts: Sequence[Mapping[str, Any]]) -> ConditionBins:
        for f in facts:
            edges = f["edges"]
            if not isinstance(f["name"], str) or not all(type(edge) is int for edge in edges) or len(edges) < 2:
                raise ValueError(f"bins of {f['name']!r} are none")
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError(f"bins of {f['name']!r} do not ascend")
        return cls(
            fields=tuple(
                FieldBins(name=f["name"], edges=tuple(f["edges"]), nullable=f["nullable"], ordered=f["ordered"])
                for f in facts
            )
        )


def _fit_field(field: Field, codes_N: FloatArray) -> FieldBins:
    low, high = whole_domain(field).codes.spans[0][0], whole_domain(field).codes.spans[-1][1]
    closed = (CategoricalField, BooleanField, ConstantField, TextField, CodeField, IdentifierField, JsonField)
    ordered = not isinstance(field, closed) or (isinstance(field, CategoricalField) and field.ordered)
    if ordered:
        edges = _quantile_edges(codes_N[~np.isnan(codes_N)], low, high)
    else:
        own = min(high, low + MAX_CATEGORIES - 2)  # the commonest categories; the rest share the last bin
        edges = [*range(low, own + 1), *([own + 1] if high > own else []), high + 1]
    return FieldBins(name=field.name, edges=tuple(edges), nullable=field.nullable, ordered=ordered)


def _quantile_edges(codes_M: FloatArray, low: int, high: int) -> list[int]:
    """Distinct quantiles; a value that many rows share has a bin of its own, and so has every value with rows enough
    where there are few different ones.
    """
    bins = min(QUANTILES, max(1, len(codes_M) // ROWS_PER_BIN))
    quantiles = np.unique(np.quantile(codes_M, np.linspace(0, 1, bins + 1)[:-1]).astype(np.int64)).tolist()
    edges = {int(edge) for edge in rounded_edges(quantiles)}
    values, counts = np.unique(codes_M, return_counts=True)
    enough = ROWS_PER_BIN if len(values) <= MAX_CATEGORIES else len(codes_M) / bins
    for value in values[counts >= enough].tolist():
        edges |= {int(value), int(value) + 1}
    return [low, *sorted(edge for edge in edges if low < edge <= high), high + 1]


FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalPrior:
    """p(z | restriction), sampled as a deterministic function of noise."""

    prior: DiffusionPrior
    bins: ConditionBins

    @property
    def noise_size(self) -> int:
        return self.prior.noise_size

    def sample(self, noise_BZ: Tensor, condition_BC: Tensor) -> Tensor:
        """Latents of shape (B, Z), row b under the condition of row b."""
        denoiser = ConditionedDenoiser(denoiser=self.prior.denoiser, condition_BC=condition_BC)
        return self.prior.sample_by(denoiser, noise_BZ)


def save_conditional(
    directory: Path, facts: Mapping[str, Any], bins: ConditionBins, tensors: Mapping[str, Tensor]
) -> None:
    """Write conditional.safetensors, then conditional.json; `facts` are the network's sizes."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(kept, directory / "conditional.safetensors")
    described = {"format_version": FORMAT_VERSION, **facts, "bins": bins.to_json()}
    (directory / "conditional.json").write_text(json.dumps(described, indent=2))


def load_conditional(
    directory: Path,
    solver: SolverSettings,
    *,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> ConditionalPrior:
    """Return the conditional prior of a directory. Raises ModelError naming the file."""
    path, weights = directory / "conditional.json", directory / "conditional.safetensors"
    facts = read_facts(
        path, version=FORMAT_VERSION, what="conditional prior", remedy="train the conditional prior again"
    )
    try:
        bins, tensors = ConditionBins.from_json(facts["bins"]), load_file(weights, device=str(device))
        prior = diffusion_prior(facts, tensors, solver, torch.device(device), precision, conditions=bins.size)
    except (OSError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{weights}: not the weights that {path.name} describes ({reason}); train it again") from error
    return ConditionalPrior(prior=prior, bins=bins)
