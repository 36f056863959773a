"""Stages `train-autoencoder` and `encode`: encoder and injector around the decoder, then the rows' posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from difflm.records.schema import read_schema
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.inputs.models import fingerprint
from difflm_jobs.pipeline.mapping import deliver_shards, run_shards
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.pipeline.training import run_training

if TYPE_CHECKING:
    from difflm.training.autoencoder_task import AutoencoderConfig
    from difflm_jobs.config import ExperimentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAutoencoder:
    """Writes best.safetensors (encoder, posterior, injector), autoencoder.json, summary.json and the loss curve."""

    config: ExperimentConfig
    inputs: tuple[str, ...] = ("prepare", "fit-decoder")
    name: str = "train-autoencoder"
    version: int = 2
    output: str = "autoencoder"

    @property
    def settings(self) -> AutoencoderConfig:
        """The configuration of the training, with what `kl: {kind: auto}` means in this experiment."""
        decoder, conditions = self.config.decoder.kind, self.config.conditions.enabled
        return self.config.autoencoder.with_chosen_kl(decoder_kind=decoder, conditions=conditions)

    def section(self) -> Mapping[str, JSON]:
        return {"autoencoder": self.settings.model_dump(mode="json"), "seed": self.config.seed}

    def sources(self) -> Mapping[str, str]:
        encoder = self.config.autoencoder.encoder
        return fingerprint(encoder.model, "autoencoder.encoder.model") if encoder.kind == "pretrained" else {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.training.autoencoder_task import finish_autoencoder
        from difflm.training.task import TaskSpec

        spec = TaskSpec(
            factory="autoencoder",
            config=self.settings.model_dump(mode="json"),
            inputs={name: str(context.input(name)) for name in self.inputs},
            seed=derive_seed(self.config.seed, self.name),
        )
        loop = self.config.autoencoder.loop
        outcome = run_training(context, name=self.name, spec=spec, loop=loop, runtime=self.config.runtime)
        finish_autoencoder(context.output, self.config.autoencoder)
        return outcome


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
