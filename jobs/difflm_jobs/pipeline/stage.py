"""A stage: one step of the pipeline that turns artifacts into one artifact.

A stage is a frozen dataclass whose fields are its configuration, and all that it may read of one. What is hashed into
the identity of its artifact is derived from these fields (`section`), so that no stage can read what it does not hash.
Where and on how much it runs comes with `StageContext.runtime`, and changes no identity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from pydantic import BaseModel

from difflm.artifacts import Artifact
from difflm.telemetry import JSON

if TYPE_CHECKING:
    from difflm.runtime.compute import Compute
    from difflm_jobs.config import RuntimeConfig

Report = Callable[[float, float | None, str], None]
"""Progress: how much is done, of how much (None: not known), and what is being done, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """What a stage may use while it runs.

    ``inputs`` maps the name of each input stage to its artifact. ``output`` is the folder that becomes the stage's own
    artifact. ``work`` survives a killed run: checkpoints, events and finished shards belong there. ``runtime`` says
    where and on how much to run. ``start_cluster`` gives what computes: this process, or a Ray cluster that is started
    or joined on the first call of a run.
    """

    inputs: Mapping[str, Artifact]
    output: Path
    work: Path
    report: Report
    runtime: RuntimeConfig
    start_cluster: Callable[[], Compute]

    def input(self, name: str) -> Path:
        """Return the folder of an input's artifact."""
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
    """One step of the pipeline: a frozen dataclass that holds its part of the configuration and nothing else.

    One that has secret noise in what it makes, and so never makes the same again, says so by `drawn_anew`, True.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str:
        """Return the verb, such as ``train-diffusion``."""
        ...

    @property
    def version(self) -> int:
        """Return a number that rises whenever the same configuration and inputs would give another artifact."""
        ...

    @property
    def output(self) -> str:
        """Return the kind of its artifact."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the stages whose artifacts it reads."""
        ...

    def sources(self) -> Mapping[str, str]:
        """Return hashes of what it reads from outside the experiment, by name.

        Raises:
            UserError: something it reads is missing.
        """
        ...

    def run(self, context: StageContext) -> StageOutcome:
        """Do the work and fill ``context.output``; called again after a kill, it goes on from ``context.work``."""
        ...


_APART: Final = "apart"


def apart(*keys: str) -> dict[str, Any]:
    """Return the metadata of a stage's field that is not hashed as it stands: whole, or its dotted ``keys`` alone.

    For paths whose content is hashed among the stage's sources instead, for limits that end a run or change nothing,
    and for nothing that changes an artifact.
    """
    return {_APART: keys}


def section(stage: Stage) -> dict[str, JSON]:
    """Return what a stage holds, as plain values: the part of the configuration that its artifact depends on."""
    held = {each.name: each.metadata.get(_APART) for each in fields(stage)}
    return {name: _plain(getattr(stage, name), keys or ()) for name, keys in held.items() if keys != ()}


def _plain(value: object, left_out: Collection[str] = ()) -> JSON:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, BaseModel):
        found: dict[str, JSON] = value.model_dump(mode="json", exclude=_tree(left_out))
        return found
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if key not in left_out}
    if is_dataclass(value):  # a stage that another one builds upon
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    assert isinstance(value, Sequence), f"a stage holds sections of a configuration, not {type(value).__name__}"
    return [_plain(each) for each in value]


def _tree(keys: Collection[str]) -> dict[str, Any]:
    """Return dotted keys as pydantic has them: `a.b` as `{a: {b}}`."""
    found: dict[str, Any] = {}
    for key in keys:
        section, _, rest = key.partition(".")
        found[section] = {**found.get(section, {}), **_tree([rest])} if rest else True
    return found
