"""Data at rest: what of a run holds real rows, and removing it.

The table itself is not the run's: it stays where it was given. A purged run can be drawn from, served and shown; run
again, it is made anew from the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from difflm.artifacts import ArtifactStore
from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.artifacts.manifest import BUNDLE_KIND, MANIFEST_NAME, REPORT_KIND
from difflm.artifacts.run_folder import INPUT, ROUNDS, SECRET, artifact_folders, laid_down_tables
from difflm.regular_files import read_file
from difflm.telemetry import parse_json

SYNTHETIC_KIND: Final = "synthetic"
_KEPT: Final = frozenset({BUNDLE_KIND, REPORT_KIND, SYNTHETIC_KIND})
_HOLDS: Final[Mapping[str, str]] = {
    "table": "the real rows: training, validation and test splits",
    "latents": "an encoding of every training row",
}
_SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    "nearest": ("pairs", "evaluation.privacy.show_nearest=false leaves them out"),
    "samples": ("real_test", "language.samples=0 leaves them out"),
}
"""The evaluations of a report that show real rows, in which of their details, and the setting that shows none."""
_CHECKPOINT: Final = "a checkpoint of training, with its log"


def holds_rows(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the parts of a run that hold real rows, or what is fitted to single rows, with what they are."""
    for artifact in ArtifactStore(folder).finished():
        if artifact.kind not in _KEPT:
            yield artifact.path, _HOLDS.get(artifact.kind, _CHECKPOINT)
    for path in artifact_folders(folder):
        if path.parent.name == "work":
            yield path, "what an unfinished stage has written: checkpoints, logs and parts"
        elif path.is_dir() and not (path / MANIFEST_NAME).exists():  # a removal was killed: it began with the manifest
            yield path, "what is left of an artifact"
    for path in laid_down_tables(folder, INPUT):
        yield path, "the table that was given from Python"
    for path in laid_down_tables(folder, ROUNDS):
        yield path, "real rows beside synthetic ones, as a round was trained on"


def shows_rows(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the reports of a run that show real rows to a reader, with the setting that left them in; a purge leaves
    reports.
    """
    for artifact in ArtifactStore(folder).finished():
        if artifact.kind != REPORT_KIND:
            continue
        with suppress(
            OSError, ValueError, TypeError, KeyError, AttributeError
        ):  # of another version, or none that a run wrote
            report = parse_json(read_file(artifact.path / "report.json"))
            details = {str(one["name"]): one["details"] for one in report["evaluations"]}
            for name, (part, setting) in _SHOWN.items():
                if details.get(name, {}).get(part):
                    yield artifact.path, setting


def purge_run(folder: Path) -> list[str]:
    """Remove from a run all but bundles, synthetic rows, reports and the log of its runs; return what is gone.

    Raises:
        ArtifactError: another process is running this experiment.
        StorageError: something cannot be removed.
    """
    store = ArtifactStore(folder)
    removed: list[str] = []
    with store.exclusive(), storage_errors(folder):
        for path, _ in list(holds_rows(folder)):
            remove_tree(path)
            removed.append(path.name)
        (folder / SECRET).unlink(missing_ok=True)  # with it a bundle's identity tells of rows that were guessed
    return removed
