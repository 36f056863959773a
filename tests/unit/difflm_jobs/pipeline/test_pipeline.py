"""The pipeline runs what is missing, in order, and nothing else."""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from difflm.artifacts import ArtifactStore
from difflm.errors import ArtifactError, ConfigError, StorageError, TrainingError
from difflm.runtime.compute import LocalCompute
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.pipeline.pipeline import execute, resolve, until
from difflm_jobs.pipeline.progress import LineReporter
from difflm_jobs.pipeline.runlog import StageRecord
from difflm_jobs.pipeline.stage import Stage, StageContext, StageOutcome, apart

RUNTIME = RuntimeConfig()


@dataclass(frozen=True)
class ToyStage:
    """Writes its setting after the texts of its inputs."""

    name: str
    inputs: tuple[str, ...] = ()
    setting: str = "a"
    calls: list[str] = field(default_factory=list, metadata=apart())
    failure: BaseException | None = field(default=None, metadata=apart())
    needs_cluster: bool = field(default=False, metadata=apart())
    source: str = field(default="file", metadata=apart())
    version: int = field(default=1, metadata=apart())

    @property
    def output(self) -> str:
        return f"{self.name}-made"

    def sources(self) -> Mapping[str, str]:
        return {} if self.inputs else {"file": self.source}

    def run(self, context: StageContext) -> StageOutcome:
        self.calls.append(self.name)
        if self.needs_cluster:
            context.start_cluster()
        (context.work / "half").touch()
        if self.failure is not None:
            raise self.failure
        text = "".join((context.input(name) / "text").read_text(encoding="utf-8") for name in self.inputs)
        (context.output / "text").write_text(text + self.setting, encoding="utf-8")
        context.report(1, 2, "writing")
        return StageOutcome(compute_seconds=2.0, peak_rss_mib={"worker 0": 5.0}, facts={"rows": 1})


class Cluster:
    """Counts how often a cluster was started and stopped."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[LocalCompute]:
        self.events.append("start")
        try:
            yield LocalCompute()
        finally:
            self.events.append("stop")


def run(store: ArtifactStore, *stages: Stage, cluster: Cluster | None = None) -> list[StageRecord]:
    reporter = LineReporter(Console(quiet=True))
    steps = resolve(stages, store)
    cluster = cluster or Cluster()
    return [record for record, _ in execute(steps, store, runtime=RUNTIME, reporter=reporter, cluster=cluster)]


def chain(calls: list[str], sampler: str = "s") -> tuple[ToyStage, ToyStage, ToyStage]:
    return (
        ToyStage("read", calls=calls),
        ToyStage("train", ("read",), "t", calls=calls, needs_cluster=True),
        ToyStage("sample", ("read", "train"), sampler, calls=calls, needs_cluster=True),
    )


def test_a_second_run_executes_nothing_and_starts_no_cluster(tmp_path: Path) -> None:
    store, calls = ArtifactStore(tmp_path), []
    first = Cluster()
    records = run(store, *chain(calls), cluster=first)
    assert calls == ["read", "train", "sample"]
    assert [record.status for record in records] == ["ran"] * 3
    assert first.events == ["start", "stop"]

    second = Cluster()
    again = run(store, *chain(calls), cluster=second)
    assert calls == ["read", "train", "sample"]
    assert [(record.status, record.compute_seconds) for record in again] == [("reused", 0.0)] * 3
    assert [record.artifact for record in again] == [record.artifact for record in records]
    assert second.events == []


def test_a_changed_setting_reruns_only_what_follows(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    run(store, *chain([]))
    calls: list[str] = []
    records = run(store, *chain(calls, sampler="other"))
    assert calls == ["sample"]
    assert (store.root / "artifacts" / records[-1].artifact / "text").read_text(encoding="utf-8") == "aatother"


def test_a_changed_source_reruns_everything(tmp_path: Path) -> None:
    store, calls = ArtifactStore(tmp_path), []
    stages = chain([])
    run(store, *stages)
    run(store, ToyStage("read", calls=calls, source="another file"), *chain(calls)[1:])
    assert calls == ["read", "train", "sample"]


@dataclass(frozen=True)
class NoisyStage(ToyStage):
    """Never makes the same again."""

    drawn_anew: ClassVar[bool] = True


def noisy_chain(calls: list[str], *, failure: BaseException | None = None) -> tuple[ToyStage, ...]:
    measured = NoisyStage("measure", ("rows",), calls=calls)
    trained = NoisyStage("train", ("measure", "start"), calls=calls, failure=failure)
    started, sampled = ToyStage("start", ("measure",), calls=calls), ToyStage("sample", ("train",), calls=calls)
    return NoisyStage("rows", calls=calls), measured, started, trained, sampled


@pytest.mark.parametrize(("gone", "made"), [("rows", "measure"), ("measure", "start"), ("train", "sample")])
def test_what_has_secret_noise_is_not_made_anew_below_what_was_made_of_it(tmp_path: Path, gone: str, made: str) -> None:
    store, calls = ArtifactStore(tmp_path), []
    run(store, *noisy_chain([]))
    [folder] = (tmp_path / "artifacts").glob(f"{gone}-made-*")
    shutil.rmtree(folder)
    with pytest.raises(ArtifactError, match=rf"{folder.name} is gone.*what was made of it is {made}-made-.*budgets"):
        run(store, *noisy_chain(calls))
    assert not calls


def test_work_that_began_with_other_noise_is_not_gone_on_with(tmp_path: Path) -> None:
    store, failure = ArtifactStore(tmp_path), TrainingError("killed")
    with pytest.raises(TrainingError):
        run(store, *noisy_chain([], failure=failure))
    [half] = (tmp_path / "work").glob("train-made-*/half")
    mark = half.with_name("first")
    mark.touch()
    with pytest.raises(TrainingError):
        run(store, *noisy_chain([], failure=failure))
    assert mark.exists(), "with the same noise it is"
    for folder in (tmp_path / "artifacts").glob("[ms]*"):  # measure and start
        shutil.rmtree(folder)
    with pytest.raises(TrainingError):
        run(store, *noisy_chain([], failure=failure))
    assert half.exists()
    assert not mark.exists()


def test_nor_where_the_first_stages_alone_are_run_before(tmp_path: Path) -> None:
    store, stages = ArtifactStore(tmp_path), noisy_chain([], failure=TrainingError("killed"))
    with pytest.raises(TrainingError):
        run(store, *stages)
    assert list((tmp_path / "work").glob("train-made-*"))
    for folder in (tmp_path / "artifacts").glob("[ms]*"):
        shutil.rmtree(folder)
    whole, reporter = resolve(stages, store), LineReporter(Console(quiet=True))
    list(execute(whole[:2], store, runtime=RUNTIME, reporter=reporter, cluster=Cluster(), whole=whole))
    assert not list((tmp_path / "work").glob("train-made-*"))


def test_a_changed_version_reruns(tmp_path: Path) -> None:
    store, calls = ArtifactStore(tmp_path), []
    run(store, ToyStage("read"))
    run(store, ToyStage("read", calls=calls, version=2))
    assert calls == ["read"]


def test_records_hold_cost_and_memory(tmp_path: Path) -> None:
    (record,) = run(ArtifactStore(tmp_path), ToyStage("read"))
    assert record.compute_seconds == 2.0
    assert record.peak_rss_mib["worker 0"] == 5.0
    assert record.peak_rss_mib["driver"] > 1


def test_a_failure_keeps_finished_stages_and_the_failed_ones_work(tmp_path: Path) -> None:
    store, calls = ArtifactStore(tmp_path), []
    read, train, sample = chain(calls)
    broken = ToyStage("train", ("read",), "t", calls=calls, failure=TrainingError("loss is not finite at step 3"))
    cluster = Cluster()
    with pytest.raises(TrainingError, match="step 3"):
        run(store, read, broken, sample, cluster=cluster)
    assert [path.name.split("-")[0] for path in (tmp_path / "artifacts").iterdir()] == ["read"]
    assert [path.name for path in (tmp_path / "work").glob("train*/*")] == ["half"]

    records = run(store, read, train, sample)
    assert calls == ["read", "train", "train", "sample"]
    assert [record.status for record in records] == ["reused", "ran", "ran"]
    assert list((tmp_path / "work").iterdir()) == []


def test_the_cluster_stops_when_a_stage_fails(tmp_path: Path) -> None:
    cluster = Cluster()
    stage = ToyStage("train", needs_cluster=True, failure=TrainingError("no"))
    with pytest.raises(TrainingError):
        run(ArtifactStore(tmp_path), stage, cluster=cluster)
    assert cluster.events == ["start", "stop"]


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), TrainingError("worker 0: No space left on device")],
)
def test_a_full_disk_in_a_stage_is_a_storage_error(tmp_path: Path, failure: Exception) -> None:
    with pytest.raises(StorageError, match="no space left"):
        run(ArtifactStore(tmp_path), ToyStage("read", failure=failure))
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_until_takes_either_spelling_and_names_the_stages() -> None:
    stages = (ToyStage("read"), ToyStage("fit-decoder"), ToyStage("sample"))
    assert [stage.name for stage in until(stages, "fit_decoder")] == ["read", "fit-decoder"]
    assert until(stages, None) == list(stages)
    with pytest.raises(ConfigError, match="--until trian: no such stage in this run; its stages are read"):
        until(stages, "trian")
