"""Latents for the report's map: those of training rows from the artifact of `encode`, those of synthetic rows anew.

Only for compact models, whose encoder takes seconds on any machine; a report is not worth loading a large decoder for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from difflm.records.schema import RecordSchema
from difflm_jobs.stages.autoencoder import LATENTS

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_evaluators.columns.features import Float32Array
    from difflm_evaluators.scores.projection import Latents, ProjectionConfig


def report_latents(
    wanted: ProjectionConfig, folders: Mapping[str, Path], synthetic: pa.Table, schema: RecordSchema
) -> Latents:
    """Take the posterior means of rows drawn from both tables, as compact models give them.

    ``folders`` are those of the stages ``fit-decoder``, ``train-autoencoder`` and ``encode``.
    """
    import pyarrow.parquet as pq

    from difflm_evaluators.scores.projection import Latents

    random = np.random.default_rng(wanted.seed)
    encoded = pq.read_table(folders["encode"] / LATENTS, columns=["index", "mean"])
    real_M, synthetic_M = (_draw(len(table), wanted.max_points // 2, random) for table in (encoded, synthetic))
    chosen = encoded.take(real_M).combine_chunks()
    means = chosen.column("mean").combine_chunks()
    return Latents(
        real_rows_M=chosen.column("index").to_numpy().astype(np.int64),
        real_MZ=np.asarray(means.flatten(), dtype=np.float32).reshape(len(chosen), -1),
        synthetic_rows_M=synthetic_M,
        synthetic_MZ=_encode(folders, synthetic.take(synthetic_M), schema),
    )


def _draw(rows: int, most: int, random: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.sort(random.choice(rows, size=min(rows, most), replace=False)).astype(np.int64)


def _encode(folders: Mapping[str, Path], rows: pa.Table, schema: RecordSchema) -> Float32Array:
    """Compute (M, Z) posterior means, by the encoder of the autoencoder's artifact."""
    from difflm.models.autoencoder import AutoencoderShape
    from difflm.models.building import build_autoencoder
    from difflm.records.json_codec import JsonRecordCodec
    from difflm.synthesis.bundle import encode_table, load_trainable

    trained = folders["train-autoencoder"]
    shape = AutoencoderShape.model_validate_json((trained / "autoencoder.json").read_text())
    module, parts = build_autoencoder(shape, folders["fit-decoder"], schema)
    load_trainable(module, trained / "best.safetensors")
    module.eval()
    table = JsonRecordCodec(schema).normalize_table(rows).table
    posteriors = encode_table(module, parts, shape, table, schema)
    return np.concatenate([posterior.mean_BZ.numpy() for posterior in posteriors])
