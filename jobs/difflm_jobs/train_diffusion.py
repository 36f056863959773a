"""Stage `train-diffusion`: the prior over the latents, trained (diffusion) or fitted (mixture, Gaussian)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from difflm.config import dump_changed
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.encode import LATENTS
from difflm_jobs.stage import StageContext, StageOutcome
from difflm_jobs.training import run_training

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
