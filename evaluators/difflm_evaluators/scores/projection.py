"""A map of real and synthetic rows in the plane, coloured by the target: what lies together, what is missing.

t-SNE (van der Maaten and Hinton 2008) of equally many real and synthetic points, from a PCA start with a fixed seed.
The points are the generator's latents where it gives them, otherwise the rows themselves as points of `embedding`. A
map shows neighbourhoods only: neither distances between heaps nor their sizes mean anything. It is no score.

Shapes: N rows, D dimensions.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import MAX_CELLS, Column, Columns, FloatArray, IntArray, row_count, take_rows
from difflm_evaluators.columns.features import Embedding, Float32Array, target_labels

FEWEST = 10
MAX_GROUPS = 6
PCA_WIDTH = 50
DECIMALS = 2


class ProjectionConfig(BaseModel):
    """At most `max_points`, half of them synthetic, drawn with `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: NonNegativeInt = 0
    max_points: Annotated[int, Field(ge=2 * FEWEST)] = 1_500
    perplexity: PositiveInt = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """Latents of some rows of each table: which rows (M,), and their latents (M, Z); float32."""

    real_rows_M: IntArray
    real_MZ: Float32Array
    synthetic_rows_M: IntArray
    synthetic_MZ: Float32Array


def evaluate_projection(
    synthetic: Columns, train: Columns, target: str | None, latents: Latents | None, config: ProjectionConfig
) -> Evaluation:
    """Place both tables' points in the plane and the group of each; without details where there are too few."""
    random = np.random.default_rng(config.seed)
    rows = [np.arange(row_count(table)) for table in (train, synthetic)]
    if latents is not None:
        rows = [latents.real_rows_M, latents.synthetic_rows_M]
    each = min(config.max_points // 2, *map(len, rows))
    chosen = [np.sort(random.choice(len(part), size=each, replace=False)) for part in rows]
    taken = [
        take_rows(table, part[places]) for table, part, places in zip((train, synthetic), rows, chosen, strict=True)
    ]
    if latents is not None:
        points_ND = np.concatenate([latents.real_MZ[chosen[0]], latents.synthetic_MZ[chosen[1]]])
    else:
        embedding = Embedding.fit(train, [synthetic])
        if not 0 < embedding.width <= MAX_CELLS // (2 * max(1, each)):
            return Evaluation(name="projection", scores=())
        points_ND = np.concatenate([embedding.points(table) for table in taken])
    if each < FEWEST:
        return Evaluation(name="projection", scores=())
    names, group_N = _groups([table[target] for table in taken] if target is not None else None, 2 * each)
    plane_N2 = project(points_ND.astype(np.float64), config)
    details: dict[str, JSON] = {
        "space": "rows" if latents is None else "latents",
        "dimensions": points_ND.shape[1],
        "groups": list(names),
        "real": _points(plane_N2[:each], group_N[:each]),
        "synthetic": _points(plane_N2[each:], group_N[each:]),
    }
    return Evaluation(name="projection", scores=(), details=details)


def project(points_ND: FloatArray, config: ProjectionConfig) -> FloatArray:
    """Compute (N, 2) by t-SNE: the same points and seed give the same map on one machine."""
    from sklearn.decomposition import PCA  # slow to import
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    spread_D = points_ND.std(axis=0)
    points_ND = points_ND[:, spread_D > 0]
    if points_ND.shape[1] < 2 or len(np.unique(points_ND, axis=0)) < FEWEST:
        padded_ND = np.concatenate([points_ND, np.zeros((len(points_ND), 2))], axis=1)
        return padded_ND[:, :2]
    with threadpool_limits(limits=1):
        if points_ND.shape[1] > PCA_WIDTH and len(points_ND) > PCA_WIDTH:
            points_ND = PCA(PCA_WIDTH, random_state=config.seed).fit_transform(points_ND)
        perplexity = min(float(config.perplexity), (len(points_ND) - 1) / 3)
        model = TSNE(perplexity=perplexity, init="pca", random_state=config.seed, max_iter=500, n_jobs=1)
        plane_N2: FloatArray = model.fit_transform(points_ND).astype(np.float64)
    return plane_N2


def _points(plane_N2: FloatArray, group_N: IntArray) -> list[JSON]:
    """Return [x, y, group] of each point."""
    places = np.round(plane_N2, DECIMALS).tolist()
    return [[x, y, group] for (x, y), group in zip(places, group_N.tolist(), strict=True)]


def _groups(columns: list[Column] | None, rows: int) -> tuple[list[str], IntArray]:
    """Name at most six groups and the group of each row, real rows first: classes, or thirds of real numbers."""
    if columns is None:
        return ["rows"], np.zeros(rows, dtype=np.int64)
    if columns[0].kind == "numeric" and len(np.unique(columns[0].present)) > MAX_GROUPS:
        return _thirds(columns)
    labels = [label for column in columns for label in target_labels(column)]
    present, counts = np.unique([label for label in labels if label is not None], return_counts=True)
    names = [str(name) for name in present[np.argsort(-counts, kind="stable")]]
    kept = names if len(names) <= MAX_GROUPS else names[: MAX_GROUPS - 1]
    groups = [kept.index(label) if label in kept else len(kept) for label in labels]
    return (kept if max(groups) < len(kept) else [*kept, "others"]), np.array(groups, dtype=np.int64)


def _thirds(columns: list[Column]) -> tuple[list[str], IntArray]:
    real, other = columns
    present = real.present if len(real.present) else np.zeros(1)
    cuts = np.quantile(present, [1 / 3, 2 / 3])
    numbers_N = np.concatenate([real.numbers_N, other.numbers_N])
    group_N = np.where(np.isnan(numbers_N), 3, np.digitize(numbers_N, cuts, right=True))
    names = [f"≤ {cuts[0]:.6g}", f"to {cuts[1]:.6g}", f"> {cuts[1]:.6g}", "missing"]
    return names[: int(group_N.max()) + 1], group_N.astype(np.int64)
