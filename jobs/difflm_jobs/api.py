"""Fit and load, from Python: the stages of an experiment run in this process, or on a cluster where one is given."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.api import Generator
from difflm.artifacts.atomic import write_bytes_atomic
from difflm.errors import ConfigError
from difflm.records.files.frames import TEMPLATE_NAME, Frame, FrameTemplate, is_path
from difflm.synthesis.arguments import texts
from difflm.synthesis.saved_sampling import read_sampling
from difflm.synthesis.synthesizer import SamplingConfig
from difflm_jobs.given_settings import privacy_settings, settings_of
from difflm_jobs.inputs.frame_files import INPUT, GivenFrame, TemporaryFolder, refuse_no_folder

if TYPE_CHECKING:
    from difflm_evaluators import Report
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.planning.choice import Choice

BUNDLED = "assemble"
"""The stage that ends a fit."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def fit(
    table: Frame | str | Path,
    target: str | None = None,
    config: str | Path | Mapping[str, Any] | ExperimentConfig | None = None,
    out: str | Path | None = None,
    cluster: str | None = None,
    progress: bool = True,
    *,
    kind: str = "table",
    constraints: Sequence[str] = (),
    quality: str | None = None,
    budget: str | None = None,
    epsilon: float | None = None,
    protect_unit: str | None = None,
) -> Generator:
    """Learn a table and return what writes new rows of it.

    Args:
        table: a pandas or polars DataFrame, a pyarrow Table, or the path of a table (or of tools, or code).
        target: the column that a model would predict; None for none.
        config: settings: a preset's name, a YAML file, a mapping such as ``{"decoder_fit": {"steps": 500}}`` (dotted
            keys too), or an `ExperimentConfig`. They are those of `difflm run`.
        out: the folder of the run. Called again with the same table, settings and folder, a fit that was killed goes
            on, and one that has ended is there at once. Without it the run is gone when the generator is.
        cluster: None computes in this process, without Ray; ``"auto"`` or an address (``"host:port"``) on a running
            Ray cluster, ``"local"`` on one that is started here.
        progress: show bars in a terminal or a notebook, lines elsewhere.
        kind: ``"table"``, ``"tools"`` or ``"code"``.
        constraints: what every row satisfies across columns, such as ``["start <= end", "total == n * unit"]``,
            beside the relations that are found (setting ``relations``: ``"auto"``, ``"off"`` or a list).
        quality: ``"fast"`` trains a third of the default steps, ``"balanced"`` all of them, ``"best"`` several times as
            many, with a larger decoder where the table has enough rows. Settings in ``config`` that you give yourself
            stay; those of a preset do not.
        budget: about how long the fit may take on this machine, such as ``"90s"``, ``"10m"`` or ``"1h30m"``: what can
            be trained in that time is chosen by a few steps tried out beforehand. With ``out`` a fit that was killed
            goes on with what was chosen.
        epsilon: differential privacy: of everything that is fitted to rows, together (settings ``privacy``).
        protect_unit: with it, the column that says whose a row is; without, every row is by itself.

    Raises:
        DataError: the table cannot be used, such as one without rows or without the target, or breaks a constraint.
        ConfigError: a setting cannot be used, or the budget is too small for anything; it says the least.
        TrainingError: training cannot go on.

    >>> import difflm, pandas
    >>> table = pandas.DataFrame({"age": [31, 45, 28, 60] * 40, "city": ["Rome", "Oslo", "Rome", "Lima"] * 40})
    >>> tiny = {"decoder": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64}}
    >>> tiny |= {"decoder_fit": {"steps": 60, "batch_size": 32, "clean_share": 0.1, "copied_below": 0.999}}
    >>> tiny |= {"autoencoder": {"steps": 30, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}}}
    >>> tiny |= {"prior": {"steps": 50, "width": 16, "blocks": 1}}  # seconds; leave settings out for a good model
    >>> generator = difflm.fit(table, config=tiny, progress=False)
    >>> rows = generator.sample(100, seed=7, columns=["city", "age"])
    >>> rows.columns.tolist(), set(rows["city"]) <= {"Rome", "Oslo", "Lima"}
    (['city', 'age'], True)
    """
    from difflm_jobs.planning.choice import Chooser, Wish

    kept = TemporaryFolder() if out is None else None
    folder = kept.path / "fit" if kept is not None else Path(str(out))
    if NAME.fullmatch(folder.name) is None:
        raise ConfigError(f"out: {folder}: its last part names the run; use letters, digits, '.', '_' and '-' only")
    if cluster is not None and not isinstance(cluster, str):
        raise ConfigError(f"cluster is {cluster!r}; give 'auto', 'local' or an address as text")
    target = None if target is None else str(target)  # a label of pandas may be a number
    frame = None if is_path(table) else GivenFrame.of(table, folder)
    given = str(table) if frame is None else str(frame.path)
    wish = Wish(quality=quality, budget=budget)
    private = privacy_settings(epsilon, protect_unit)
    kept_relations = texts(constraints, name="constraints")
    settings = settings_of(given, target, config, folder.name, kind, cluster, kept_relations, private)
    experiment = settings.experiment()
    _refuse_undrawable(experiment)
    refuse_no_folder(folder)
    if frame is not None:
        frame.lay_down(experiment.data.target)
    chooser = Chooser(settings=settings, runs=folder.parent, in_process=cluster is None, last=BUNDLED)
    choice = chooser.choose(wish, keep=True)
    experiment = choice.experiment
    run = _Run(choice=choice, folder=folder, in_process=cluster is None, progress=progress)
    bundle = run.bundle()
    if frame is not None:
        write_bytes_atomic(_template_folder(folder, bundle) / TEMPLATE_NAME, frame.template.dumped())
    return Generator(
        bundle,
        template=None if frame is None else frame.template,
        sampling=experiment.sampling,
        make_report=partial(run.report, bundle),
        kept=kept,
    )


def load(path: str | Path, *, signed_by: str | Path | None = None) -> Generator:
    """Open what a run, `Generator.save` or the stage `assemble` left in a folder. Of several fits in one folder it is
    the last that is opened.

    Args:
        path: the folder.
        signed_by: the file of a public key; a bundle that was not signed with it (`difflm sign`) is refused. The
            signature vouches for the bundle, not for the run around it.

    Raises:
        BundleError: nothing of the kind is there, it is of another version or damaged, or not signed with that key.
        ConfigError: no public key can be read, or signatures cannot be checked here.
    """
    from difflm.synthesis.signatures import read_public_key
    from difflm_jobs.inputs.models import find_bundle
    from difflm_jobs.pipeline.runlog import CONFIG_NAME, LOG_NAME

    folder = Path(path)
    signer = None if signed_by is None else read_public_key(Path(signed_by))
    bundle = find_bundle(_last_bundle(folder) or folder, signed_by=signer)
    run = None
    if (folder / LOG_NAME).is_file() and bundle.is_relative_to(folder):
        from difflm_jobs.loading import load_experiment
        from difflm_jobs.planning.choice import Choice

        experiment = load_experiment(str(folder / CONFIG_NAME))
        run = _Run(choice=Choice(experiment=experiment), folder=folder, in_process=True, progress=False)
    sampling = run.experiment.sampling if run is not None else read_sampling(folder)
    if signer is not None:
        sampling = (sampling or SamplingConfig()).model_copy(update={"signed_by": signer})
    return Generator(
        bundle,
        template=FrameTemplate.read(_template_folder(folder, bundle)) or FrameTemplate.read(folder),
        sampling=sampling,
        make_report=partial(run.report, bundle) if run is not None else None,
    )


def _last_bundle(folder: Path) -> Path | None:
    """Find the bundle that the last run of a folder made or found again; None where that is not known."""
    from difflm_jobs.pipeline.runlog import LOG_NAME, read_runs

    if not (folder / LOG_NAME).is_file():
        return None
    try:
        runs = read_runs(folder)
    except ValueError:  # a line that a killed process left unfinished
        return None
    stages = [stage for run in runs for stage in run.stages if stage.stage == BUNDLED]
    if stages and Path(stages[-1].artifact).name != stages[-1].artifact:
        return None  # a log from elsewhere leads to no other folder
    found = folder / "artifacts" / stages[-1].artifact if stages else folder
    return found if found != folder and found.is_dir() else None


def _refuse_undrawable(experiment: ExperimentConfig) -> None:
    """Refuse, before hours of training, what no row could be drawn with afterwards."""
    from difflm_jobs.pipeline.engine_check import check_engine, check_json

    check_engine(experiment.sampling, experiment.runtime)
    check_json(experiment.sampling, holds_json=experiment.data.record_kind.holds_json)


def _template_folder(run: Path, bundle: Path) -> Path:
    """Where the kind of frame is remembered that a bundle of a run was learned from."""
    return run / INPUT / bundle.name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
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
        from difflm_evaluators import Report

        return Report.read(self._finished_report(bundle) or self._artifact(REPORT_KIND, last=None))

    def _finished_report(self, folder: Path) -> Path | None:
        """Find a report that is there, for which the table itself is not needed any more."""
        from difflm.artifacts import ArtifactStore
        from difflm.artifacts.manifest import BUNDLE_KIND, REPORT_KIND

        finished = ArtifactStore(self.folder).finished()
        bundles = [artifact for artifact in finished if artifact.kind == BUNDLE_KIND]
        (bundle,) = [artifact.identity for artifact in bundles if artifact.path == folder]
        rows = {artifact.identity for artifact in finished if artifact.manifest.inputs.get("assemble") == bundle}
        reports = [
            artifact.path
            for artifact in finished
            if artifact.kind == REPORT_KIND and artifact.manifest.inputs.get("synthesize") in rows
        ]
        return reports[-1] if reports else None

    def _artifact(self, kind: str, *, last: str | None) -> Path:
        from rich.console import Console

        from difflm.seeding import random_state_kept
        from difflm_jobs.experiment import run_experiment
        from difflm_jobs.pipeline.progress import reporting
        from difflm_jobs.stages.stages import this_process

        with random_state_kept():
            _, artifacts = run_experiment(
                self.experiment,
                self.folder.parent,
                last=last,
                started=time.time(),
                reporting=partial(reporting, Console(stderr=True, quiet=not self.progress)),
                cluster=this_process if self.in_process else None,
                predicted=self.choice.times,
            )
        (found,) = [artifact.path for artifact in artifacts if artifact.kind == kind]
        return found
