"""What to do about the worst answer of a verdict: commands and settings, the nearest first."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from difflm_evaluators.report.layout import Colour, Question, ReportFile
from difflm_evaluators.report.privacy import PROTECTED, privacy_findings
from difflm_evaluators.report.rows import worst_columns


def advice_on(
    report: ReportFile, worst: Question | None, colours: Mapping[Question, Colour], unmeasured: Question | None
) -> tuple[str, ...]:
    """List the next steps for the worst answer, or how to measure what was not; `code` stands between backquotes."""
    if worst == "private":
        return _private(report, red=colours["private"] == "red")
    if worst == "faithful":
        return _faithful(report)
    if worst == "useful":
        return _useful(report)
    return () if unmeasured is None else (_measure(report, unmeasured),)


def _faithful(report: ReportFile) -> tuple[str, ...]:
    if not report.columns:
        return (
            "Read some records below; a larger language model (`decoder.model`) or longer training helps.",
            _longer(report),
        )
    steps = [f"`difflm diagnose {_run(report)}` says which part loses it: the autoencoder, the prior or the decoder."]
    column = next(iter(worst_columns(report)), None)
    if column is not None:
        steps.append(
            f"Most differs in {_plain(repr(column['name']))} ({_plain(column['text'])}). `difflm inspect TABLE` says "
            "what the column is taken for, and the setting that changes it."
        )
    return (*steps, _longer(report))


def _useful(report: ReportFile) -> tuple[str, ...]:
    steps = []
    lacking = report.details("utility").get("classes_lacking") or []
    if lacking and report.target is not None:
        values, target = _plain(", ".join(map(repr, lacking[:3]))), _plain(report.target)
        command = f"difflm synthesize {_run(report)} --rows N --out rows.csv --balance {shlex.quote(target)}"
        steps.append(
            f"No synthetic row has {values} in {report.target!r}; `{command}` draws every value equally often."
        )
    steps.append(f"`difflm diagnose {_run(report)}` says which columns lost their relation to the target.")
    return (*steps, _longer(report))


def _private(report: ReportFile, *, red: bool) -> tuple[str, ...]:
    steps = ["Until this is mended, share the rows only with whom you would give the training rows."] if red else []
    if report.rows.test == 0:
        steps.append("`--test FILE` gives real rows that were not trained on: beside them it shows what is chance.")
    found = {finding.title for finding in privacy_findings(report) if finding.status in ("look", "warning")}
    if PROTECTED in found:
        steps.append(
            "Run again with `--protect on`, and without `off` in `protect.columns`: values that few training "
            "rows have are then left out of all that is learned."
        )
        if len(found) == 1:
            return tuple(steps)
    trained = _trained(report)
    fewer = "" if trained is None else f" or `--set {trained[0]}={max(1, trained[1] // 2)}`"
    steps.append(
        "Rows are learned by heart where they are few and training is long: give more rows, or train less "
        f"(`--quality fast`{fewer})."
    )
    if report.columns:
        gates = "--gate 'drop: exact_copies == 0' --gate 'drop: dcr_quantile >= 0.05'"
        command = f"difflm synthesize {_run(report)} --rows N --out rows.csv --evaluate {gates}"
        steps.append(f"`{command}` draws rows that are copies, or nearly, again.")
    return tuple(steps)


def _measure(report: ReportFile, question: Question) -> str:
    if not report.columns:
        return "`difflm downstream` and `difflm judge` measure what these records are good for; see the command's help."
    if question == "useful" and report.target is None:
        return "`--target COLUMN` names what a model should predict; then usefulness is measured, too."
    if report.rows.test == 0:
        return "`--test FILE` gives real rows that were not trained on; then this is measured, too."
    section = {"faithful": "detection", "useful": "utility", "private": "privacy"}[question]
    return f"More rows, or the setting `evaluation.{section}` where it is left out, would tell."


def _longer(report: ReportFile) -> str:
    trained = _trained(report)
    more = "" if trained is None else f", or `--set {trained[0]}={2 * trained[1]}` (it was {trained[1]:,})"
    return f"Train longer: `--quality best`{more}."


def _trained(report: ReportFile) -> tuple[str, int] | None:
    """Return the setting that bounds the training of what writes the records, and its value; None if unknown.

    A pretrained decoder is not fitted: what steers it is. Of few rows epochs are the bound, not steps.
    """
    decoder: Any = report.settings.get("decoder")
    pretrained = isinstance(decoder, Mapping) and decoder.get("kind") == "pretrained"
    section = "autoencoder" if pretrained else "decoder_fit"
    trained: Any = report.settings.get(section)
    steps, epochs, batch = (
        trained.get(key) if isinstance(trained, Mapping) else None for key in ("steps", "epochs", "batch_size")
    )
    if not isinstance(steps, int):
        return None
    if isinstance(epochs, int | float) and isinstance(batch, int) and epochs * report.rows.train < steps * batch:
        return f"{section}.epochs", round(epochs)
    return f"{section}.steps", steps


def _run(report: ReportFile) -> str:
    """Return the run that a report is of, as the command line takes it."""
    return shlex.quote(f"runs/{report.title}") if report.settings.get("name") == report.title else "RUN"


def _plain(text: str) -> str:
    """Return a text of the data without backquotes, which would begin code."""
    return text.replace("`", "'")
