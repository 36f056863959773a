"""Stage `assemble`: the bundle, which is all that synthesis needs and holds nothing of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from difflm.telemetry import JSON
from difflm_jobs.stage import StageContext, StageOutcome

BUNDLE_KIND = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble:
    """Puts decoder, autoencoder and prior together."""

    inputs: tuple[str, ...] = ("prepare", "fit-decoder", "train-autoencoder", "train-diffusion")
    name: str = "assemble"
    version: int = 1
    output: str = BUNDLE_KIND

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
        )
        return StageOutcome()
