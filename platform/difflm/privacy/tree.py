"""A tree of joint counts: which columns go together, measured privately, and rows that are drawn from it.

Of a table with a target every column depends on the target and on one other column, without one on one other column
alone (a tree-augmented naive Bayes model, or a Chow-Liu tree). Edges are chosen by how far joint counts are from
what the target explains, as MST and AIM do (McKenna et al. 2021, 2022), then measured with Gaussian noise.

Shape legend: N rows, K codes of a column, G groups of a column, T groups of the target, P groups of the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm.privacy.columns import Codes, ColumnSummary, Floats
from difflm.privacy.measuring import Ledger, best_of, nearest_counts, noisy_counts, scale_of

GROUPS: Final = 16
TARGET_GROUPS: Final = 8
_TARGET_SHARE, _CHOICE_SHARE = 0.25, 0.15
PART: Final = "pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Codes of a column put together, and a group of its own for what is missing."""

    group_K: Codes
    missing: int | None
    sizes_G: Floats

    @classmethod
    def of(cls, summary: ColumnSummary, most: int) -> Groups:
        """Put neighbouring codes together until about equally many rows are in each of at most `most` groups."""
        most = most - 1 if summary.missing else most
        counts_K = summary.counts_K
        order_K = np.argsort(summary.positions_K(), kind="stable")
        group_K = np.zeros(len(counts_K), dtype=np.int64)
        if len(counts_K) <= most:
            group_K[order_K] = np.arange(len(counts_K))
        elif summary.kind == "category":
            group_K[order_K] = np.minimum(np.arange(len(counts_K)), most - 1)
        else:
            share, group, filled = counts_K.sum() / most, 0, 0.0
            for code in order_K:
                if filled and filled + counts_K[code] / 2 > share and group < most - 1:
                    group, filled = group + 1, 0.0
                group_K[code], filled = group, filled + counts_K[code]
        sizes = np.bincount(group_K, weights=counts_K).astype(np.float64)
        if not summary.missing:
            return cls(group_K=group_K, missing=None, sizes_G=sizes)
        return cls(group_K=group_K, missing=len(sizes), sizes_G=np.append(sizes, summary.missing))

    @property
    def count(self) -> int:
        """G."""
        return len(self.sizes_G)

    def of_codes(self, codes_N: Codes, present_N: npt.NDArray[np.bool_]) -> Codes:
        """Return the group of every row; -1 for a value that was not seen."""
        known = np.where(codes_N >= 0, self.group_K[np.maximum(codes_N, 0)], -1)
        return np.where(present_N, known, -1 if self.missing is None else self.missing)

    def draw(self, group_N: Codes, summary: ColumnSummary, random: np.random.Generator) -> Codes:
        """Draw a code of every group as often as the column has them; -1 for missing."""
        codes_N = np.full(len(group_N), -1, dtype=np.int64)
        for group in range(self.count):
            rows = np.flatnonzero(group_N == group)
            if group != self.missing and len(rows):
                inside = np.flatnonzero(self.group_K == group)
                codes_N[rows] = _spread(inside, summary.counts_K[inside], len(rows), random)
        return codes_N


def _spread(codes: Codes, weights: Floats, count: int, random: np.random.Generator) -> Codes:
    """Return codes in about the shares of their weights, at least one each where there is room, in random order."""
    shares = weights / weights.sum() if weights.sum() > 0 else np.full(len(codes), 1 / len(codes))
    places = (np.arange(count) + random.random()) / count
    return random.permutation(codes[np.minimum(np.searchsorted(shares.cumsum(), places), len(codes) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A column that depends on its parent and on the target: joint counts of shape (G, P, T). A root's P is 1."""

    child: int
    parent: int | None
    counts_GPT: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Columns in the order in which they are drawn; `target` first, where there is one."""

    groups: tuple[Groups, ...]
    target: int | None
    edges: tuple[Edge, ...]

    def draw(self, rows: int, random: np.random.Generator) -> list[Codes]:
        """Draw the group of every column, each (N,)."""
        drawn: list[Codes] = [np.zeros(rows, dtype=np.int64) for _ in self.groups]
        target_N = np.zeros(rows, dtype=np.int64)
        if self.target is not None:
            sizes = self.groups[self.target].sizes_G
            target_N = _spread(np.arange(len(sizes)), sizes, rows, random)
            drawn[self.target] = target_N
        for edge in self.edges:
            parent_N = np.zeros(rows, dtype=np.int64) if edge.parent is None else drawn[edge.parent]
            drawn[edge.child] = _conditional(edge.counts_GPT, parent_N, target_N, random)
        return drawn


def _conditional(counts_GPT: Floats, parent_N: Codes, target_N: Codes, random: np.random.Generator) -> Codes:
    """Draw children given parents and targets, in the shares of the joint counts."""
    totals_PT = counts_GPT.sum(axis=0)
    alone_G = counts_GPT.sum(axis=(1, 2))
    # A pair that the noise left without a count falls back on what the target says, then on the column alone.
    by_target_GT = counts_GPT.sum(axis=1)
    by_target_GT = np.where(by_target_GT.sum(axis=0) > 0, by_target_GT, alone_G[:, None])
    shares_GPT = np.where(totals_PT > 0, counts_GPT, by_target_GT[:, None, :])
    shares_GPT = shares_GPT / shares_GPT.sum(axis=0)
    drawn = np.zeros(len(parent_N), dtype=np.int64)
    for parent in range(shares_GPT.shape[1]):
        for target in range(shares_GPT.shape[2]):
            rows = np.flatnonzero((parent_N == parent) & (target_N == target))
            if len(rows):
                drawn[rows] = _spread(np.arange(len(alone_G)), shares_GPT[:, parent, target], len(rows), random)
    return drawn


def independent(groups: Sequence[Groups]) -> Tree:
    """Return the tree without a single pair: every column by itself."""
    edges = [
        Edge(child=place, parent=None, counts_GPT=each.sizes_G[:, None, None]) for place, each in enumerate(groups)
    ]
    return Tree(groups=tuple(groups), target=None, edges=tuple(edges))


def measure_tree(
    groups: Sequence[Groups], group_N: Sequence[Codes], *, target: int | None, rho: float, units: int, ledger: Ledger
) -> Tree:
    """Choose and measure a tree over columns whose rows are in these groups, (N,) each, -1 for none."""
    others = [place for place in range(len(groups)) if place != target]
    if len(groups) < 2 or rho <= 0:
        return independent(groups)
    targets = 1 if target is None else groups[target].count
    target_N = np.zeros(len(group_N[0]), dtype=np.int64) if target is None else group_N[target]
    with_target = _with_target(groups, group_N, others, target_N, targets, rho, units, ledger)
    if len(others) < 2:
        edges = [Edge(child=place, parent=None, counts_GPT=with_target[place][:, None, :]) for place in others]
        return Tree(groups=tuple(groups), target=target, edges=tuple(edges))
    rest = rho * (1 - _CHOICE_SHARE - (_TARGET_SHARE if targets > 1 else 0.0)) / (len(others) - 1)
    joint = _Joint(groups=groups, group_N=group_N, target_N=target_N, targets=targets)
    pairs = _chosen(joint, others, with_target, rho, scale_of(rest), ledger)
    first = others[0] if not pairs else pairs[0][0]
    edges = [Edge(child=first, parent=None, counts_GPT=with_target[first][:, None, :])]
    for parent, child in _directed(pairs, first):
        counts = joint.counts(child, parent)
        noisy = noisy_counts(counts.ravel(), rho=rest, part=PART, ledger=ledger).reshape(counts.shape)
        fitted = _raked(nearest_counts(noisy.astype(np.float64), units), with_target[child], with_target[parent])
        edges.append(Edge(child=child, parent=parent, counts_GPT=fitted))
    return Tree(groups=tuple(groups), target=target, edges=tuple(edges))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joint:
    """The private rows, by groups."""

    groups: Sequence[Groups]
    group_N: Sequence[Codes]
    target_N: Codes
    targets: int

    def counts(self, child: int, parent: int | None) -> Codes:
        """Count rows by (child, parent, target); rows with a value that was not seen are left out."""
        shape = (self.groups[child].count, 1 if parent is None else self.groups[parent].count, self.targets)
        parent_N = np.zeros_like(self.target_N) if parent is None else self.group_N[parent]
        seen = (self.group_N[child] >= 0) & (parent_N >= 0) & (self.target_N >= 0)
        flat = np.ravel_multi_index((self.group_N[child][seen], parent_N[seen], self.target_N[seen]), shape)
        return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def _with_target(
    groups: Sequence[Groups],
    group_N: Sequence[Codes],
    others: Sequence[int],
    target_N: Codes,
    targets: int,
    rho: float,
    units: int,
    ledger: Ledger,
) -> dict[int, Floats]:
    """Count each column's groups by the target, (G, T); without a target they are known already."""
    if targets == 1:
        return {place: nearest_counts(groups[place].sizes_G[:, None], units) for place in others}
    joint, found = _Joint(groups=groups, group_N=group_N, target_N=target_N, targets=targets), dict[int, Floats]()
    for place in others:
        counts = joint.counts(place, None)[:, 0, :]
        share = _TARGET_SHARE * rho / len(others)
        noisy = noisy_counts(counts.ravel(), rho=share, part=PART, ledger=ledger).reshape(counts.shape)
        found[place] = nearest_counts(noisy.astype(np.float64), units)
    return found


def _chosen(
    joint: _Joint,
    others: Sequence[int],
    with_target: dict[int, Floats],
    rho: float,
    noise: float,
    ledger: Ledger,
) -> list[tuple[int, int]]:
    """Choose pairs that make a tree, one after another, by how far their joint counts are from independence."""
    component, pairs = {place: place for place in others}, list[tuple[int, int]]()
    scores: dict[tuple[int, int], float] = {}
    for place, child in enumerate(others):
        for parent in others[:place]:
            first, second = with_target[child], with_target[parent]
            expected = first[:, None, :] * second[None, :, :] / np.maximum(first.sum(axis=0), 1e-9)
            distance = float(np.abs(joint.counts(child, parent) - expected).sum())
            scores[child, parent] = distance - noise * (2 / np.pi) ** 0.5 * expected.size
    while len(pairs) < len(others) - 1:
        apart = [pair for pair in scores if component[pair[0]] != component[pair[1]]]
        share = _CHOICE_SHARE * rho / (len(others) - 1)
        pair = apart[best_of([scores[each] for each in apart], rho=share, part=PART, ledger=ledger)]
        pairs.append(pair)
        old, new = component[pair[0]], component[pair[1]]
        component = {place: new if each == old else each for place, each in component.items()}
    return pairs


def _directed(pairs: Sequence[tuple[int, int]], first: int) -> list[tuple[int, int]]:
    """Return the pairs as (parent, child), parents before their children."""
    found, reached, rest = list[tuple[int, int]](), {first}, list(pairs)
    while rest:
        pair = next(each for each in rest if (each[0] in reached) != (each[1] in reached))
        rest.remove(pair)
        parent, child = pair if pair[0] in reached else pair[::-1]
        reached.add(child)
        found.append((parent, child))
    return found


def _raked(counts_GPT: Floats, child_GT: Floats, parent_PT: Floats) -> Floats:
    """Fit joint counts to those of child and parent by the target, which are better known."""
    for _ in range(20):
        for axis, wanted in ((1, child_GT), (0, parent_PT)):
            found = counts_GPT.sum(axis=axis)
            ratio = np.where(found > 0, wanted / np.maximum(found, 1e-12), 1.0)
            counts_GPT = counts_GPT * (ratio[:, None, :] if axis == 1 else ratio[None, :, :])
    return counts_GPT
