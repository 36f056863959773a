"""Opening generators of runs, whose files may have been changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from difflm.artifacts import ArtifactStore
from difflm_jobs.opening import FitRun


def test_a_bundle_without_its_manifest_has_no_report(tmp_path: Path) -> None:
    """`difflm export` of a run that somebody tidied ended with a traceback."""
    store = ArtifactStore(tmp_path)
    with store.create("bundle", "a" * 64, version=1, config={}, inputs={}) as draft:
        (draft.path / "bundle.json").write_text("{}")
    folder = store.path("bundle", "a" * 64)
    run = FitRun(choice=cast("Any", None), folder=tmp_path, in_process=True, progress=False)
    assert run.found_report(folder) is None
    (folder / "manifest.json").unlink()
    assert run.found_report(folder) is None
