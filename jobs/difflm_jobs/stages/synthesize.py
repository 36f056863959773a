"""Stages `assemble` and `synthesize`: the bundle, and rows from it in shards with an account of every draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from difflm.artifacts import write_json_atomic
from difflm.artifacts.manifest import BUNDLE_KIND
from difflm.errors import SynthesisError
from difflm.extras import has_extra
from difflm.records.files.source import SourceForm
from difflm.records.schema import read_schema
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.pipeline.mapping import account_of, deliver_shards, export, run_shards
from difflm_jobs.pipeline.runlog import counted
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.stages.evaluate import ACCOUNT, SHARDS
from difflm_jobs.stages.prior import STAGE as CONDITIONAL

if TYPE_CHECKING:
    from difflm.synthesis.calibration import CalibrationConfig
    from difflm.synthesis.critic.fit import CriticConfig
    from difflm.synthesis.synthesizer import SamplingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble:
    """Puts decoder, autoencoder and prior together, and the conditional prior where there is one; calibrates the whole,
    and then fits the critic of its draws.

    `calibration` and `critic` are None where no decoder could be corrected.
    """

    conditional: bool = False
    calibration: CalibrationConfig | None = None
    critic: CriticConfig | None = None
    least_rows: int = 1
    seed: int = 0
    name: ClassVar[str] = "assemble"
    version: ClassVar[int] = 4
    output: ClassVar[str] = BUNDLE_KIND

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the stages that a bundle is made of."""
        stages = ("prepare", "fit-decoder", "train-autoencoder", "train-diffusion")
        return (*stages, CONDITIONAL) if self.conditional else stages

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.synthesis.bundle import assemble_bundle

        context.report(0, None, "copying")
        assemble_bundle(
            context.output,
            prepared=context.input("prepare"),
            decoder=context.input("fit-decoder"),
            autoencoder=context.input("train-autoencoder"),
            prior=context.input("train-diffusion"),
            conditional=context.input(CONDITIONAL) if self.conditional else None,
        )
        return StageOutcome(facts={**self._calibrated(context), **self._judged(context)})

    def _calibrated(self, context: StageContext) -> dict[str, JSON]:
        from difflm.synthesis.calibration import calibrate_bundle
        from difflm.training.record_data import read_split

        if self.calibration is None or self.calibration.rows == 0:
            return {}
        calibrated = calibrate_bundle(
            context.output,
            read_split(context.input("prepare"), "train", read_schema(context.output)),
            self.calibration,
            seed=derive_seed(self.seed, self.name) >> 1,
            least_rows=self.least_rows,
            report=lambda done, of: context.report(done, of, "calibrating"),
        )
        return {"calibrated": calibrated}

    def _judged(self, context: StageContext) -> dict[str, JSON]:
        from difflm.synthesis.critic.fit import fit_critic
        from difflm.training.record_data import read_split

        if self.critic is None or self.critic.trees == 0:
            return {}
        schema, prepared = read_schema(context.output), context.input("prepare")
        train, validation = (read_split(prepared, split, schema) for split in ("train", "validation"))
        found = fit_critic(
            context.output,
            train,
            validation,
            self.critic,
            seed=derive_seed(self.seed, "critic") >> 1,
            report=lambda done, of: context.report(done, of, "drawing rows for the critic"),
        )
        return {"critic": None if found is None else {name: round(value, 4) for name, value in found.items()}}


CSV_NAME = "synthetic.csv"
PARQUET_NAME = "synthetic.parquet"
CSV_MAX_ROWS = 1_000_000
WORKBOOK_MAX_CELLS = 2_000_000
TRIAL_ROWS = (256, 1024)
"""A quarter of the rows asked for, but so many at least and at most, are drawn to see how many of them are copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesize:
    """Writes shards/part-*.parquet, account.json and, up to a million rows, synthetic.csv in the dialect of the source;
    of a typed one also synthetic.parquet, with its types; of a workbook, up to two million cells, synthetic.xlsx or
    synthetic.ods.

    `rows` are those to make, None: as many as were trained on; `rows_per_shard` decides where parts begin. With
    `protected`, copies of training rows are held back where they are more than chance (see `CopyScreen`).
    """

    sampling: SamplingConfig
    rows: int | None
    rows_per_shard: int
    seed: int
    protected: bool = False
    name: ClassVar[str] = "synthesize"
    version: ClassVar[int] = 9
    output: ClassVar[str] = "synthetic"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the bundle's stage, and that of the rows that are not to be copied."""
        return ("assemble", "prepare") if self.protected else ("assemble",)

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.synthesis.workers import SynthesisWorker
        from difflm_evaluators.privacy.screen import ProtectedSynthesisWorker

        bundle = context.input("assemble")
        rows = self.rows or read_schema(bundle).row_count
        seed = derive_seed(self.seed, self.name) >> 1  # below 2**63, like the seeds of `difflm synthesize`
        config = context.runtime.synthesis.model_copy(update={"rows_per_shard": self.rows_per_shard})
        args: dict[str, JSON] = {
            "bundle": str(bundle.resolve()),
            "sampling": self.sampling.model_dump(mode="json"),
            "plan": {},
            "seed": seed,
        }
        if self.protected:
            least, most = TRIAL_ROWS
            args["prepared"] = str(context.input("prepare").resolve())
            args["trial"] = min(most, max(least, math.ceil(rows / 4)))
        mapped = run_shards(
            context,
            rows=rows,
            worker=ProtectedSynthesisWorker if self.protected else SynthesisWorker,
            args=args,
            config=config,
            may_give_up=True,
            precision=self.sampling.precision,
        )
        account = account_of(mapped.entries, rows)
        refuse_nothing(account, bundle)
        deliver_shards(context, mapped, SHARDS)
        write_json_atomic(context.output / ACCOUNT, account)
        if rows <= CSV_MAX_ROWS:
            form = SourceForm.read(bundle)
            export(context.output / SHARDS, context.output / CSV_NAME, form=form)
            if form is not None and form.typed is not None:
                export(context.output / SHARDS, context.output / PARQUET_NAME, form=form)
            cells = rows * len(read_schema(bundle).fields)
            if form is not None and form.workbook is not None and cells <= WORKBOOK_MAX_CELLS and has_extra("excel"):
                export(context.output / SHARDS, context.output / f"synthetic.{form.workbook.kind}", form=form)
        return StageOutcome(
            compute_seconds=mapped.compute_seconds,
            peak_rss_mib=mapped.peak_rss_mib,
            facts={key: account[key] for key in ("rows_asked", "rows_emitted", "attempts", "rejections")}
            | {"precision": mapped.precision},
        )


def refuse_nothing(account: Mapping[str, JSON], bundle: Path) -> None:
    """Refuse an account without a single row.

    Raises:
        SynthesisError: not one draw was valid.
    """
    if account["rows_emitted"] == 0:
        from difflm.records.relations.keeping import RELATION
        from difflm.synthesis.draws import PRIVACY

        reasons: Any = account["rejections"]
        screened = PRIVACY in reasons
        remedy = "train longer, or let the gates drop less" if screened else "train longer"
        remedy += ", or keep fewer relations (--set relations=off)" if RELATION in reasons else ""
        raise SynthesisError(f"{bundle}: none of {account['attempts']} draws was valid ({counted(reasons)}); {remedy}")
