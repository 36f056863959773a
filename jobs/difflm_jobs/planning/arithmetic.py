"""Floating point operations of the stages around a pretrained decoder, and how many this machine makes in a second.

Such a decoder is not tried out beforehand: to load it takes longer than a plan should. So its time is counted. A token
costs two operations a parameter to read, two more to send the gradient back through a frozen model, and four through a
trained one (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from difflm.models.injection.injector import READ_ONCE
from difflm.models.precision import Precision
from difflm_jobs.planning.machine import runs_here
from difflm_jobs.planning.quality import span_text
from difflm_jobs.planning.sizes import Sizes, assumed_precision

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

FORWARD, FROZEN, TRAINED = 2, 4, 6
"""Operations of a parameter and a token: read alone, in a frozen model that gradients pass, in one that is trained."""
DRAWING = 3
"""An operation of drawing over one of training: a token is read by itself, and some records are drawn again."""
SIDE, TRIES = 1024, 3
"""Of the matrices that this machine is timed with, and how often."""


def stage_operations(sizes: Sizes) -> dict[str, float]:
    """Count the operations of the stages that a pretrained decoder makes long; none where it is a compact one."""
    config, decoder, autoencoder = sizes.config, sizes.decoder, sizes.autoencoder
    if config.decoder.kind != "pretrained" or decoder is None or autoencoder is None:
        return {}
    section = config.autoencoder
    prompt = 0 if section.injector.kind in READ_ONCE else autoencoder.positions  # keys and values are there at once
    record = sizes.tokens + prompt + 1
    encoder = sizes.encoder_tokens * autoencoder.encoder.parameters if section.encoder.kind == "pretrained" else 0
    trained, frozen = (TRAINED, FROZEN) if autoencoder.encoder.adapters is None else (FROZEN, FROZEN)
    steps, loop = section.steps, section.loop
    seen = steps * section.batch_size * loop.gradient_accumulation
    validated = (1 + steps // loop.evaluate_every) * section.validation_records
    found = {
        "train-autoencoder": seen * (frozen * decoder.parameters * record + trained * encoder)
        + validated * FORWARD * (decoder.parameters * record + encoder),
        "encode": FORWARD * encoder * (sizes.rows or 0),
        "synthesize": DRAWING * FORWARD * decoder.parameters * record * (config.rows or sizes.rows or 0),
    }
    if config.prior.kind == "diffusion":
        latents = config.prior.steps * config.prior.batch_size
        found["train-diffusion"] = TRAINED * sizes.prior * sizes.prior_tokens * latents
    return {name: float(count) for name, count in found.items()}


def rough_time(config: ExperimentConfig, operations: Mapping[str, float]) -> str | None:
    """Say how long the stages that are left, with operations that were counted, take at this machine's rate.

    None where there are none, or they run elsewhere. Records are counted as long as the longest one may be.
    """
    left, workers = {name: count for name, count in operations.items() if count}, config.runtime.workers
    if not left or not runs_here(config.runtime) or workers.gpus_per_worker:
        return None
    threads = workers.num_workers * workers.cpus_per_worker
    rate = operations_per_second(threads, assumed_precision(config.autoencoder.loop.precision, on_gpus=False))
    longest = sorted(left, key=lambda name: -left[name])
    parts = ", ".join(f"{name} {span_text(left[name] / rate)}" for name in longest)
    return (
        f"time: roughly {span_text(sum(left.values()) / rate)} on this machine ({parts}), by the models' sizes and "
        f"{rate / 1e9:,.0f} GFLOP/s measured now; short records and early stopping make it less"
    )


@lru_cache
def operations_per_second(threads: int, precision: Precision) -> float:
    """Measure how many operations a second a product of matrices makes: a tenth of a second or so."""
    import torch

    before, dtype = torch.get_num_threads(), torch.bfloat16 if precision == "bfloat16" else torch.float32
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    torch.set_num_threads(threads)
    try:
        seconds = []
        for _ in range(1 + TRIES):
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return 2 * SIDE**3 / min(seconds[1:])
