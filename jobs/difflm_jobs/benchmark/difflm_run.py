"""Our own method within the minutes: the stages of `difflm run` in this process, with as many steps as fit.

Each training gets a part of the time that is left, and its full steps where they fit into it. Where the first seconds
show that they do not, the training is stopped and begun again with as many as do, so that its schedule of learning
rates fits as well.
"""

from __future__ import annotations

import _thread
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
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
PRIVATE_TRAININGS: Final[Mapping[str, tuple[str | None, float]]] = {
    "start-decoder": ("decoder_fit", 0.3),
    "fit-decoder": (None, 0.3),
    "train-autoencoder": ("autoencoder", 0.2),
    "train-diffusion": ("prior", 0.2),
}
"""The same under differential privacy, where the steps of DP-SGD are fixed by the budget and none can be left out."""
SAMPLING_SHARE = 0.25
"""Of the minutes, kept for encoding, for the draws of the calibration, and for those that are asked for."""
WATCHED_S = 4.0
"""So long a training is watched from its first logged step on, before its rate counts."""
FEWEST_STEPS = 10
SAFETY_S = 5.0
BATCH_ROWS = 256


@dataclass(slots=True)
class Watch:
    """A reporter that stops a training which would take longer than it may; `fitting` is then how many steps do fit."""

    allowed_s: float | None = None
    fitting: int | None = None
    _began: float = field(default_factory=time.monotonic)
    _first: tuple[float, float] | None = None

    def begin(self, allowed_s: float | None) -> None:
        """Watch the next training; None lets it run to its end. Called by the main thread, which is what is stopped."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell, where nothing stops it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.allowed_s, self.fitting, self._first, self._began = allowed_s, None, None, time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Follow a stage; only trainings have steps that can be fewer."""
        print(f"{name} ...", flush=True)
        yield self._look if name in TRAININGS or name in PRIVATE_TRAININGS else _ignore

    def reused(self, name: str) -> None:
        """Say nothing: every call goes over the stages before."""

    def _look(self, done: float, total: float | None, text: str) -> None:
        now = time.monotonic()
        if self.allowed_s is None or self.fitting is not None or not done or total is None:
            return
        if self._first is None:
            self._first = (now, done)
            return
        since, first = self._first
        if now - since < WATCHED_S or done <= first:
            return
        per_step, before = (now - since) / (done - first), since - self._began
        if now - self._began + per_step * (total - done) > self.allowed_s:
            left = self.allowed_s - (now - self._began) - before  # what came before the first step comes again
            self.fitting = max(FEWEST_STEPS, int(left / per_step))
            _thread.interrupt_main()  # this is the thread that follows the training


def _ignore(done: float, total: float | None, text: str) -> None:
    pass


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
    settings, watch = configured(job), Watch()
    reserve_s = 60 * SAMPLING_SHARE * job.minutes
    trainings = _trainings(validate(ExperimentConfig, settings, "the settings of the method"))
    shares = [share for _, share in trainings.values()]
    for place, (stage, (section, share)) in enumerate(trainings.items()):
        allowed_s = (job.seconds_left - reserve_s) * share / sum(shares[place:])
        if allowed_s <= 0:
            raise TrainingError(f"no time was left for {stage}; give more minutes")
        watch.begin(allowed_s if section is not None else None)
        try:
            _run(settings, job, watch, last=stage)
        except KeyboardInterrupt:
            if watch.fitting is None or section is None:
                raise
            steps = watch.fitting
            job.notes.append(f"{stage}: {steps:,} steps")
            settings = over(settings, {section: {"steps": steps}})
            watch.begin(None)
            _run(settings, job, watch, last=stage)
    config, bundle = _run(settings, job, watch, last="assemble")
    return bundle, config


def _trainings(config: ExperimentConfig) -> Mapping[str, tuple[str | None, float]]:
    if config.privacy is not None:
        return PRIVATE_TRAININGS
    return STEERED_TRAININGS if config.autoencoder.encoder.kind == "pooled" else TRAININGS


def _run(settings: Mapping[str, Any], job: Job, watch: Watch, *, last: str) -> tuple[ExperimentConfig, Path]:
    """Run up to a stage; return the settings and the folder that the stage made."""
    config = validate(ExperimentConfig, settings, "the settings of the method")
    _, artifacts = run_experiment(
        config,
        job.folder / "runs",
        last=last,
        started=time.time(),
        reporting=lambda: nullcontext(watch),
        cluster=this_process,
    )
    return config, artifacts[-1].path


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
