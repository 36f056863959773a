"""Stage `synthesize`: rows from a bundle, in shards, with an account of every draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.artifacts import write_json_atomic
from difflm.errors import SynthesisError
from difflm.records.record_schema import read_schema
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.evaluate import ACCOUNT, SHARDS
from difflm_jobs.export import export
from difflm_jobs.mapping import Mapped, deliver_shards, run_shards
from difflm_jobs.stage import StageContext, StageOutcome

if TYPE_CHECKING:
    from difflm.synthesis.synthesizer import SamplingConfig
    from difflm_jobs.config import ExperimentConfig, MapConfig

CSV_NAME = "synthetic.csv"
CSV_MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesize:
    """Writes shards/part-*.parquet, account.json and, up to a million rows, synthetic.csv."""

    config: ExperimentConfig
    inputs: tuple[str, ...] = ("assemble",)
    name: str = "synthesize"
    version: int = 1
    output: str = "synthetic"

    def section(self) -> Mapping[str, JSON]:
        return {
            "sampling": self.config.sampling.model_dump(mode="json"),
            "rows": self.config.rows,
            "rows_per_shard": self.config.runtime.synthesis.rows_per_shard,
            "seed": self.config.seed,
        }

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        bundle = context.input("assemble")
        rows = self.config.rows or read_schema(bundle).row_count
        seed = derive_seed(self.config.seed, self.name) >> 1  # below 2**63, like the seeds of `difflm synthesize`
        mapped = draw_rows(
            context, bundle, rows=rows, seed=seed, sampling=self.config.sampling, pool=self.config.runtime.synthesis
        )
        deliver_shards(context, mapped, SHARDS)
        account = account_of(mapped, rows)
        write_json_atomic(context.output / ACCOUNT, account)
        if rows <= CSV_MOST_ROWS:
            export(context.output / SHARDS, context.output / CSV_NAME)
        return StageOutcome(
            compute_seconds=mapped.compute_seconds,
            peak_rss_mib=mapped.peak_rss_mib,
            facts={key: account[key] for key in ("rows_asked", "rows_emitted", "attempts", "rejections")},
        )


def draw_rows(
    context: StageContext, bundle: Path, *, rows: int, seed: int, sampling: SamplingConfig, pool: MapConfig
) -> Mapped:
    """Draw rows 0 ... rows - 1 of a bundle on the cluster, into the work folder's shards.

    Raises:
        SynthesisError: not one draw was valid.
    """
    from difflm.synthesis.workers import SynthesisWorker

    args: dict[str, JSON] = {
        "bundle": str(bundle.resolve()),
        "sampling": sampling.model_dump(mode="json"),
        "seed": seed,
    }
    mapped = run_shards(context, rows=rows, worker=SynthesisWorker, args=args, config=pool)
    if mapped.total("rows") == 0:
        reasons = account_of(mapped, rows)["rejections"]
        raise SynthesisError(f"{bundle}: none of {mapped.total('attempts')} draws was valid ({reasons}); train longer")
    return mapped


def account_of(mapped: Mapped, rows: int) -> dict[str, JSON]:
    """What became of all draws: rows asked and emitted, attempts, rejections by reason, and the indices given up."""
    rejections: Counter[str] = Counter()
    for account in mapped.accounts.values():
        rejections.update(account["rejections"])
    return {
        "rows_asked": rows,
        "rows_emitted": mapped.total("rows"),
        "attempts": mapped.total("attempts"),
        "rejections": dict(rejections),
        "given_up": [index for account in mapped.accounts.values() for index in account["given_up"]],
    }
