"""Reports side by side: every score of every run, the best, and which differences from the first run are sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from difflm.errors import DataError
from difflm.telemetry import JSON
from difflm_evaluators.report.layout import ReportFile, ScoreEntry
from difflm_evaluators.report.significance import evidence, holm, significance_of

LEVEL = 0.05
OTHER_ROWS = "not tested because the real rows are others"
NO_DETAILS = "not tested because one of the two reports lacks the details behind this score"
OTHER_SETTINGS = "not tested because the settings of the evaluation differ"
INDIFFERENT = ("threads", "show_nearest")  # settings that change no score

Verdict = Literal["better", "worse", "no difference shown", "undefined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A score of one run beside that of the first: p-values are two-sided, `p_holm` is for all tests together."""

    p_value: float | None
    p_holm: float | None
    method: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedScore:
    """One score in every run (None: not evaluated); `best` are places of runs, `differences` those after the first."""

    name: str
    title: str
    meaning: str
    unit: str
    direction: str
    ideal: float | None
    entries: tuple[ScoreEntry | None, ...]
    best: tuple[int, ...]
    differences: tuple[Difference, ...]


def compared_scores(reports: Mapping[str, ReportFile]) -> tuple[tuple[ComparedScore, ...], tuple[str, ...]]:
    """Compare the scores of reports, by label, with those of the first; and say what a reader has to know first.

    Raises:
        DataError: fewer than two reports, or reports of tables with other columns, another target or task.
    """
    labels, entries = tuple(reports), tuple(reports.values())
    if len(entries) < 2:
        raise DataError(f"{len(entries)} report to compare; give two or more")
    for label, report in reports.items():
        _require_same_table(labels[0], entries[0], label, report)
    others = [label for label in labels if not _same_rows(entries[0], reports[label])]
    names = dict.fromkeys(name for report in entries for name in report.scores)
    scores = _with_holm([_compared(name, entries) for name in names])
    return tuple(scores), tuple(_notes(labels[0], others))


def _require_same_table(first_label: str, first: ReportFile, label: str, report: ReportFile) -> None:
    for what in ("columns", "target", "task"):
        mine, theirs = (getattr(one, what) for one in (first, report))
        if mine != theirs:
            if what == "columns":
                names = sorted({name for name, _ in set(mine.items()) ^ set(theirs.items())})
                differ = f"column {names[0]!r} is in one only or of another kind"
            else:
                differ = f"{what} is {mine!r} and {theirs!r}"
            raise DataError(
                f"{first_label} and {label} are about different tables ({differ}); compare runs of one table"
            )


def _same_rows(first: ReportFile, report: ReportFile) -> bool:
    return first.real == report.real


def _notes(first: str, others: Sequence[str]) -> list[str]:
    if not others:
        return []
    listed = ", ".join(others)
    return [
        f"The real rows of {listed} are not those of {first} (other splits, or another file). Their scores stand side "
        "by side, but no difference is tested: it could be that of the real rows."
    ]


def _compared(name: str, reports: Sequence[ReportFile]) -> ComparedScore:
    entries = tuple(report.scores.get(name) for report in reports)
    about = next(entry for entry in entries if entry is not None)
    differences = tuple(_difference(name, reports[0], report) for report in reports[1:])
    comparable = all(_same_rows(reports[0], report) for report in reports[1:])
    return ComparedScore(
        name=name,
        title=about.title,
        meaning=about.meaning,
        unit=about.unit,
        direction=about.direction,
        ideal=about.ideal,
        entries=entries,
        best=_best(entries) if comparable else (),
        differences=differences,
    )


def distance_from_best(entry: ScoreEntry) -> float | None:
    """Tell how far a score is from its best, in its own unit; None where it or its ideal is undefined."""
    if entry.value is None:
        return None
    if entry.direction == "target":
        return abs(entry.value - entry.ideal) if entry.ideal is not None else None
    return entry.value if entry.direction == "lower" else -entry.value


def _best(entries: Sequence[ScoreEntry | None]) -> tuple[int, ...]:
    """Places of the best runs, all that are equal; none where fewer than two have the score."""
    found = {
        place: distance
        for place, entry in enumerate(entries)
        if entry is not None and (distance := distance_from_best(entry)) is not None
    }
    return tuple(place for place, d in found.items() if d == min(found.values())) if len(found) > 1 else ()


def _difference(name: str, first: ReportFile, report: ReportFile) -> Difference:
    """Test one score, not yet corrected for the others."""
    mine, theirs = first.scores.get(name), report.scores.get(name)
    if not _same_rows(first, report):
        return _untested(OTHER_ROWS)
    if mine is None or theirs is None or mine.value is None or theirs.value is None:
        return _untested("undefined because one of the two has no such score")
    part = next(entry.name for entry in first.evaluations if any(score.name == name for score in entry.scores))
    if _settings(first, part) != _settings(report, part):
        return _untested(OTHER_SETTINGS)
    try:
        found = evidence(first, mine), evidence(report, theirs)
    except (KeyError, IndexError, TypeError, ValueError):  # details may be anything: the layout fixes scores only
        return _untested(NO_DETAILS)
    result = significance_of(*found)
    return Difference(p_value=result.p_value, p_holm=None, method=result.method, verdict="undefined")


def _untested(reason: str) -> Difference:
    return Difference(p_value=None, p_holm=None, method=reason, verdict="undefined")


def _settings(report: ReportFile, part: str) -> dict[str, JSON]:
    settings = report.config.get(part)
    return (
        {key: value for key, value in settings.items() if key not in INDIFFERENT} if isinstance(settings, dict) else {}
    )


def _with_holm(scores: Sequence[ComparedScore]) -> list[ComparedScore]:
    """Correct all p-values of the comparison together, and say what each difference amounts to."""
    corrected = iter(holm([difference.p_value for score in scores for difference in score.differences]))
    result = []
    for score in scores:
        differences = tuple(
            replace(difference, p_holm=(p_holm := next(corrected)), verdict=_verdict(score.entries[0], entry, p_holm))
            for entry, difference in zip(score.entries[1:], score.differences, strict=True)
        )
        result.append(replace(score, differences=differences))
    return result


def _verdict(first: ScoreEntry | None, entry: ScoreEntry | None, p_holm: float | None) -> Verdict:
    if p_holm is None or first is None or entry is None:
        return "undefined"
    mine, theirs = distance_from_best(first), distance_from_best(entry)
    if p_holm >= LEVEL:
        return "no difference shown"
    if mine is None or theirs is None or mine == theirs:
        return "undefined"
    return "better" if theirs < mine else "worse"
