"""What is shown of a run whose manifests somebody changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difflm.artifacts import Artifact, Manifest
from difflm.errors import ArtifactError
from difflm_jobs.cli.summary import print_summary
from difflm_jobs.console import PrintableConsole
from difflm_jobs.pipeline.runlog import HEADLINES, NOTICES, RunRecord


@pytest.mark.parametrize("facts", [{HEADLINES: [{"value": 1}]}, {HEADLINES: 7}, {NOTICES: 7}, {HEADLINES: [7]}])
def test_facts_of_another_form_are_an_error_that_names_the_run(tmp_path: Path, facts: dict[str, Any]) -> None:
    """`difflm run` that finds its artifacts again shows them, too, and ended with a traceback."""
    given: dict[str, Any] = {"kind": "report", "stage_version": 1, "identity": "x", "config": {}, "inputs": {}}
    given |= {"files": {}, "created": "", "seconds": 1.0, "compute_seconds": 1.0, "peak_rss_mib": {}, "host": {}}
    artifact = Artifact(path=tmp_path / "artifacts" / "report-x", manifest=Manifest(**given, facts=facts))
    run = RunRecord(started="now", wall_seconds=1.0, stages=())
    with pytest.raises(ArtifactError, match=f"{tmp_path}: what its manifests say is of another form"):
        print_summary(PrintableConsole(quiet=True), run, [artifact])
