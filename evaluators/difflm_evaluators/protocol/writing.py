"""`protocol.json` and `protocol.md`: a result of the protocol for programs and for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.telemetry import JSON
from difflm_evaluators.protocol.figures import Figure
from difflm_evaluators.protocol.protocol import ProtocolResult, read_published


def write_protocol(result: ProtocolResult, folder: Path, *, about: Mapping[str, JSON]) -> None:
    """Write both files into `folder`, which is made; `about` says where the tables come from, by the name of each."""
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"about": dict(about), **result.to_json()}
    write_json_atomic(folder / "protocol.json", document)
    write_bytes_atomic(folder / "protocol.md", _markdown(result, about).encode())


def figure_rows(result: ProtocolResult) -> tuple[list[str], list[list[str]]]:
    """Lay out the heads and cells of a table of all figures; printed ones only where the table is of the protocol."""
    methods = read_published()["methods"] if result.source is not None else []
    return ["score", "synthetic", "real data", "chance", *methods], [
        _cells(figure, methods) for figure in result.figures
    ]


def measured(result: ProtocolResult) -> list[str]:
    """Name what measured each score, a line for all scores of one measure."""
    by: dict[str, list[str]] = {}
    for figure in result.figures:
        by.setdefault(figure.measured_by, []).append(figure.score.title)
    return [f"{', '.join(titles)}: {measured_by}" for measured_by, titles in by.items()]


def notes(result: ProtocolResult) -> list[str]:
    """List what belongs below the table, a line each."""
    lines = [f"{f.score.title}: {f.score.undefined_because}" for f in result.figures if f.score.undefined_because]
    if result.source is not None:
        lines.append(f"printed figures (mean ± standard deviation over models): {result.source}")
        lines += [f"{f.score.title}: nothing printed beside it: {f.unprinted}" for f in result.figures if f.unprinted]
    labels = dict.fromkeys(f.score.baseline_label for f in result.figures if f.score.baseline_label)
    lines.append(f"real data: {'; '.join(labels)}")
    lines.append("chance: as many training rows, drawn again with replacement")
    lines.append("trend: SDMetrics bins numbers by each table's own range, so few rows (those held out) look worse")
    given, learned = result.rows["synthetic"], result.rows["real training"]
    if given != learned:
        lines.append(f"the papers score as many rows as were learned, {learned:,}; here they are {given:,}")
    return [*lines, *result.left_out]


def _cells(figure: Figure, methods: list[str]) -> list[str]:
    score = figure.score
    digits = 2 if score.unit == "%" else 4
    printed = {one.method: f"{one.value:.{digits}f} ± {one.deviation:.{digits}f}" for one in figure.printed}
    unit = f" {score.unit}" if score.unit else ""
    return [
        f"{score.title}{unit}",
        _number(score.value, digits, score.standard_error),
        _number(score.baseline, digits),
        _number(figure.chance, digits),
        *(printed.get(method, "-") for method in methods),
    ]


def _number(value: float | None, digits: int, error: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def _markdown(result: ProtocolResult, about: Mapping[str, JSON]) -> str:
    heads, rows = figure_rows(result)
    name = result.spec.name or "a table"
    lines = [f"# The published protocol on {name}", ""]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    lines += ["", *(f"- {note}" for note in (*measured(result), *notes(result))), "", "## Tables", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += [f"- {role}: {rows_:,} rows" for role, rows_ in result.rows.items()]
    for kind in ("numeric", "category"):
        named = [column for column, of in result.kinds.items() if of == kind]
        lines.append(f"- {kind}: {', '.join(named) or 'none'}")
    lines.append(f"- target: {result.spec.target or 'none'}")
    versions = ", ".join(f"{package} {version}" for package, version in result.versions.items())
    seconds = sum(figure.seconds for figure in result.figures)
    lines += ["", f"{versions}; seed {result.config.seed}; {seconds:,.0f} s.", ""]
    return "\n".join(lines)
