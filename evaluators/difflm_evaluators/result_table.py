"""A table of results over several runs: on the console, as Markdown, JSON and one page of HTML."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from difflm_evaluators.base import JSON
from difflm_evaluators.plots import inline_svg, standalone_svg
from difflm_evaluators.report_html import template_environment
from difflm_evaluators.report_writing import markdown_cell, write_files


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """What was found, in words: a row per run or cell, the first column its name; `facts` are the same as numbers.

    `pictures` maps file names without an ending to SVG drawings.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    facts: Mapping[str, JSON] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)


def mean_text(mean: float | None, error: float | None, *, digits: int = 4) -> str:
    """A mean and, where there is one, its standard error; a dash for nothing."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}g}" + ("" if error is None else f" ± {error:.2g}")


def result_markdown(table: ResultTable) -> str:
    """The table and its notes as Markdown."""
    lines = [f"# {markdown_cell(table.title)}", ""]
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines += ["| " + " | ".join(markdown_cell(cell) for cell in row) + " |" for row in rows]
    lines += [line for note in table.notes for line in ("", markdown_cell(note))]
    lines += [line for name in table.pictures for line in ("", f"![{name}]({name}.svg)")]
    return "\n".join(lines) + "\n"


def result_html(table: ResultTable) -> str:
    """One page in the look of the report, with nothing from outside."""
    pictures = [Markup(inline_svg(svg, name)) for name, svg in table.pictures.items()]
    return template_environment().get_template("results.html.j2").render(table=table, pictures=pictures)


def write_result_table(table: ResultTable, directory: Path, stem: str) -> None:
    """Write STEM.json, STEM.md, STEM.html and the pictures; StorageError when `directory` cannot be written."""
    text = json.dumps(dict(table.facts), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    files = {f"{stem}.json": text, f"{stem}.md": result_markdown(table), f"{stem}.html": result_html(table)}
    write_files(directory, {**files, **{f"{name}.svg": standalone_svg(svg) for name, svg in table.pictures.items()}})
