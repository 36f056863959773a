"""A stage: one step of the pipeline that turns artifacts into one artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from difflm.artifacts import Artifact
from difflm.telemetry import JSON

if TYPE_CHECKING:
    from difflm.runtime.compute import Compute

Report = Callable[[float, float | None, str], None]
"""Progress: how much is done, of how much (None: not known), and what is being done, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """What a stage may use while it runs.

    ``inputs`` maps the name of each input stage to its artifact. ``output`` is the folder that becomes the stage's own
    artifact. ``work`` survives a killed run: checkpoints, events and finished shards belong there. ``start_cluster``
    gives what computes: this process, or a Ray cluster that is started or joined on the first call of a run.
    """

    inputs: Mapping[str, Artifact]
    output: Path
    work: Path
    report: Report
    start_cluster: Callable[[], Compute]

    def input(self, name: str) -> Path:
        """The folder of an input's artifact."""
        return self.inputs[name].path


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutcome:
    """What a stage knows about its own work.

    ``compute_seconds`` is the time its own computing took, without starting processes; None means all of its wall
    time. ``peak_rss_mib`` holds the largest resident memory in MiB of the processes it used, besides the driver.
    ``facts`` are the few figures worth showing, such as rows or losses.
    """

    compute_seconds: float | None = None
    peak_rss_mib: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, JSON] = field(default_factory=dict)


class Stage(Protocol):
    """One step of the pipeline, built with its configuration."""

    @property
    def name(self) -> str:
        """The verb, such as ``train-diffusion``."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever the same configuration and inputs would give another artifact."""
        ...

    @property
    def output(self) -> str:
        """The kind of its artifact."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the stages whose artifacts it reads."""
        ...

    def section(self) -> Mapping[str, JSON]:
        """The part of the configuration that its artifact depends on, seed included."""
        ...

    def sources(self) -> Mapping[str, str]:
        """Hashes of what it reads from outside the experiment, by name.

        Raises:
            UserError: something it reads is missing.
        """
        ...

    def run(self, context: StageContext) -> StageOutcome:
        """Do the work and fill ``context.output``; called again after a kill, it goes on from ``context.work``."""
        ...
