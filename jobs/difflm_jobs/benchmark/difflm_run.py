"""Our own method within the minutes: the stages of `difflm run` in this process, with as many steps as fit.

Each training gets a part of the time that is left, and its full steps where they fit into it. Where they do not, the
training is as many steps as do, over which its learning rate falls (`loop.most_seconds`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from difflm.config import validate
from difflm.errors import ConfigError, TrainingError
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.experiment import run_experiment
from difflm_jobs.loading import over
from difflm_jobs.pipeline.stage import Report
from difflm_jobs.stages.stages import this_process

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.artifacts.store import Artifact
    from difflm_jobs.benchmark.own import Job

TRAININGS: Final[Mapping[str, tuple[str | None, float]]] = {
    "fit-decoder": ("decoder_fit", 0.3),
    "train-autoencoder": ("autoencoder", 0.3),
    "train-diffusion": ("prior", 0.4),
}
"""The section with the steps of each training, and its part of the time; what it leaves goes to the next."""
STEERED_TRAININGS: Final[Mapping[str, tuple[str | None, float]]] = {
    "fit-decoder": ("decoder_fit", 0.75),
    "train-autoencoder": ("autoencoder", 0.12),
    "train-diffusion": ("prior", 0.13),
}
"""The same where the decoder writes the joint distribution and the latent only steers it."""
PRETRAINED_TRAININGS: Final[Mapping[str, tuple[str | None, float]]] = {
    "train-autoencoder": ("autoencoder", 0.8),
    "train-diffusion": ("prior", 0.2),
}
"""The same where the decoder is a language model that stays as it is."""
DRAFT_SHARE = 0.25
"""Of the autoencoder's time, for what is learned of z before and without the language model."""
PRIVATE_TRAININGS: Final[Mapping[str, tuple[str | None, float]]] = {
    "start-decoder": ("decoder_fit", 0.3),
    "fit-decoder": (None, 0.3),
    "train-autoencoder": ("autoencoder", 0.2),
    "train-diffusion": ("prior", 0.2),
}
"""The same under differential privacy, where the steps of DP-SGD are fixed by the budget and none can be left out."""
SAMPLING_SHARE = 0.3
"""Of the minutes, kept for encoding, for the draws of calibration and critic, and for those that are asked for."""
SAFETY_S = 5.0
BATCH_ROWS = 32
"""So many at a time, and more while they are drawn quickly: what is not whole at the end of the minutes is lost."""


class Stages:
    """A reporter that names the stages."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Name a stage; what it says of its progress is not shown."""
        print(f"{name} ...", flush=True)
        yield lambda done, total, text: None

    def reused(self, name: str) -> None:
        """Say nothing: every call goes over the stages before."""


def configured(job: Job) -> dict[str, Any]:
    """Return the settings of the experiment: the table's own under those of the method.

    Raises:
        ConfigError: a pretrained model is asked for and not named.
    """
    settings = dict(job.config)
    if "model" in job.settings:
        if job.settings["model"] is None:
            raise ConfigError(f"{job.method} steers a pretrained model; name one with --set {job.method}.model=NAME")
        settings = over(settings, {"decoder": {"kind": "pretrained", "model": job.settings["model"]}})
    return over(settings, {**job.settings["config"], "name": "fit", "seed": job.seed})


def fit(train: pa.Table, job: Job) -> tuple[Path, ExperimentConfig]:
    """Train within the minutes; return the bundle and the settings that it was made with."""
    settings = configured(job)
    reserve_s = 60 * SAMPLING_SHARE * job.minutes
    config = validate(ExperimentConfig, settings, "the settings of the method")
    trainings = _trainings(config)
    shares = [share for _, share in trainings.values()]
    for place, (stage, (section, share)) in enumerate(trainings.items()):
        allowed_s = (job.seconds_left - reserve_s) * share / sum(shares[place:])
        if allowed_s <= 0:
            raise TrainingError(f"no time was left for {stage}; give more minutes")
        if section is not None:
            settings = over(settings, {section: _limited(config, section, allowed_s)})
        facts = _run(settings, job, last=stage)[1].manifest.facts
        if facts.get("stopped") == "time":
            job.notes.append(f"{stage}: {facts['steps']:,} steps")
    config, bundle = _run(settings, job, last="assemble")
    return bundle.path, config


def _trainings(config: ExperimentConfig) -> Mapping[str, tuple[str | None, float]]:
    if config.privacy is not None:
        return PRIVATE_TRAININGS
    if config.decoder.kind == "pretrained":
        return PRETRAINED_TRAININGS
    return STEERED_TRAININGS if config.autoencoder.encoder.kind == "pooled" else TRAININGS


def _limited(config: ExperimentConfig, section: str, seconds: float) -> dict[str, Any]:
    """Return the settings that hold a training, and the draft before it where there is one, to so many seconds."""
    from difflm.training.draft_task import is_drafted

    if section != "autoencoder" or not is_drafted(config.autoencoder.injector, config.autoencoder.draft):
        return {"loop": {"most_seconds": seconds}}
    draft = {"loop": {"most_seconds": DRAFT_SHARE * seconds}}
    return {"draft": draft, "loop": {"most_seconds": (1 - DRAFT_SHARE) * seconds}}


def _run(settings: Mapping[str, Any], job: Job, *, last: str) -> tuple[ExperimentConfig, Artifact]:
    """Run up to a stage; return the settings and what the stage made."""
    config = validate(ExperimentConfig, settings, "the settings of the method")
    _, artifacts = run_experiment(
        config,
        job.folder / "runs",
        last=last,
        started=time.time(),
        reporting=lambda: nullcontext(Stages()),
        cluster=this_process,
    )
    return config, artifacts[-1]


def sample(model: tuple[Path, ExperimentConfig], job: Job) -> pa.Table:
    """Draw rows until there are enough, or the minutes are over."""
    import pyarrow as pa

    from difflm.api import Generator

    bundle, config = model
    generator = Generator(bundle, sampling=config.sampling)
    batches, rows = [], 0
    for batch in generator.batches(job.rows, seed=job.seed, batch_rows=BATCH_ROWS):
        batches.append(batch)
        rows += batch.num_rows
        if job.seconds_left < SAFETY_S:
            break
    return pa.Table.from_batches(batches).slice(0, job.rows)
