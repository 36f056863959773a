"""How fast this machine trains an experiment's models: a few steps of the real trainings on a sample of the table.

The sample goes the way of a run: it is prepared, tokenized and trained on by the stages' own tasks and engine. Nothing
of it is kept but the seconds, for the life of the process.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.errors import ConfigError
from difflm_jobs.inputs.frame_files import TemporaryFolder
from difflm_jobs.pipeline.stage import StageContext
from difflm_jobs.planning.machine import runs_here
from difflm_jobs.stages.autoencoder import LATENTS, TrainAutoencoder
from difflm_jobs.stages.decoder import FitDecoder
from difflm_jobs.stages.prepare import Prepare
from difflm_jobs.stages.prior import TrainDiffusion
from difflm_jobs.stages.stages import build_stages

if TYPE_CHECKING:
    import torch

    from difflm.training.loop import LoopConfig
    from difflm.training.task import TaskSpec
    from difflm_jobs.config import ExperimentConfig

SAMPLE_ROWS = 1024
FEWEST_STEPS, MAX_STEPS = 2, 12
LONG_ENOUGH_S, TOO_LONG_S = 0.6, 2.0
"""Steps are taken until they have run for the one, and no further beyond the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpeed:
    """Seconds of an optimizer step, and the rows of its micro-batch."""

    seconds: float
    rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSample:
    """Some rows of a prepared table in a folder like that of `prepare`, with what was seen of the whole.

    `seconds` is what it took to prepare the table; 0 where that was done already.
    """

    kept: TemporaryFolder
    rows: int
    columns: int
    seconds: float

    @property
    def folder(self) -> Path:
        """The folder of the sample."""
        return self.kept.path / "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a step of each training takes on this machine; None for a prior that is fitted at once."""

    decoder: StepSpeed
    autoencoder: StepSpeed
    prior: StepSpeed | None


_LOOKS: dict[str, TableSample] = {}
_SPEEDS: dict[str, Speed] = {}

Speedometer = Callable[["ExperimentConfig", TableSample], Speed]


def unmeasurable(config: ExperimentConfig) -> str | None:
    """Say why the time of an experiment cannot be told on this machine; None where it can."""
    import torch

    if not runs_here(config.runtime):
        return "it runs on a cluster, whose machines are not this one"
    if config.decoder.kind == "pretrained" or config.autoencoder.encoder.kind == "pretrained":
        return "only compact decoders and encoders are tried out beforehand"
    if config.runtime.workers.gpus_per_worker and not torch.cuda.is_available():
        return "its workers want a GPU, and this machine has none"
    return None


def look_at(config: ExperimentConfig, prepared: Path | None) -> TableSample:
    """Take a sample of the table: from the finished artifact of `prepare`, or by preparing it on the side.

    Raises:
        DataError, ConfigError: the table cannot be read; what the stage `prepare` says of it.
    """
    (stage,) = [stage for stage in build_stages(config) if isinstance(stage, Prepare)]
    hashes = json.dumps(dict(stage.sources()), sort_keys=True)
    given = [stage.data.model_dump(mode="json"), stage.schema.model_dump(mode="json"), stage.relations, stage.seed]
    key = json.dumps([*given, hashes])
    if key not in _LOOKS:
        _LOOKS[key] = _look(config, prepared)
    return _LOOKS[key]


def _look(config: ExperimentConfig, prepared: Path | None) -> TableSample:
    import numpy as np
    import pyarrow.parquet as pq

    kept, seconds = TemporaryFolder(), 0.0
    if prepared is None:
        prepared = kept.path / "prepared"
        started = time.perf_counter()
        _prepare(config, kept.path, prepared)
        seconds = time.perf_counter() - started
    sample = kept.path / "sample"
    sample.mkdir()
    (sample / "schema.json").write_bytes((prepared / "schema.json").read_bytes())
    rows = columns = 0
    for name, most in (("train", SAMPLE_ROWS), ("validation", SAMPLE_ROWS // 4)):
        table = pq.read_table(prepared / f"{name}.parquet")
        if name == "train":
            rows, columns = table.num_rows, table.num_columns
        places = np.linspace(0, max(0, table.num_rows - 1), min(most, table.num_rows)).round().astype(np.int64)
        pq.write_table(table.take(places), sample / f"{name}.parquet")
    return TableSample(kept=kept, rows=rows, columns=columns, seconds=seconds)


def _prepare(config: ExperimentConfig, folder: Path, output: Path) -> None:
    (stage,) = [stage for stage in build_stages(config) if isinstance(stage, Prepare)]
    work = folder / "work"
    work.mkdir()
    output.mkdir()
    stage.run(
        StageContext(
            inputs={},
            output=output,
            work=work,
            report=lambda done, total, text: None,
            runtime=config.runtime,
            start_cluster=_no_cluster,
        )
    )


def _no_cluster() -> Any:
    raise AssertionError("preparing a table needs no cluster")


def measure(config: ExperimentConfig, sample: TableSample) -> Speed:
    """Take a few steps of every training on a sample, in this process: a second or two; cached.

    Raises:
        ConfigError: it cannot be told on this machine.
    """
    if (reason := unmeasurable(config)) is not None:
        raise ConfigError(f"the time of {config.name} cannot be predicted: {reason}; leave --budget out")
    sections = config.model_dump(mode="json", by_alias=True, include={"decoder", "decoder_fit", "autoencoder", "prior"})
    for name in ("decoder_fit", "autoencoder", "prior"):  # how many steps there are does not change what one takes
        for key in ("steps", "epochs"):
            sections[name].pop(key, None)
    key = json.dumps([sections, str(sample.folder), config.runtime.workers.model_dump(mode="json")], sort_keys=True)
    if key not in _SPEEDS:
        _SPEEDS[key] = _measure(config, sample)
    return _SPEEDS[key]


def _measure(config: ExperimentConfig, sample: TableSample) -> Speed:
    import torch

    from difflm.seeding import random_state_kept

    device = torch.device("cuda" if config.runtime.workers.gpus_per_worker else "cpu")
    with (
        random_state_kept(),
        _threads(config.runtime.workers.cpus_per_worker),
        tempfile.TemporaryDirectory(prefix="difflm-plan-") as folder,
    ):
        trial = _Trial(config=config, prepared=sample.folder, folder=Path(folder), device=device)
        return Speed(decoder=trial.decoder(), autoencoder=trial.autoencoder(), prior=trial.prior())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with as many threads as a training worker does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """The trainings of a run in miniature, each on what the one before leaves: random weights, but of the same size."""

    config: ExperimentConfig
    prepared: Path
    folder: Path
    device: torch.device

    def decoder(self) -> StepSpeed:
        """Time the decoder's fit, and leave its folder."""
        from safetensors.torch import save_file

        from difflm.models.decoder_store import read_parts, write_compact_model
        from difflm.records.schema import read_schema

        (stage,) = [stage for stage in build_stages(self.config) if isinstance(stage, FitDecoder)]
        stage.describe(self.prepared, self._decoder)
        seconds, task = self._timed(stage.spec(self.prepared, self._decoder), self.config.decoder_fit.loop)
        tensors = {name: value.detach().cpu().contiguous() for name, value in task.artifact_tensors().items()}
        save_file(tensors, self._decoder / "best.safetensors")
        write_compact_model(self._decoder, read_parts(self._decoder, read_schema(self.prepared)), tensors)
        return StepSpeed(seconds=seconds, rows=_rows_of_a_batch(task))

    def autoencoder(self) -> StepSpeed:
        """Time the training of encoder and injector around that decoder."""
        (stage,) = [stage for stage in build_stages(self.config) if isinstance(stage, TrainAutoencoder)]
        spec = stage.spec({"prepare": self.prepared, "fit-decoder": self._decoder})
        seconds, task = self._timed(spec, self.config.autoencoder.loop)
        return StepSpeed(seconds=seconds, rows=_rows_of_a_batch(task))

    def prior(self) -> StepSpeed | None:
        """Time the training of a diffusion on made-up latents."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        import torch

        from difflm.models.building import latent_size
        from difflm.models.decoder_store import read_parts
        from difflm.records.schema import read_schema

        prior = self.config.prior
        if prior.kind != "diffusion":
            return None
        slots = read_parts(self._decoder, read_schema(self.prepared)).slots
        shape = (
            min(pq.read_metadata(self.prepared / "train.parquet").num_rows, SAMPLE_ROWS),
            latent_size(self.config.autoencoder.encoder, slots),
        )
        latents = self.folder / LATENTS
        latents.mkdir()
        columns = {name: torch.randn(shape).tolist() for name in ("mean", "log_variance")}
        pq.write_table(pa.table({"index": list(range(shape[0])), **columns}), latents / "part-0.parquet")
        (stage,) = [stage for stage in build_stages(self.config) if isinstance(stage, TrainDiffusion)]
        seconds, _ = self._timed(stage.spec(self.folder), prior.loop)
        return StepSpeed(seconds=seconds, rows=prior.batch_size)

    @property
    def _decoder(self) -> Path:
        return self.folder / "decoder"

    def _timed(self, spec: TaskSpec, loop: LoopConfig) -> tuple[float, Any]:
        """Return the median seconds of a few steps, the first left out, and the task."""
        from difflm.models.precision import resolve_precision
        from difflm.training.engine import PlainEngine
        from difflm.training.task import build_task

        task = build_task(spec, self.device)
        engine = PlainEngine(
            task.module,
            device=self.device,
            weight_decay=loop.weight_decay,
            gradient_clip=loop.gradient_clip,
            gradient_accumulation=loop.gradient_accumulation,
            precision=resolve_precision(loop.precision, self.device),
            method=loop.method,
        )
        engine.set_training(True)
        seconds: list[float] = []
        while _more(seconds):
            started = time.perf_counter()
            for micro in range(loop.gradient_accumulation):
                engine.backward(engine.forward(task.batch(len(seconds), micro, 0, 1))["loss"])
            engine.step(loop.learning_rate / 1000)  # reads the norm of the gradient, so it waits for a GPU
            task.after_step(len(seconds) + 1)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[1:]), task


def _more(seconds: list[float]) -> bool:
    """Say whether to take another step; the first, in which kernels are looked for, does not count."""
    count, spent = len(seconds) - 1, sum(seconds[1:])
    if count < 1:
        return True
    return spent < TOO_LONG_S and (count < FEWEST_STEPS or (spent < LONG_ENOUGH_S and count < MAX_STEPS))


def _rows_of_a_batch(task: Any) -> float:
    """Return the mean number of rows in a micro-batch, from the batches of one pass over the sample."""
    batches: int = task.order.steps(most=2**31, epochs=1.0, floor=1)
    return len(task.train) / batches
