"""Where a bundle is: the folder that was given, or the newest bundle of an experiment."""

from __future__ import annotations

from pathlib import Path

from difflm.artifacts.kinds import BUNDLE_KIND
from difflm.artifacts.store import ArtifactStore
from difflm.errors import BundleError
from difflm.synthesis.bundle import read_facts


def bundle_folder(given: Path) -> Path:
    """The bundle in a folder: the folder itself, or the newest one of an experiment.

    Raises:
        BundleError: there is none, or it is of another version.
    """
    folder = given
    if not (given / "bundle.json").is_file() and (given / "artifacts").is_dir():
        bundles = [artifact for artifact in ArtifactStore(given).finished() if artifact.kind == BUNDLE_KIND]
        if not bundles:
            raise BundleError(f"{given}: this experiment has no bundle yet; run it up to the stage assemble")
        folder = bundles[-1].path
    read_facts(folder)
    return folder
