"""Open generators: those of a run in a folder, with its report, and those that were saved, in whichever form."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.api import Generator
from difflm.artifacts.manifest import SCORES_NAME
from difflm.artifacts.run_folder import INPUT
from difflm.errors import ArtifactError
from difflm.records.frames.frames import FrameTemplate
from difflm.records.schema import read_schema
from difflm.regular_files import given_path
from difflm.synthesis.saved_sampling import read_sampling
from difflm.synthesis.synthesizer import SamplingConfig
from difflm_evaluators import Report

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.planning.choice import Choice

BUNDLED = "assemble"
"""The stage that ends a fit."""


def load(path: str | Path, *, signed_by: str | Path | None = None) -> Generator:
    """Open what a run, `Generator.save` or the stage `assemble` left in a folder, or what `Generator.save` and `difflm
    export` left in a file. Of several fits in one folder it is the last that is opened.

    Args:
        path: the folder, the file, or a repository of a hub, ``"hf://owner/name"`` or ``"hf://owner/name@revision"``.
        signed_by: the file of a public key; a bundle that was not signed with it (`difflm sign`) is refused. The
            signature vouches for the bundle, not for the run around it.

    Raises:
        BundleError: nothing of the kind is there, it is of another version or damaged, or not signed with that key.
        ConfigError: no public key can be read, or signatures cannot be checked here.
    """
    from difflm.synthesis.sharing.places import local_folder
    from difflm.synthesis.signatures import read_public_key
    from difflm_jobs.inputs.models import find_bundle
    from difflm_jobs.pipeline.runlog import CONFIG_NAME, LOG_NAME

    folder = local_folder(path)
    signer = None if signed_by is None else read_public_key(given_path(signed_by, name="signed_by"))
    bundle = find_bundle(_last_bundle(folder) or folder, signed_by=signer)
    run = None
    if (folder / LOG_NAME).is_file() and bundle != folder and bundle.is_relative_to(folder):
        from difflm_jobs.loading import load_experiment
        from difflm_jobs.planning.choice import Choice

        experiment = load_experiment(str(folder / CONFIG_NAME))
        run = FitRun(choice=Choice(experiment=experiment), folder=folder, in_process=True, progress=False)
    sampling = run.experiment.sampling if run is not None else read_sampling(folder)
    if signer is not None:
        sampling = (sampling or SamplingConfig()).model_copy(update={"signed_by": signer})
    carried = partial(Report.read, bundle / SCORES_NAME) if (bundle / SCORES_NAME).is_file() else None
    template = FrameTemplate.read(template_folder(folder, bundle)) or FrameTemplate.read(folder)
    return Generator(
        bundle,
        template=None if template is None else template.kept(read_schema(bundle)),
        sampling=sampling,
        make_report=partial(run.report, bundle) if run is not None else carried,
        find_report=partial(run.found_report, bundle) if run is not None else carried,
    )


def _last_bundle(folder: Path) -> Path | None:
    """Find the bundle that the last run of a folder made or found again; None where that is not known."""
    from difflm_jobs.pipeline.runlog import LOG_NAME, read_runs

    if not (folder / LOG_NAME).is_file() or (folder / "bundle.json").is_file():
        return None  # a bundle's own folder is no run, whatever lies in it
    try:
        runs = read_runs(folder)
    except ArtifactError:  # a line that a killed process left unfinished
        return None
    stages = [stage for run in runs for stage in run.stages if stage.stage == BUNDLED]
    if stages and Path(stages[-1].artifact).name != stages[-1].artifact:
        return None  # a log from elsewhere leads to no other folder
    found = folder / "artifacts" / stages[-1].artifact if stages else folder
    return found if found != folder and found.is_dir() else None


def template_folder(run: Path, bundle: Path) -> Path:
    """Where the kind of frame is remembered that a bundle of a run was learned from."""
    return run / INPUT / bundle.name


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRun:
    """A run in a folder of its own, and where its stages compute."""

    choice: Choice
    folder: Path
    in_process: bool
    progress: bool

    @property
    def experiment(self) -> ExperimentConfig:
        """The settings of the run."""
        return self.choice.experiment

    def bundle(self) -> Path:
        """Run what is missing up to the bundle; returns its folder."""
        from difflm.artifacts.manifest import BUNDLE_KIND

        return self._artifact(BUNDLE_KIND, last=BUNDLED)

    def report(self, bundle: Path) -> Report:
        """Read the report of a bundle of this run; where it is missing, run what leads to it."""
        from difflm.artifacts.manifest import REPORT_KIND

        return Report.read(self._finished_report(bundle) or self._artifact(REPORT_KIND, last=None))

    def found_report(self, bundle: Path) -> Report | None:
        """Read the report of a bundle of this run where it is there already."""
        finished = self._finished_report(bundle)
        return None if finished is None else Report.read(finished)

    def _finished_report(self, folder: Path) -> Path | None:
        """Find a report that is there, for which the table itself is not needed any more."""
        from difflm.artifacts import ArtifactStore
        from difflm.artifacts.manifest import BUNDLE_KIND, REPORT_KIND

        finished = ArtifactStore(self.folder).finished()
        bundles = [artifact for artifact in finished if artifact.kind == BUNDLE_KIND]
        bundle = next((artifact.identity for artifact in bundles if artifact.path == folder), None)
        if bundle is None:  # its manifest is gone, and with it what a report would be found by
            return None
        rows = {artifact.identity for artifact in finished if artifact.manifest.inputs.get("assemble") == bundle}
        reports = [
            artifact.path
            for artifact in finished
            if artifact.kind == REPORT_KIND and artifact.manifest.inputs.get("synthesize") in rows
        ]
        return reports[-1] if reports else None

    def _artifact(self, kind: str, *, last: str | None) -> Path:
        from difflm.seeding import random_state_kept
        from difflm_jobs.console import PrintableConsole
        from difflm_jobs.experiment import run_experiment
        from difflm_jobs.pipeline.progress import reporting
        from difflm_jobs.stages.stages import this_process

        with random_state_kept():
            _, artifacts = run_experiment(
                self.experiment,
                self.folder.parent,
                last=last,
                started=time.time(),
                reporting=partial(reporting, PrintableConsole(stderr=True, quiet=not self.progress)),
                cluster=this_process if self.in_process else None,
                predicted=self.choice.times,
            )
        (found,) = [artifact.path for artifact in artifacts if artifact.kind == kind]
        return found
