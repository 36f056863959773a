"""The report of an evaluation: in Python, in a notebook, and as report.json, report.md and report.html on disk."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.artifacts.manifest import ROW_DETAILS
from difflm.errors import ConfigError, EvaluationError
from difflm.extras import has_extra
from difflm.regular_files import given_path
from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.report.layout import (
    REPORT_SCHEMA_VERSION,
    ReportContext,
    ReportFile,
    VerdictEntry,
    read_report,
    readable,
)
from difflm_evaluators.report.rows import baseline_text, value_text, worst_columns, worst_pairs
from difflm_evaluators.report.verdict import verdict_lines, verdict_of, verdict_on

if TYPE_CHECKING:
    from difflm_evaluators.report.pictures import Picture

TITLE = "Synthetic table"
FILES = (".html", ".json", ".md")
_SCORE = tuple(field.name for field in fields(Score))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """All scores of one synthetic table, in the order of their evaluators.

    A notebook shows it as a table; `print(report)` gives the same as text.

    Counts, shares and the names of columns and categories; no rows of tables, unless `privacy.show_nearest` asked for
    some. Of tools and code it shows records to read, real test records among them, unless `language.samples` is 0.
    """

    evaluations: tuple[Evaluation, ...]
    rows: Mapping[str, int]
    real: Mapping[str, str | None]
    columns: Mapping[str, str]
    target: str | None
    task: str | None
    config: Mapping[str, JSON]
    seconds: Mapping[str, float]
    title: str = TITLE
    source: Path | None = field(default=None, compare=False)
    """The file that it was read from."""

    @classmethod
    def read(cls, path: Path | str) -> Report:
        """Read a report.json, or that of a folder.

        Raises:
            ConfigError: no disk can have such a path.
            DataError: there is none, it is no report, or it has another layout.
        """
        path = given_path(path, name="path")
        path = path / "report.json" if path.is_dir() else path
        file = read_report(path)
        evaluations = [
            Evaluation(
                name=entry.name,
                scores=tuple(Score(**{name: getattr(score, name) for name in _SCORE}) for score in entry.scores),
                details=entry.details,
            )
            for entry in file.evaluations
        ]
        kept = ("columns", "target", "task", "config", "seconds", "title")
        return cls(
            evaluations=tuple(evaluations),
            rows=file.rows.model_dump(),
            real=file.real.model_dump(),
            **{name: getattr(file, name) for name in kept},
            source=path,
        )

    def _shown(self) -> AbstractContextManager[None]:
        """Return what names the file of a report that was read, and has details of another form."""
        return nullcontext() if self.source is None else readable(self.source)

    @property
    def scores(self) -> tuple[Score, ...]:
        """Every score, in the order of the evaluations; `score` finds one by its name."""
        return tuple(score for evaluation in self.evaluations for score in evaluation.scores)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What no reader of the synthetic table may miss."""
        return tuple(score.warning for score in self.scores if score.warning is not None)

    @property
    def worst_columns(self) -> tuple[Mapping[str, Any], ...]:
        """Up to ten columns by falling error: `name`, `error`, `baseline` (shares), and `text`, what differs most."""
        with self._shown():
            return tuple(worst_columns(self.to_file()))

    @property
    def worst_pairs(self) -> tuple[Mapping[str, Any], ...]:
        """Up to ten pairs by falling error: `first`, `second`, `error` and `baseline` (shares), and `text`."""
        with self._shown():
            return tuple(worst_pairs(self.to_file()))

    def evaluation(self, name: str) -> Evaluation | None:
        """Return the evaluation called `name`, None when it was left out."""
        return next((evaluation for evaluation in self.evaluations if evaluation.name == name), None)

    def score(self, name: str) -> Score:
        """Return the score called `name`; EvaluationError with the nearest name and all there are."""
        found = next((score for score in self.scores if score.name == name), None)
        if found is not None:
            return found
        known = [score.name for score in self.scores]
        close = (
            difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            or [one for one in known if str(name) in one][:1]
        )
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise EvaluationError(f"the report has no score {name!r}; {hint}it has {', '.join(known)}")

    def save(self, path: Path | str, *, context: ReportContext | None = None) -> Path:
        """Write the report, and return where: a file for a path in .html, .json or .md, else a folder with all of them.

        `context` is what the files show beside the scores, such as another title.

        Raises:
            ConfigError: the path has another ending, and no folder of that name is there.
            EvaluationError: a published figure without a source or a number that JSON cannot hold.
            StorageError: the place cannot be written.
        """
        path, context = given_path(path, name="path"), context or ReportContext(title=self.title)
        if path.is_dir() or not path.suffix:
            with self._shown():
                write_report(self, path, context=context)
            return path
        if path.suffix.lower() not in FILES:
            raise ConfigError(f"{path}: no ending of a report; give one of {', '.join(FILES)}, or a folder")
        from difflm_evaluators.report.rendering import write_files

        with self._shown():
            text = _text(self, context, path.suffix.lower())
        write_files(path.parent, {path.name: text})
        return path

    def to_json(self) -> dict[str, JSON]:
        """Return the report as plain JSON values, with the version of this layout."""
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            "rows": dict(self.rows),
            "real": dict(self.real),
            "columns": dict(self.columns),
            "target": self.target,
            "task": self.task,
            "config": dict(self.config),
            "evaluations": [evaluation.to_json() for evaluation in self.evaluations],
            "seconds": dict(self.seconds),
        }

    def to_file(self, context: ReportContext | None = None) -> ReportFile:
        """Return what report.json holds.

        Raises:
            EvaluationError: a number of the context that JSON cannot hold.
        """
        return ReportFile.model_validate_json(json_text(self, context or ReportContext(title=self.title)))

    @property
    def verdict(self) -> VerdictEntry:
        """The answers to three questions (faithful, useful, private), and what to do about the worst."""
        with self._shown():
            return verdict_of(self.to_file())

    def shared(self) -> Report:
        """Return the report as it may travel with a generator: without what shows rows of tables."""
        kept = tuple(
            replace(evaluation, details={} if evaluation.name in ROW_DETAILS else evaluation.details)
            for evaluation in self.evaluations
        )
        return replace(self, evaluations=kept)

    def __repr__(self) -> str:
        """Return the verdict and the scores as lines of text."""
        title, synthetic = self.title, self.rows.get("synthetic", 0)
        width = max((len(score.name) for score in self.scores), default=0)
        lines = [
            f"  {score.name:<{width}}  {value_text(score)}" + (f"  [{beside}]" if (beside := _beside(score)) else "")
            for score in self.scores
        ]
        warnings = [f"  Warning: {warning}" for warning in self.warnings]
        verdict = [f"  {line}" for line in verdict_lines(self.verdict)]
        return "\n".join([f"Report: {title}, {synthetic:,} rows", *verdict, *warnings, *lines])

    def _repr_html_(self) -> str:
        """Return the verdict, and folded the scores beside what real data gets, for notebooks."""
        from difflm_evaluators.report.html import score_table

        with self._shown():
            return score_table(self.to_file())


def _beside(score: Score) -> str:
    text = baseline_text(score)
    return "" if text == "–" else text


def write_report(report: Report, directory: Path, *, context: ReportContext) -> None:
    """Write report.json, report.md, report.html and pictures/*.svg into `directory`, which is made when missing.

    Raises:
        EvaluationError: a published figure without a source or a number that JSON cannot hold.
        StorageError: the directory cannot be written.
    """
    from difflm_evaluators.report.html import render_html, render_markdown
    from difflm_evaluators.report.rendering import write_files

    text = json_text(report, context)
    file = ReportFile.model_validate_json(text)
    pictures = _pictures(file, context)
    files = {
        "report.json": text,
        "report.md": render_markdown(file, pictures),
        "report.html": render_html(file, pictures),
    }
    files |= {f"pictures/{picture.name}.svg": picture.standalone for picture in pictures}
    write_files(directory, files)


def _text(report: Report, context: ReportContext, ending: str) -> str:
    """Render one of the files alone; the Markdown then links to no pictures."""
    from difflm_evaluators.report.html import render_html, render_markdown

    if ending == ".json":
        return json_text(report, context)
    file = report.to_file(context)
    return render_markdown(file, None) if ending == ".md" else render_html(file, _pictures(file, context))


def _pictures(file: ReportFile, context: ReportContext) -> list[Picture]:
    """Draw the pictures; none where the library for them is not installed."""
    from difflm_evaluators.report.pictures import draw_pictures

    return draw_pictures(file, context.loss_curves) if has_extra("report") else []


def json_text(report: Report, context: ReportContext) -> str:
    """Return `report.json`: the report, then the context; loss curves stay in the stages' own event files.

    Raises:
        EvaluationError: a published figure without a source or a number that JSON cannot hold.
    """
    for row in context.published:
        if not row.source.strip() or not math.isfinite(row.value):
            raise EvaluationError(
                f"published figure of {row.method!r} for {row.score!r}: value {row.value}, source {row.source!r}; "
                "give a finite number and name its source"
            )
    extra: dict[str, JSON] = {
        "title": context.title,
        "settings": dict(context.settings),
        "environment": dict(context.environment),
        "timings": dict(context.timings),
        "published": [asdict(row) for row in context.published],
        "judge": context.judge.model_dump(mode="json") if context.judge is not None else None,
    }
    written = {**report.to_json(), **extra}
    try:
        judged = verdict_on(ReportFile.model_validate_json(json.dumps(written, allow_nan=False)))
        written["verdict"] = judged.model_dump(mode="json")
        text = json.dumps(written, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        ReportFile.model_validate_json(text)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"the report's settings or timings are not JSON ({error}); give plain values") from error
    return text
