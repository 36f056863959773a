"""Stages `train-autoencoder` and `encode`: encoder and injector around the decoder, then the rows' posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from difflm.records.schema import read_schema
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.inputs.models import fingerprint
from difflm_jobs.pipeline.mapping import deliver_shards, run_shards
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.pipeline.training import run_training

if TYPE_CHECKING:
    from difflm.training.autoencoder_task import AutoencoderConfig
    from difflm.training.task import TaskSpec

DRAFT, DRAFT_TRAINED = "draft", "draft-trained"
"""Folders of the warm-up among the stage's work; the first is also the name of its tensors among a task's inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAutoencoder:
    """Writes best.safetensors (encoder, posterior, injector), autoencoder.json, summary.json and the loss curve."""

    autoencoder: AutoencoderConfig
    seed: int
    inputs: ClassVar[tuple[str, ...]] = ("prepare", "fit-decoder")
    name: ClassVar[str] = "train-autoencoder"
    version: ClassVar[int] = 2
    output: ClassVar[str] = "autoencoder"

    def sources(self) -> Mapping[str, str]:
        encoder = self.autoencoder.encoder
        return fingerprint(encoder.model, "autoencoder.encoder.model") if encoder.kind == "pretrained" else {}

    def spec(self, inputs: Mapping[str, Path]) -> TaskSpec:
        """Describe the training on the folders of its inputs."""
        from difflm.training.task import TaskSpec

        return TaskSpec(
            factory="autoencoder",
            config=self.autoencoder.model_dump(mode="json"),
            inputs={name: str(folder) for name, folder in inputs.items()},
            seed=derive_seed(self.seed, self.name),
        )

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.training.autoencoder_task import finish_autoencoder
        from difflm.training.draft_task import is_drafted, with_used_tokens

        inputs = {name: context.input(name) for name in self.inputs}
        drafted = is_drafted(self.autoencoder.injector, self.autoencoder.draft)
        draft = self._draft(context, inputs) if drafted else None
        if draft is not None:
            inputs = {**inputs, DRAFT: context.work / DRAFT_TRAINED}
        loop = self.autoencoder.loop
        outcome = run_training(context, name=self.name, spec=self.spec(inputs), loop=loop, runtime=context.runtime)
        shape = with_used_tokens(self.autoencoder.shape, inputs["prepare"], inputs["fit-decoder"])
        finish_autoencoder(context.output, shape)
        return outcome if draft is None else _both(draft, outcome)

    def _draft(self, context: StageContext, inputs: Mapping[str, Path]) -> StageOutcome:
        """Warm encoder and injector up without the language model, or find that this is done."""
        from difflm.training.task import TaskSpec

        section = self.autoencoder
        parts = {"encoder": section.encoder, "injector": section.injector, "draft": section.draft}
        config: dict[str, JSON] = {name: part.model_dump(mode="json") for name, part in parts.items()}
        if section.kl.kind == "capacity":
            config["capacity_nats"] = section.kl.nats
        spec = TaskSpec(
            factory="draft",
            config=config,
            inputs={name: str(folder) for name, folder in inputs.items()},
            seed=derive_seed(self.seed, f"{self.name} draft"),
        )
        return run_training(
            context,
            name=f"{self.name}-draft",
            spec=spec,
            loop=section.draft.loop,
            runtime=context.runtime,
            work=context.work / DRAFT,
            output=context.work / DRAFT_TRAINED,
        )


def _both(draft: StageOutcome, outcome: StageOutcome) -> StageOutcome:
    """Put the account of the warm-up beside that of the training."""
    return replace(
        outcome,
        compute_seconds=(draft.compute_seconds or 0.0) + (outcome.compute_seconds or 0.0),
        facts={**outcome.facts, "draft": dict(draft.facts)},
    )


LATENTS = "latents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """Writes latents/part-*.parquet with index (int64), mean and log_variance (lists of float32)."""

    rows_per_shard: int
    inputs: ClassVar[tuple[str, ...]] = ("prepare", "fit-decoder", "train-autoencoder")
    name: ClassVar[str] = "encode"
    version: ClassVar[int] = 1
    output: ClassVar[str] = "latents"

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.synthesis.workers import EncodeWorker

        rows = read_schema(context.input("prepare")).row_count
        args: dict[str, JSON] = {name: str(context.input(name).resolve()) for name in self.inputs}
        config = context.runtime.encoding.model_copy(update={"rows_per_shard": self.rows_per_shard})
        mapped = run_shards(context, rows=rows, worker=EncodeWorker, args=args, config=config)
        deliver_shards(context, mapped, LATENTS)
        return StageOutcome(
            compute_seconds=mapped.compute_seconds, peak_rss_mib=mapped.peak_rss_mib, facts={"rows": rows}
        )
