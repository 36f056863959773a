"""Shard workers: latent extraction and synthesis of an index range, each writing its own output file."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from difflm.artifacts.dataset import JOB_NAME, Dataset, GivenUp, Shard, runs_of
from difflm.artifacts.storage import open_store
from difflm.errors import StorageError
from difflm.models.autoencoder import AutoencoderShape
from difflm.models.building import build_autoencoder
from difflm.models.precision import own_device
from difflm.records.files.source import SourceForm
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import read_schema
from difflm.records.splits import prepared_file
from difflm.synthesis.bundle import encode_table, load_trainable
from difflm.synthesis.draws import PRIVACY
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.plans.kept_cells import put_back
from difflm.synthesis.plans.request import PlanRequest
from difflm.synthesis.synthesizer import SamplingConfig, Screen
from difflm.telemetry import JSON

GIVEN_TABLE = "given.parquet"
KEPT_TABLE = "kept.parquet"
"""Beside it, where its gaps are filled in: its cells as they are written again (see `plans.kept_cells`)."""


class EncodeWorker:
    """Writes the posterior of training rows: index (int64), mean and log_variance (lists of float32).

    Arguments: `prepare`, `fit-decoder`, `train-autoencoder` (artifact folders) and `output` (as of `open_output`).
    """

    def __init__(self, args: dict[str, Any]) -> None:
        prepared, trained = Path(args["prepare"]), Path(args["train-autoencoder"])
        self.output = open_output(args["output"])
        self.schema = read_schema(prepared)
        self.table = pq.read_table(prepared_file(prepared, "train"), memory_map=True)
        self.shape = AutoencoderShape.model_validate_json((trained / "autoencoder.json").read_text())
        self.device = torch.device(own_device())
        self.module, self.parts = build_autoencoder(self.shape, Path(args["fit-decoder"]), self.schema)
        load_trainable(self.module, trained / "best.safetensors")
        self.module.to(self.device).eval()

    def run(self, shard: Shard) -> dict[str, JSON]:
        """Encode rows shard.start to shard.stop."""
        rows = self.table.slice(shard.start, shard.stop - shard.start)
        table = JsonRecordCodec(self.schema).normalize_table(rows).table
        means, log_variances = [], []
        for posterior in encode_table(self.module, self.parts, self.shape, table, self.schema, device=self.device):
            means.append(posterior.mean_BZ.cpu().numpy())
            log_variances.append(posterior.log_variance_BZ.cpu().numpy())
        latents = pa.table(
            {
                "index": np.arange(shard.start, shard.stop),
                "mean": _lists(np.concatenate(means)),
                "log_variance": _lists(np.concatenate(log_variances)),
            }
        )
        self.output.commit(shard.start, shard.stop, latents, account={})
        return {"rows": len(table)}


def _lists(matrix: Any) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.astype(np.float32).ravel()), matrix.shape[1])


class SynthesisWorker:
    """Draws records and writes them in the source's columns and spelling.

    Arguments: `bundle` (folder), `sampling` (a SamplingConfig as JSON), `plan` (a PlanRequest as JSON), `seed`,
    `output` (as of `open_output`) and, where the plan is about given records, `given` (the folder of their table).
    `precision` is what all workers of the job compute in; without it, what the device is fast in where the sampling
    leaves that open. A `screen` holds back valid records.
    """

    def __init__(self, args: dict[str, Any], screen: Screen | None = None) -> None:
        self.output = open_output(args["output"])
        sampling = SamplingConfig.model_validate(args["sampling"])
        precision = args.get("precision", sampling.precision)
        chosen = {"precision": precision, "allow_local_base": True}  # the driver has looked at the base, where it lay
        bundle = OpenBundle(Path(args["bundle"]), sampling.model_copy(update=chosen))
        given = pq.read_table(Path(args["given"]) / GIVEN_TABLE) if "given" in args else None
        kept = Path(args["given"]) / KEPT_TABLE if "given" in args else None
        self.kept = pq.read_table(kept) if kept is not None and kept.is_file() else None
        self.synthesizer = bundle.synthesizer(PlanRequest.model_validate(args["plan"]), given, screen=screen)
        self.seed = int(args["seed"])

    def run(self, shard: Shard) -> dict[str, JSON]:
        """Draw the records of indices shard.start to shard.stop; indices that have none within the attempts are given
        up and named.
        """
        started = time.perf_counter()
        drawn, account = self.synthesizer.draw_valid(range(shard.start, shard.stop), seed=self.seed)
        table = self.synthesizer.bundle.codec.table_of(record for _, record in drawn)
        if self.kept is not None:
            table = put_back(table, [index for index, _ in drawn], self.kept)
        reason = f"none of {self.synthesizer.attempts} draws was valid"
        if PRIVACY in account.rejections:
            reason += " and far enough from the training records"
        given_up = [GivenUp(start=start, stop=stop, reason=reason) for start, stop in runs_of(sorted(account.given_up))]
        facts: dict[str, JSON] = {
            "seed": self.seed,
            "precision": self.synthesizer.config.precision,
            "attempts": account.attempts,
            "rejections": dict(account.rejections),
            "seconds": round(time.perf_counter() - started, 3),
        }
        self.output.commit(shard.start, shard.stop, table, given_up=given_up, account=facts)
        return {"rows": len(table), "attempts": account.attempts, "rejections": dict(account.rejections)}


def open_output(args: Mapping[str, Any]) -> Dataset:
    """Open the dataset that a driver announced: its `url`, `format`, `safe_csv`, `form` and `fingerprint`.

    Raises:
        StorageError: on this machine the dataset is not there, or it is another one.
    """
    form = args.get("form")
    dataset = Dataset(
        store=open_store(args["url"]),
        format=args["format"],
        safe_csv=bool(args.get("safe_csv")),
        form=None if form is None else SourceForm.parsed_json(form, "form"),
    )
    job = dataset.read_json(JOB_NAME)
    if job is None or job.get("fingerprint") != args["fingerprint"]:
        raise StorageError(
            f"{dataset.store.shown}: node {platform.node()} does not see what the driver wrote there; give a folder on "
            "storage that all nodes share, or a URL such as s3://bucket/prefix"
        )
    return dataset
