"""Stages `train-diffusion` and `train-conditional`: the prior over the latents, and a second one for conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from difflm.config import dump_changed
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.pipeline.training import run_training
from difflm_jobs.stages.autoencoder import LATENTS

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainDiffusion:
    """Writes prior.safetensors and prior.json and, for a diffusion, the loss curve."""

    config: ExperimentConfig
    inputs: tuple[str, ...] = ("encode",)
    name: str = "train-diffusion"
    version: int = 3
    output: str = "prior"

    def section(self) -> Mapping[str, JSON]:
        from difflm.diffusion.network import NETWORK_VARIANTS

        prior = self.config.prior
        named = prior.model_dump(mode="json", exclude=set(NETWORK_VARIANTS))
        if prior.kind == "diffusion":
            named |= dump_changed(prior, NETWORK_VARIANTS)
        return {"prior": named, "seed": self.config.seed}

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.training.diffusion_task import finish_diffusion, fit_simple_prior
        from difflm.training.task import TaskSpec

        prior, seed = self.config.prior, derive_seed(self.config.seed, self.name)
        latents = context.input("encode")
        if prior.kind != "diffusion":
            context.report(0, None, f"fitting a prior of kind {prior.kind}")
            fit_simple_prior(prior, latents / LATENTS, context.output, seed=seed)
            return StageOutcome()
        spec = TaskSpec(
            factory="diffusion", config=prior.model_dump(mode="json"), inputs={"encode": str(latents)}, seed=seed
        )
        outcome = run_training(context, name=self.name, spec=spec, loop=prior.loop, runtime=self.config.runtime)
        best = context.output / "best.safetensors"
        finish_diffusion(best, prior, context.output)
        best.unlink()
        return outcome


STAGE = "train-conditional"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConditional:
    """Writes conditional.safetensors, conditional.json and the loss curve."""

    config: ExperimentConfig
    inputs: tuple[str, ...] = ("prepare", "encode", "train-diffusion")
    name: str = STAGE
    version: int = 1
    output: str = "conditional"

    def section(self) -> Mapping[str, JSON]:
        return {"conditions": self.config.conditions.model_dump(mode="json"), "seed": self.config.seed}

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.training.conditional_task import finish_conditional
        from difflm.training.task import TaskSpec

        config, seed = self.config.conditions, derive_seed(self.config.seed, self.name)
        spec = TaskSpec(
            factory="conditional",
            config=config.model_dump(mode="json"),
            inputs={name: str(context.input(name)) for name in self.inputs},
            seed=seed,
        )
        outcome = run_training(context, name=self.name, spec=spec, loop=config.loop, runtime=self.config.runtime)
        best = context.output / "best.safetensors"
        finish_conditional(best, context.input("prepare"), context.input("train-diffusion"), context.output)
        best.unlink()
        return outcome
