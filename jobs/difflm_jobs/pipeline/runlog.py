"""What is remembered of a run: one line per run in ``runs.jsonl``, with what each stage did and cost.

The environment of a run: versions, processors and memory that its figures depend on.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from difflm.artifacts import Artifact
from difflm.errors import ArtifactError
from difflm.telemetry import JSON, append_event, host_facts, read_events

CONFIG_NAME = "config.yaml"
"""In the folder of an experiment: its configuration, with every default written out."""
HEADLINES = "headlines"
"""Among the facts of a report's artifact: its scores, as the summary of a run shows them."""
NOTICES = "notices"
"""Among the facts of an artifact: what was left out or cut, in sentences that the summary of a run shows."""

DISTRIBUTIONS = (
    *("difflm", "ray", "torch", "transformers", "tokenizers", "deepspeed", "peft"),
    *("pyarrow", "numpy", "scipy", "scikit-learn", "xgboost"),
)


def describe_environment() -> dict[str, JSON]:
    """Return versions of what computes, and the machine's size; no name of a person, a host or a folder."""
    return {
        **host_facts(),
        "processors_usable": len(os.sched_getaffinity(0)),
        "memory_mib": round(psutil.virtual_memory().total / 2**20),
        "versions": {name: _version(name) for name in DISTRIBUTIONS},
    }


def counted(counts: Mapping[str, int]) -> str:
    """Write how many of each, as "3 length, 1 syntax", or "none"."""
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "none"


def _version(name: str) -> str | None:
    for distribution in (name, f"{name}-cpu"):  # some have another name where they come without CUDA
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


LOG_NAME = "runs.jsonl"

Status = Literal["ran", "reused"]


class StageRecord(BaseModel):
    """What one stage did in one run.

    ``seconds`` is its wall time in this run, ``compute_seconds`` its own computing time (both 0 when its artifact was
    reused), ``predicted_seconds`` what was expected of the former, where something was; ``peak_rss_mib`` maps each
    process to its largest resident memory in MiB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    status: Status
    seconds: float
    compute_seconds: float
    peak_rss_mib: dict[str, float]
    artifact: str
    predicted_seconds: float | None = None

    @staticmethod
    def of(stage: str, status: Status, artifact: Artifact, *, seconds: float) -> StageRecord:
        """Describe a stage by the artifact it made or found."""
        manifest = artifact.manifest
        return StageRecord(
            stage=stage,
            status=status,
            seconds=seconds,
            compute_seconds=manifest.compute_seconds if status == "ran" else 0.0,
            peak_rss_mib=manifest.peak_rss_mib,
            artifact=artifact.path.name,
        )


class RunRecord(BaseModel):
    """One run: when it began, how long the whole process took, what its stages did, and how it ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    started: str
    wall_seconds: float
    stages: tuple[StageRecord, ...]
    error: str | None = None

    @property
    def compute_seconds(self) -> float:
        """Sum up the stages' own computing time in this run."""
        return sum(stage.compute_seconds for stage in self.stages)

    @property
    def overhead(self) -> float | None:
        """Divide wall time by computing time: 1.0 means that nothing was lost to starting processes; None: none ran."""
        return self.wall_seconds / self.compute_seconds if self.compute_seconds > 0 else None

    def append(self, experiment: Path) -> None:
        """Add this run to the experiment's log."""
        append_event(experiment / LOG_NAME, self.model_dump(mode="json"))


def read_runs(experiment: Path) -> list[RunRecord]:
    """Read all runs of an experiment, oldest first.

    Raises:
        ArtifactError: its log is none; names the file and what is wrong.
    """
    path = experiment / LOG_NAME
    try:
        return [RunRecord.model_validate(event) for event in read_events(path)]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "a line"
        raise ArtifactError(f"{path}: {place}: {first['msg']}; remove the line") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: a line is no JSON ({error}); remove it") from None
