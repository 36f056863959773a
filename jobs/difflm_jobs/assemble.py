"""Stage `assemble`: the bundle, which is all that synthesis needs and holds nothing of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from difflm.artifacts.kinds import BUNDLE_KIND
from difflm.telemetry import JSON
from difflm_jobs.stage import StageContext, StageOutcome
from difflm_jobs.train_conditional import STAGE as CONDITIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble:
    """Puts decoder, autoencoder and prior together, and the conditional prior where there is one."""

    conditional: bool = False
    name: str = "assemble"
    version: int = 1
    output: str = BUNDLE_KIND

    @property
    def inputs(self) -> tuple[str, ...]:
        stages = ("prepare", "fit-decoder", "train-autoencoder", "train-diffusion")
        return (*stages, CONDITIONAL) if self.conditional else stages

    def section(self) -> Mapping[str, JSON]:
        return {}

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
        return StageOutcome()
