"""Published figures as a table: methods down, scores across, this table's own first, every source below."""

from collections.abc import Sequence
from dataclasses import dataclass

from difflm_evaluators.evaluation import EvaluationReport
from difflm_evaluators.report_context import PublishedScore
from difflm_evaluators.report_rows import number_text, value_text

OWN = "this table"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """`titles` of the scores, `rows` of (method, a cell per score with the numbers of its sources), and `sources`."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]], ...]
    sources: tuple[str, ...]


def published_table(report: EvaluationReport, published: Sequence[PublishedScore]) -> PublishedTable | None:
    """The table, None where nobody published anything; cells without a figure hold a dash."""
    if not published:
        return None
    names = tuple(dict.fromkeys(row.score for row in published))
    methods = tuple(dict.fromkeys(row.method for row in published))
    sources = tuple(dict.fromkeys(row.source for row in published))
    own = [report.score(name) for name in names]
    first = tuple((value_text(score) if score is not None else "–", ()) for score in own)
    rows: list[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]] = [(OWN, first)]
    for method in methods:
        cells = []
        for name, score in zip(names, own, strict=True):
            found = [row for row in published if row.method == method and row.score == name]
            unit = score.unit if score is not None else ""
            text = ", ".join(number_text(row.value, unit) for row in found) or "–"
            cells.append((text, tuple(sources.index(row.source) + 1 for row in found)))
        rows.append((method, tuple(cells)))
    titles = tuple(score.title if score is not None else name for name, score in zip(names, own, strict=True))
    return PublishedTable(titles=titles, rows=tuple(rows), sources=sources)
