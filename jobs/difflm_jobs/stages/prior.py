"""Stages `train-diffusion` and `train-conditional`: the prior over the latents, and a second one for conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from difflm.seeding import derive_seed
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.pipeline.training import run_training
from difflm_jobs.stages.autoencoder import LATENTS

if TYPE_CHECKING:
    from difflm.training.conditional_task import ConditionsConfig
    from difflm.training.diffusion_task import PriorConfig
    from difflm.training.task import TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainDiffusion:
    """Writes prior.safetensors and prior.json and, for a diffusion, the loss curve."""

    prior: PriorConfig
    seed: int
    inputs: ClassVar[tuple[str, ...]] = ("encode",)
    name: ClassVar[str] = "train-diffusion"
    version: ClassVar[int] = 3
    output: ClassVar[str] = "prior"

    def sources(self) -> Mapping[str, str]:
        return {}

    def spec(self, latents: Path) -> TaskSpec:
        """Describe the training of a diffusion on the folder of the latents."""
        from difflm.training.task import TaskSpec

        seed = derive_seed(self.seed, self.name)
        config = self.prior.model_dump(mode="json")
        return TaskSpec(factory="diffusion", config=config, inputs={"encode": str(latents)}, seed=seed)

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.training.diffusion_task import finish_diffusion, fit_simple_prior

        prior, latents = self.prior, context.input("encode")
        if prior.kind != "diffusion":
            context.report(0, None, f"fitting a prior of kind {prior.kind}")
            fit_simple_prior(prior, latents / LATENTS, context.output, seed=derive_seed(self.seed, self.name))
            return StageOutcome()
        outcome = run_training(
            context, name=self.name, spec=self.spec(latents), loop=prior.loop, runtime=context.runtime
        )
        best = context.output / "best.safetensors"
        finish_diffusion(best, prior, context.output)
        best.unlink()
        return outcome


STAGE = "train-conditional"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConditional:
    """Writes conditional.safetensors, conditional.json and the loss curve."""

    conditions: ConditionsConfig
    seed: int
    inputs: ClassVar[tuple[str, ...]] = ("prepare", "encode", "train-diffusion")
    name: ClassVar[str] = STAGE
    version: ClassVar[int] = 1
    output: ClassVar[str] = "conditional"

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.training.conditional_task import finish_conditional
        from difflm.training.task import TaskSpec

        config, seed = self.conditions, derive_seed(self.seed, self.name)
        spec = TaskSpec(
            factory="conditional",
            config=config.model_dump(mode="json"),
            inputs={name: str(context.input(name)) for name in self.inputs},
            seed=seed,
        )
        outcome = run_training(context, name=self.name, spec=spec, loop=config.loop, runtime=context.runtime)
        best = context.output / "best.safetensors"
        finish_conditional(best, context.input("prepare"), context.input("train-diffusion"), context.output)
        best.unlink()
        return outcome
