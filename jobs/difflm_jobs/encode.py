"""Stage `encode`: the posterior of every training row, as Parquet shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from difflm.records.record_schema import read_schema
from difflm.telemetry import JSON
from difflm_jobs.mapping import deliver_shards, run_shards
from difflm_jobs.stage import StageContext, StageOutcome

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

LATENTS = "latents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """Writes latents/part-*.parquet with index (int64), mean and log_variance (lists of float32)."""

    config: ExperimentConfig
    inputs: tuple[str, ...] = ("prepare", "fit-decoder", "train-autoencoder")
    name: str = "encode"
    version: int = 1
    output: str = "latents"

    def section(self) -> Mapping[str, JSON]:
        return {"rows_per_shard": self.config.runtime.encoding.rows_per_shard}

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.synthesis.workers import EncodeWorker

        rows = read_schema(context.input("prepare")).row_count
        args: dict[str, JSON] = {name: str(context.input(name).resolve()) for name in self.inputs}
        mapped = run_shards(context, rows=rows, worker=EncodeWorker, args=args, config=self.config.runtime.encoding)
        deliver_shards(context, mapped, LATENTS)
        return StageOutcome(
            compute_seconds=mapped.compute_seconds, peak_rss_mib=mapped.peak_rss_mib, facts={"rows": rows}
        )
