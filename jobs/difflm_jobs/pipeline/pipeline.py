"""The pipeline: stages in order, those whose artifact exists left out, the rest run and recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from difflm.artifacts import Artifact, ArtifactStore
from difflm.artifacts.atomic import remove_tree
from difflm.errors import ArtifactError, ConfigError
from difflm.telemetry import Stopwatch, peak_rss_mib, reset_peak_rss
from difflm_jobs.inputs.given_tables import PRIVATE_ROWS
from difflm_jobs.pipeline.progress import Reporter
from difflm_jobs.pipeline.runlog import StageRecord
from difflm_jobs.pipeline.stage import Stage, StageContext, section

if TYPE_CHECKING:
    from difflm_jobs.config import RuntimeConfig

if TYPE_CHECKING:
    from difflm.runtime.compute import Compute

T = TypeVar("T")
ClusterFactory = Callable[[], AbstractContextManager["Compute"]]
"""Gives what computes, for as long as the context is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stage with the identity of what it makes, known before anything runs."""

    stage: Stage
    identity: str
    inputs: dict[str, str]


@dataclass(slots=True)
class _LazyCluster:
    """What computes in a run: opened when the first stage asks for it, and kept for all that follow."""

    factory: ClusterFactory
    stack: ExitStack
    compute: Compute | None = field(default=None)

    def start(self) -> Compute:
        if self.compute is None:
            self.compute = self.stack.enter_context(self.factory())
        return self.compute


def until(stages: Sequence[Stage], name: str | None) -> list[Stage]:
    """Return the stages up to and including the one called ``name``; all of them for None.

    Raises:
        ConfigError: no stage has this name.
    """
    if name is None:
        return list(stages)
    names = [stage.name for stage in stages]
    wanted = name.replace("_", "-")
    if wanted not in names:
        raise ConfigError(f"--until {name}: no such stage in this run; its stages are {', '.join(names)}")
    return list(stages[: names.index(wanted) + 1])


def resolve(stages: Sequence[Stage], store: ArtifactStore) -> list[Step]:
    """Work out the identity of every stage's artifact from its configuration and sources, without running anything.

    Raises:
        UserError: a file that a stage reads is missing.
    """
    steps: list[Step] = []
    known: dict[str, str] = {}
    for stage in stages:
        sources = dict(stage.sources())
        if stage.name == PRIVATE_ROWS:
            sources = {name: store.secret.keyed(value) for name, value in sources.items()}
        inputs = {name: known[name] for name in stage.inputs} | sources
        identity = store.identify(stage.output, stage.version, section(stage), inputs)
        known[stage.name] = identity
        steps.append(Step(stage=stage, identity=identity, inputs=inputs))
    return steps


def execute(
    steps: Sequence[Step],
    store: ArtifactStore,
    *,
    runtime: RuntimeConfig,
    reporter: Reporter,
    cluster: ClusterFactory,
    whole: Sequence[Step] | None = None,
) -> Iterator[tuple[StageRecord, Artifact]]:
    """Run what is missing, in order; yield the record and the artifact of each stage as soon as it is there.

    `whole` are all steps of a run of which these are the first.

    Raises:
        ArtifactError: what would be drawn anew is what others were made of (see `_refuse_another_draw`).
    """
    _refuse_another_draw(steps, store, whole or steps)
    artifacts: dict[str, Artifact] = {}
    reused: set[str] = set()
    with ExitStack() as stack:
        place = _Place(runtime=runtime, cluster=_LazyCluster(cluster, stack))
        for step in steps:
            name, kind = step.stage.name, step.stage.output
            found = store.find(kind, step.identity)
            if found is None:
                for given in step.stage.inputs:
                    if given in reused:  # what this run made itself was hashed a moment ago
                        store.check(artifacts[given])
                        reused.discard(given)
                with Stopwatch() as watch:
                    found = _run(step, store, artifacts, reporter, place)
                record = StageRecord.of(name, "ran", found, seconds=watch.seconds)
            else:
                record = StageRecord.of(name, "reused", found, seconds=0.0)
                reporter.reused(name)
                reused.add(name)
            artifacts[name] = found
            yield record, found


def _refuse_another_draw(steps: Sequence[Step], store: ArtifactStore, whole: Sequence[Step]) -> None:
    """Refuse to make anew what comes out differently every time, while there is what was made of it: with differential
    privacy a bundle would be of two measurements, whose budgets add up, and say that it is of one. Work under way that
    began with what is gone is removed, also of steps of the `whole` run that are not taken now.

    Raises:
        ArtifactError: names what is gone, and what was made of it.
    """
    gone = {  # by identity, and below what follows from them
        step.identity: store.path(step.stage.output, step.identity).name
        for step in steps
        if getattr(step.stage, "drawn_anew", False) and store.find(step.stage.output, step.identity) is None
    }
    if not gone:
        return
    made = _made_of(gone, [(one.identity, one.manifest.inputs, one.path.name) for one in store.finished()])
    if made:
        raise ArtifactError(
            f"{store.root / 'artifacts'}: {gone[next(iter(gone))]} is gone, and would not come back as it was, for it "
            f"has secret noise in it; what was made of it is {', '.join(made)}: draw from the bundle, if there is one, "
            "give another --name, or remove these, too; where such a bundle was given out, the budgets of both add up"
        )
    works = [(one.identity, one.inputs, one) for one in whole]
    for step in _made_of(gone, works):
        remove_tree(store.work(step.stage.output, step.identity))


def _made_of(gone: Collection[str], known: Sequence[tuple[str, Mapping[str, str], T]]) -> list[T]:
    """Return what follows from some identities, of things in the order in which they are made."""
    follow, found = set(gone), list[T]()
    for identity, inputs, thing in known:
        if not follow.isdisjoint(inputs.values()):
            follow.add(identity)
            found.append(thing)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the stages run."""

    runtime: RuntimeConfig
    cluster: _LazyCluster


def _run(
    step: Step, store: ArtifactStore, artifacts: dict[str, Artifact], reporter: Reporter, place: _Place
) -> Artifact:
    stage = step.stage
    config = section(stage)
    reset_peak_rss()
    with (
        reporter.stage(stage.name) as report,
        _work(store, step),
        store.create(stage.output, step.identity, version=stage.version, config=config, inputs=step.inputs) as draft,
    ):
        outcome = stage.run(
            StageContext(
                inputs={name: artifacts[name] for name in stage.inputs},
                output=draft.path,
                work=store.work(stage.output, step.identity),
                report=report,
                runtime=place.runtime,
                start_cluster=place.cluster.start,
            )
        )
        draft.compute_seconds = outcome.compute_seconds
        draft.peak_rss_mib = {"driver": peak_rss_mib(), **outcome.peak_rss_mib}
        draft.facts = dict(outcome.facts)
    made = store.find(stage.output, step.identity)
    assert made is not None, "a created artifact is found"
    return made


@contextmanager
def _work(store: ArtifactStore, step: Step) -> Iterator[None]:
    """Make the stage's work folder; remove it again after a failure that left nothing in it."""
    work = store.work(step.stage.output, step.identity)
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if work.exists() and not any(work.iterdir()):
            work.rmdir()
        raise
