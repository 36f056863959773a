"""What is shown of a run: its stages, the headline scores, what Ray cost; and whether its files are whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from difflm.artifacts import Artifact, ArtifactStore, Manifest
from difflm.errors import ArtifactError, DataError, reason_of
from difflm.extras import has_extra, installed_by
from difflm_jobs.pipeline.runlog import HEADLINES, NOTICES, RunRecord, StageRecord, counted, read_runs

if TYPE_CHECKING:
    from rich.console import Console

    from difflm_evaluators.report.layout import VerdictEntry
    from difflm_jobs.planning.choice import Choice
    from difflm_jobs.rows.bundle_rows import RowsWritten
    from difflm_jobs.rows.verify_dataset import VerifiedDataset


def print_summary(console: Console, run: RunRecord, artifacts: Sequence[Artifact]) -> None:
    """Print the stages of a run, what was left out of it, and, when it was evaluated, its scores.

    What they come to stands last, where a terminal ends.

    Raises:
        ArtifactError: a manifest, which may have been changed, says something of another form.
    """
    try:
        console.print(stage_table(run.stages))
        for artifact in artifacts:
            for notice in artifact.manifest.facts.get(NOTICES, ()):
                console.print(f"{artifact.manifest.kind}: {notice}", highlight=False, soft_wrap=True, markup=False)
        for artifact in artifacts:
            scores = artifact.manifest.facts.get(HEADLINES)
            if scores:
                print_scores(console, scores)
        console.print(overhead_line(run), highlight=False, soft_wrap=True)
        if (expected := expected_line(run.stages)) is not None:
            console.print(expected, highlight=False, soft_wrap=True)
        for artifact in artifacts:
            if HEADLINES in artifact.manifest.facts:
                print_report_verdict(console, artifact.path)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = reason_of(error)
        folder = artifacts[0].path.parent.parent
        raise ArtifactError(f"{folder}: what its manifests say is of another form ({reason}); run it again") from error


def print_reports(console: Console, artifacts: Sequence[Artifact]) -> None:
    """Say where the reports among some artifacts are, and how they would have pictures."""
    for artifact in artifacts:
        page = artifact.path / "report.html"
        if page.exists():
            without = "" if has_extra("report") else f" (without pictures; {installed_by('report')} brings them)"
            console.print(f"report: {page}{without}", highlight=False, markup=False, soft_wrap=True)


def choice_line(choice: Choice) -> str:
    """Say in one line what was chosen for a quality or a budget, and how long it is expected to take."""
    from difflm_jobs.planning.quality import span_text
    from difflm_jobs.planning.times import whole

    settings = " ".join(f"{key}={value}" for key, value in choice.chosen.items()) or "the settings as they are"
    when = " (chosen by an earlier run of this command)" if choice.kept else ""
    time = f"; about {span_text(whole(choice.times))} in all" if choice.times else ""
    return f"chosen{when}: {settings}{time}"


def expected_line(stages: Sequence[StageRecord]) -> str | None:
    """Say what the stages that ran were expected to take, and took; None where nothing was predicted."""
    told = [(stage.predicted_seconds, stage.seconds) for stage in stages if stage.predicted_seconds is not None]
    if not told:
        return None
    expected, took = (sum(column) for column in zip(*told, strict=True))
    return f"expected {expected:,.1f} s for these stages, which took {took:,.1f} s ({took / max(expected, 1e-9):.2f})."


def stage_table(stages: Sequence[StageRecord]) -> Table:
    """Tabulate the stages; memory is that of the largest process."""
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("status")
    predicted = any(stage.predicted_seconds is not None for stage in stages)
    for name in (*(["expected"] if predicted else []), "seconds", "computing", "peak MiB"):
        table.add_column(name, justify="right")
    table.add_column("artifact", overflow="fold")
    for stage in stages:
        ran = stage.status == "ran"
        cells = (f"{stage.seconds:,.1f}", f"{stage.compute_seconds:,.1f}") if ran else ("-", "-")
        peak = f"{max(stage.peak_rss_mib.values()):,.0f}" if stage.peak_rss_mib else "-"
        expected = ["-" if stage.predicted_seconds is None else f"{stage.predicted_seconds:,.1f}"] if predicted else []
        table.add_row(stage.stage, stage.status, *expected, *cells, peak, stage.artifact, style=None if ran else "dim")
    return table


def print_report_verdict(console: Console, folder: Path) -> None:
    """Print what the report in a folder comes to; nothing where it cannot be read, which its scores do not need."""
    from difflm_evaluators.report.layout import read_report, readable
    from difflm_evaluators.report.verdict import verdict_of

    path = folder / "report.json"
    try:
        with readable(path):
            verdict = verdict_of(read_report(path))
    except DataError:
        return
    print_verdict(console, verdict)


def print_verdict(console: Console, verdict: VerdictEntry) -> None:
    """Print the three answers, each in its colour, and what to do about the worst."""
    from difflm_evaluators.report.verdict import verdict_lines

    colours = [_STYLES[answer.colour] for answer in verdict.answers]
    lines = verdict_lines(verdict)
    for line, style in zip(lines, [*colours, *[None] * len(verdict.advice)], strict=True):
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


_STYLES = {"green": "green", "amber": "yellow", "red": "bold red", "grey": "dim"}


def print_scores(console: Console, scores: Sequence[Mapping[str, Any]]) -> None:
    """Print the scores, and below them what no reader may miss."""
    console.print(score_table(scores))
    for score in scores:
        if score.get("warning"):
            console.print(f"warning: {score['warning']}", style="bold red", highlight=False, soft_wrap=True)


def score_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate the scores, with what real data reach beside it."""
    table = Table(title="Scores", title_justify="left")
    table.add_column("score")
    table.add_column("synthetic", justify="right")
    table.add_column("real data", justify="right")
    table.add_column("best")
    for score in scores:
        table.add_row(str(score["title"]), _value(score), _number(score, "baseline"), _best(score))
    return table


def overhead_line(run: RunRecord) -> str:
    """Say the wall time, the computing time, and their ratio."""
    if run.overhead is None:
        return f"{run.wall_seconds:,.1f} s, nothing had to run."
    return (
        f"{run.wall_seconds:,.1f} s of wall time for {run.compute_seconds:,.1f} s of the stages' own computing: "
        f"overhead {run.overhead:.2f} (1.00 is none)."
    )


def print_experiment(run: str, runs: Path, console: Console) -> None:
    """Print what the last run of an experiment that executed something did, and the stages it found finished.

    Raises:
        ConfigError: there is no such experiment.
        ArtifactError: it has no finished run, or an artifact of it was removed.
    """
    from difflm_jobs.experiment import find_experiment

    folder = find_experiment(run, runs)
    logged = read_runs(folder)
    finished = [record for record in logged if record.error is None]
    if not finished:
        last = logged[-1].error if logged else "it never began"
        raise ArtifactError(f"{folder}: no run has finished ({last}); run it again to go on")
    working = [record for record in finished if record.compute_seconds > 0] or finished
    shown = working[-1]
    artifacts = [_artifact(folder, stage) for stage in shown.stages]
    console.print(f"{folder}: run of {shown.started}, {len(logged)} in all", highlight=False, soft_wrap=True)
    print_summary(console, _with_costs(shown, artifacts), artifacts)


def _artifact(folder: Path, stage: StageRecord) -> Artifact:
    path = folder / "artifacts" / stage.artifact
    return Artifact(path=path, manifest=Manifest.read(path))


def _with_costs(run: RunRecord, artifacts: list[Artifact]) -> RunRecord:
    """Return the run with the memory that each artifact took when it was made."""
    stages = tuple(
        stage.model_copy(update={"peak_rss_mib": artifact.manifest.peak_rss_mib})
        for stage, artifact in zip(run.stages, artifacts, strict=True)
    )
    return run.model_copy(update={"stages": stages})


def verify_experiment(run: str, runs: Path, console: Console) -> None:
    """Hash every file of every artifact and compare with the manifests.

    Raises:
        ConfigError: there is no such experiment.
        ArtifactError: files are missing, changed or added; names the first and how many there are.
    """
    from difflm_jobs.experiment import find_experiment
    from difflm_jobs.pipeline.at_rest import holds_rows, shows_rows

    store = ArtifactStore(find_experiment(run, runs))
    artifacts = store.finished()
    problems = [problem for artifact in artifacts for problem in store.verify(artifact)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{problems[0]}{more}; remove the artifact's folder and run its stage again")
    files = sum(len(artifact.manifest.files) for artifact in artifacts)
    console.print(f"{store.root}: {len(artifacts)} artifacts, {files} files, all as written", highlight=False)
    rest = [*holds_rows(store.root)]
    for path, what in rest:
        console.print(f"holds real rows: {path.relative_to(store.root)}: {what}", highlight=False, soft_wrap=True)
    shown = [*shows_rows(store.root)]
    for path, setting in shown:
        line = f"shows some real rows: {path.relative_to(store.root)}: a report, which a purge leaves; {setting}"
        console.print(line, highlight=False, soft_wrap=True)
    if rest:
        console.print(f"difflm purge {run} removes what holds them", highlight=False, soft_wrap=True)
    elif not shown:
        console.print("nothing of it holds real rows", highlight=False, soft_wrap=True)


def _value(score: Mapping[str, Any]) -> str:
    if score.get("value") is None:
        return f"undefined: {score.get('undefined_because')}"
    return _number(score, "value") + (f" ± {error:.2g}" if (error := score.get("standard_error")) is not None else "")


def _number(score: Mapping[str, Any], key: str) -> str:
    from difflm_evaluators.report.rows import number_text

    return "-" if score.get(key) is None else number_text(score[key], score.get("unit") or "")


def _best(score: Mapping[str, Any]) -> str:
    """Say what a score is best at: a number, what real data get, or a direction."""
    ideal = score.get("ideal")
    if ideal is None:
        return str(score.get("direction"))
    if score.get("direction") == "target" and ideal == score.get("baseline"):
        return "real data's"
    return f"{ideal:.4g}{' %' if score.get('unit') == '%' else ''}"


def rows_line(written: RowsWritten) -> str:
    """Say in one line where rows were written and what became of all draws."""
    from difflm_jobs.rows.live_evaluation import SHOWN

    account = written.account
    line = f"{written.where}: {account['rows_emitted']:,} rows from {account['attempts']:,} draws"
    line += f", rejected: {counted(account['rejections'])}"
    if account["given_up_count"]:
        reasons = sorted({run["reason"] for run in account["given_up"]})
        shown_reasons = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
        line += f"; {account['given_up_count']:,} indices are left out ({shown_reasons})"
        if any("was valid" in reason for reason in reasons):
            line += f"; sampling.attempts is {written.attempts}"
    if scores := account.get("evaluation", {}).get("scores"):
        line += "; " + ", ".join(f"{name} {scores[name]:.3g}" for name in SHOWN if name in scores)
    return line


def verified_line(dataset: VerifiedDataset) -> str:
    """Say in one line what of a dataset was compared with what was written."""
    return (
        f"{dataset.where}: {dataset.parts:,} parts, all as written; indices 0 to {dataset.indices - 1:,}: "
        f"{dataset.rows:,} rows, {dataset.given_up:,} given up"
    )
