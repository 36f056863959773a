"""Boosted trees as plain arrays: read from XGBoost once, walked by numpy, kept in safetensors.

A bundle may come from anybody, so no library reads a model out of it.

Shape legend: F features, K nodes, T trees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from difflm.synthesis.critic.features import Floats, Integers

MOST_NODES = 4_000_000
MOST_DEPTH = 64
MOST_TREES = 4096
BELOW_ALL = -(2.0**120)
"""Less than any number of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """Regression trees whose values add up: a leaf is its own child, so that all are walked as deep as the deepest."""

    feature_K: Integers
    threshold_K: Floats
    child_2K: Integers
    missing_K: Floats
    value_K: Floats
    root_T: Integers
    depth: int

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Trees:
        """Read trees as XGBoost writes them in JSON."""
        parts: dict[str, list[npt.NDArray[Any]]] = {
            "feature": [],
            "threshold": [],
            "left": [],
            "right": [],
            "value": [],
        }
        missing, roots, deepest, start = [], [], 0, 0
        for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
            left, right = (np.array(tree[name], dtype=np.int64) for name in ("left_children", "right_children"))
            own, leaf = np.arange(len(left)), left < 0
            conditions = np.array(tree["split_conditions"], dtype=np.float32)
            parts["feature"].append(np.where(leaf, 0, np.array(tree["split_indices"], dtype=np.int64)))
            parts["threshold"].append(np.where(leaf, np.float32(0), conditions))
            parts["value"].append(np.where(leaf, conditions, np.float32(0)))
            parts["left"].append(start + np.where(leaf, own, left))
            parts["right"].append(start + np.where(leaf, own, right))
            # What is missing goes where the smallest or the largest number would.
            missing.append(np.where(np.array(tree["default_left"], dtype=bool), -np.inf, np.inf).astype(np.float32))
            roots.append(start)
            deepest = max(deepest, _depth(left, right))
            start += len(left)
        whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return cls(
            feature_K=whole["feature"],
            threshold_K=whole["threshold"],
            child_2K=np.stack([whole["left"], whole["right"]], axis=1).reshape(-1),
            missing_K=np.concatenate(missing),
            value_K=whole["value"],
            root_T=np.array(roots, dtype=np.int64),
            depth=deepest,
        )

    @classmethod
    def of_steps(cls, feature: int, edges: Floats, values: Floats, missing: float) -> Trees:
        """Return the tree that says `values[i]` from `edges[i - 1]` on and below `edges[i]`, `missing` where it is."""
        # What is missing is below all; the other leaves hang on a search by halves.
        nodes: list[tuple[float, int, int, float]] = [(BELOW_ALL, 1, 2, 0.0), (0.0, 1, 1, missing)]

        def grow(low: int, high: int) -> None:
            """Add a node for values[low:high]."""
            place, middle = len(nodes), (low + high) // 2
            if high - low == 1:
                nodes.append((0.0, place, place, float(values[low])))
                return
            nodes.append((float(edges[middle - 1]), place + 1, place + 2 * (middle - low), 0.0))
            grow(low, middle)
            grow(middle, high)

        grow(0, len(values))
        threshold_K, left_K, right_K, value_K = map(np.array, zip(*nodes, strict=True))
        return cls(
            feature_K=np.full(len(nodes), feature, dtype=np.int64),
            threshold_K=threshold_K.astype(np.float32),
            child_2K=np.stack([left_K, right_K], axis=1).reshape(-1).astype(np.int64),
            missing_K=np.full(len(nodes), -np.inf, dtype=np.float32),
            value_K=value_K.astype(np.float32),
            root_T=np.zeros(1, dtype=np.int64),
            depth=1 + math.ceil(math.log2(len(values))),
        )

    def __add__(self, other: Trees) -> Trees:
        """Return the trees of both."""
        nodes = len(self.value_K)
        return Trees(
            feature_K=np.concatenate([self.feature_K, other.feature_K]),
            threshold_K=np.concatenate([self.threshold_K, other.threshold_K]),
            child_2K=np.concatenate([self.child_2K, other.child_2K + nodes]),
            missing_K=np.concatenate([self.missing_K, other.missing_K]),
            value_K=np.concatenate([self.value_K, other.value_K]),
            root_T=np.concatenate([self.root_T, other.root_T + nodes]),
            depth=max(self.depth, other.depth),
        )

    def scaled(self, scale: float) -> Trees:
        """Return trees that say so many times as much."""
        return replace(self, value_K=(self.value_K * scale).astype(np.float32))

    def unbinned(self, edges: Sequence[Floats]) -> Trees:
        """Return the trees over numbers that are these over bins, whose edges are given for each feature.

        What is in a bin below the number t is below the edge that ends the bin before it.
        """
        threshold_K = self.threshold_K.copy()
        for feature, ends in enumerate(edges):
            of_K = (self.feature_K == feature) & (self.child_2K[::2] != np.arange(len(self.feature_K)))
            bin_K = np.ceil(self.threshold_K[of_K]).astype(np.int64) - 1
            threshold_K[of_K] = np.concatenate([ends, [np.inf]]).astype(np.float32)[np.clip(bin_K, 0, len(ends))]
        return replace(self, threshold_K=threshold_K)

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], *, features: int) -> Trees:
        """Take back what `tensors` returned. ValueError for what no trees are, such as a node that leads elsewhere."""
        whole = {name: tensors[name] for name in ("feature", "child", "root", "depth")}
        floats = {name: tensors[name] for name in ("threshold", "missing", "value")}
        if any(one.dtype != torch.int64 for one in whole.values()) or any(
            one.dtype != torch.float32 for one in floats.values()
        ):
            raise ValueError("numbers of other types")
        nodes, depth = len(floats["value"]), int(whole["depth"].reshape(()))
        shapes = {one.shape for one in (*floats.values(), whole["feature"])}
        if shapes != {(nodes,)} or whole["child"].shape != (2 * nodes,) or whole["root"].dim() != 1:
            raise ValueError("arrays of other sizes")
        if (
            len(whole["root"]) > MOST_TREES
            or not 0 < nodes <= MOST_NODES
            or not 0 <= depth <= MOST_DEPTH
            or not bool(floats["value"].isfinite().all())
        ):
            raise ValueError("too many nodes, or values that are no numbers")
        for name, below in (("feature", features), ("child", nodes), ("root", nodes)):
            if bool(((whole[name] < 0) | (whole[name] >= below)).any()):
                raise ValueError(f"{name} out of bounds")
        return cls(
            feature_K=whole["feature"].numpy(),
            threshold_K=floats["threshold"].numpy(),
            child_2K=whole["child"].numpy(),
            missing_K=floats["missing"].numpy(),
            value_K=floats["value"].numpy(),
            root_T=whole["root"].numpy(),
            depth=depth,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        arrays = {"feature": self.feature_K, "threshold": self.threshold_K, "child": self.child_2K}
        arrays |= {"missing": self.missing_K, "value": self.value_K, "root": self.root_T}
        made = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return {**made, "depth": torch.tensor([self.depth])}

    def __call__(self, row_F: Floats) -> float:
        """Return the sum of a row, whose missing values are NaN."""
        node_T = self.root_T
        for _ in range(self.depth):
            number_T = row_F.take(self.feature_K.take(node_T))
            number_T = np.where(np.isnan(number_T), self.missing_K.take(node_T), number_T)
            node_T = self.child_2K.take(2 * node_T + (number_T >= self.threshold_K.take(node_T)))
        return float(self.value_K.take(node_T).sum())


def _depth(left: Integers, right: Integers) -> int:
    depth, level = 0, [0]
    while level := [child for node in level for child in (left[node], right[node]) if left[node] >= 0]:
        depth += 1
    return depth
