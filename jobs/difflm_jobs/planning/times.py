"""How long the stages of an experiment are expected to take, from the speed of its trainings on this machine.

Trainings are counted by their steps. What is not tried out is put in proportion to them or to the table, by figures
that were measured on the five tables of the presets and on the demo, on two cores. Early stopping is not foreseen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from difflm.training.least_steps import AUTOENCODER_STEPS, COPYING_STEPS, PRIOR_STEPS, STEERED_STEPS
from difflm_jobs.planning.speed import Speed, StepSpeed, TableSample

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

EVALUATING = 1.05
"""Of a training's steps, for its evaluations and checkpoints."""
PREPARING_S = 1.0
JUDGED = 1.8
"""Draws of a row where a critic turns some down: 1.2 to 2.2."""
ENCODING, DRAWING = 0.2, 0.7
"""A row's encoding over its share of a step of the autoencoder, and its drawing over that of the decoder's fit."""
SCORING_S, SCORING_CELL_S = 6.0, 5e-5
"""Of the evaluation, and of every cell of the synthetic table in it."""
CONDITIONED = 1.3
"""A step of the prior for conditions over one of the prior, of as many latents."""
PROCESSES_S = 9.0
"""To start the processes of a stage, with all that they import, where Ray runs them."""
START_S = 8.0
"""To start Python and Ray."""

WORKING = {"fit-decoder", "train-autoencoder", "encode", "train-diffusion", "train-conditional", "synthesize"}
"""Stages with processes of their own."""
STARTING = "starting"
"""In place of a stage's name: what comes before all of them."""


def steps_of(*, most: int, epochs: float, floor: int, rows: int, batch: float) -> int:
    """Count the steps of a training: `most`, but no more than `epochs` passes, and of these at least `floor`."""
    return min(most, max(floor, math.ceil(epochs * rows / batch)))


def predict(
    config: ExperimentConfig, sample: TableSample, speed: Speed, stages: Sequence[str], *, in_process: bool
) -> dict[str, float]:
    """Predict the seconds of every stage, and of starting; a prior that is fitted at once takes none."""
    seconds = {name: _stage_s(name, config, sample, speed) for name in stages}
    if in_process:
        return seconds
    processes = {name: PROCESSES_S for name in seconds if name in WORKING and seconds[name]}
    return {STARTING: START_S, **{name: own + processes.get(name, 0.0) for name, own in seconds.items()}}


def _stage_s(name: str, config: ExperimentConfig, sample: TableSample, speed: Speed) -> float:
    fit, autoencoder, prior = config.decoder_fit, config.autoencoder, config.prior
    emitted = config.rows or sample.rows
    match name:
        case "prepare":
            return PREPARING_S + sample.seconds
        case "fit-decoder":
            return _training_s(fit.steps, fit.epochs, _fit_floor(config), sample.rows, speed.decoder)
        case "train-autoencoder":
            return _training_s(autoencoder.steps, autoencoder.epochs, AUTOENCODER_STEPS, sample.rows, speed.autoencoder)
        case "train-diffusion":
            if prior.kind != "diffusion" or speed.prior is None:
                return 0.0
            return _training_s(prior.steps, prior.epochs, PRIOR_STEPS, sample.rows, speed.prior)
        case "train-conditional":
            section = config.conditions
            assert speed.prior is not None, "conditions go on from a diffusion"
            per_step = speed.prior.seconds * max(1.0, section.batch_size / speed.prior.rows)
            return EVALUATING * CONDITIONED * section.steps * per_step
        case "encode":
            return ENCODING * sample.rows * speed.autoencoder.seconds / speed.autoencoder.rows
        case "assemble":
            if _fit_floor(config) != STEERED_STEPS:
                return 0.0
            drawn = config.calibration.rounds * min(config.calibration.rows, sample.rows)
            if _judged(config):
                drawn += min(config.critic.rows, sample.rows)
            return DRAWING * drawn * speed.decoder.seconds / speed.decoder.rows
        case "synthesize":
            draws = JUDGED * emitted if _judged(config) else emitted
            return DRAWING * draws * speed.decoder.seconds / speed.decoder.rows
        case "evaluate":
            return SCORING_S + SCORING_CELL_S * emitted * sample.columns
        case _:
            return 0.0


def _judged(config: ExperimentConfig) -> bool:
    """Say whether a critic is fitted, as far as one can know before there are draws."""
    return config.data.record_kind.tabular and config.critic.trees > 0 and _fit_floor(config) == STEERED_STEPS


def _fit_floor(config: ExperimentConfig) -> int:
    return STEERED_STEPS if config.autoencoder.encoder.kind == "pooled" else COPYING_STEPS


def _training_s(most: int, epochs: float, floor: int, rows: int, speed: StepSpeed) -> float:
    steps = steps_of(most=most, epochs=epochs, floor=floor, rows=rows, batch=speed.rows)
    return EVALUATING * steps * speed.seconds


def whole(times: Mapping[str, float]) -> float:
    """Sum the seconds of all stages."""
    return sum(times.values())
