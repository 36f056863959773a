"""Which pictures a report has: columns, pairs, coverage, a map, privacy, the worst columns, a loss curve per stage."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from difflm.telemetry import JSON
from difflm_evaluators.report import plots
from difflm_evaluators.report.layout import ReportFile
from difflm_evaluators.report.rows import interval_text

MAX_COLUMN_PICTURES = 60
TITLES = {"precision": "α-precision: share of rows within the ball", "recall": "β-recall: share of real rows covered"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One drawing: file name without extension, section, title, a line of explanation, and its SVG in both forms."""

    name: str
    section: Literal["columns", "associations", "pairs", "fidelity", "map", "privacy", "worst", "training"]
    title: str
    note: str
    inline: str
    standalone: str


def _picture(name: str, section: Any, title: str, note: str, svg: str) -> Picture:
    return Picture(
        name=name,
        section=section,
        title=title,
        note=note,
        inline=plots.inline_svg(svg, name),
        standalone=plots.standalone_svg(svg),
    )


def draw_pictures(report: ReportFile, loss_curves: Mapping[str, Sequence[Mapping[str, JSON]]]) -> list[Picture]:
    """Draw every picture of the report, in the order they are shown."""
    return [
        *(*_columns(report), *_associations(report), *_pairs(report), *_fidelity(report), *_map(report)),
        *(*_distances(report), *_roc(report), *_worst(report), *_curves(loss_curves)),
    ]


def _columns(report: ReportFile) -> Iterable[Picture]:
    """Draw the columns with the largest errors, when there are more than fit, in the table's order."""
    columns: list[dict[str, Any]] = report.details("marginals").get("columns", [])
    by_error = sorted(range(len(columns)), key=lambda index: -columns[index]["error"])
    for index in sorted(by_error[:MAX_COLUMN_PICTURES]):
        column = columns[index]
        data = column["picture"]
        note = f"error {100 * column['error']:.2f} %"
        if column["baseline"] is not None:
            note += f" (real test split {100 * column['baseline']:.2f} %)"
        if data["kind"] == "histogram":
            if not data["edges"]:
                continue
            note += _missing_note(column)
            if data["outside"]:
                note += f", {100 * data['outside']:.2g} % of synthetic rows outside the real range"
            label = "characters" if column["kind"] == "text" else ""
            edges, label = _readable(data["edges"], report.columns[column["name"]], label)
            svg = plots.histogram(edges, data["real"], data["synthetic"], label=label)
        else:
            labels = [bar["label"] for bar in data["bars"]]
            real, synthetic = ([bar[side] for bar in data["bars"]] for side in ("real", "synthetic"))
            svg = plots.bars(labels, real, synthetic)
        yield _picture(f"column-{index + 1:03d}", "columns", column["name"], note, svg)


def _readable(edges: list[float], kind: str, label: str) -> tuple[list[float], str]:
    """Seconds since 1970 as years, everything else as it is."""
    if not kind.startswith("datetime"):
        return edges, label
    return [1970 + edge / (365.2425 * 86_400) for edge in edges], "year"


def _missing_note(column: Mapping[str, Any]) -> str:
    if not column["missing_real"] and not column["missing_synthetic"]:
        return ""
    return f", missing {100 * column['missing_real']:.1f} % real, {100 * column['missing_synthetic']:.1f} % synthetic"


def _pairs(report: ReportFile) -> Iterable[Picture]:
    pairs: list[dict[str, Any]] = report.details("pairs").get("pairs", [])
    if not any(pair["error"] is not None for pair in pairs):
        return
    names = list(dict.fromkeys([pair["first"] for pair in pairs] + [pair["second"] for pair in pairs]))
    highest = max(pair["error"] or 0 for pair in pairs)
    highest = 100 * max(highest, *(pair["baseline"] or 0 for pair in pairs)) or 1.0
    sides = (("error", "Synthetic rows"), ("baseline", "Real test split, for comparison"))
    for side, title in sides:
        errors = {(pair["first"], pair["second"]): 100 * pair[side] for pair in pairs if pair[side] is not None}
        if errors:
            svg = plots.heat_map(names, errors, highest=highest, label="trend error, %")
            yield _picture(f"pairs-{side}", "pairs", title, "both maps share one colour scale", svg)


def _associations(report: ReportFile) -> Iterable[Picture]:
    """Draw how columns go together in the real and in the synthetic table, and how far these are apart."""
    details = report.details("associations")
    names: list[str] = details.get("columns", [])
    sides: dict[str, dict[tuple[str, str], float]] = {
        side: {
            (names[row], names[column]): value
            for row, values in enumerate(details[side])
            for column, value in enumerate(values)
            if value is not None
        }
        for side in (("real", "synthetic") if details else ())
    }
    if not sides or not sides["real"]:
        return
    label = "r, or Cramér's V"
    for side, title in (("real", "Real training rows"), ("synthetic", "Synthetic rows")):
        svg = plots.heat_map(names, sides[side], highest=1.0, label=label, both_signs=True)
        yield _picture(f"associations-{side}", "associations", title, "blue together, orange opposite", svg)
    apart = {
        pair: abs(value - sides["synthetic"][pair])
        for pair, value in sides["real"].items()
        if pair in sides["synthetic"]
    }
    if apart:
        svg = plots.heat_map(names, apart, highest=max(*apart.values(), 0.01), label="difference")
        note = "how far the two maps are apart"
        yield _picture("associations-difference", "associations", "Difference", note, svg)


def _map(report: ReportFile) -> Iterable[Picture]:
    """Draw the map of rows, real and synthetic ones beside each other in one frame."""
    details = report.details("projection")
    if not details:
        return
    everyone = [*details["real"], *details["synthetic"]]
    limits = [end for axis in (0, 1) for end in _widened([point[axis] for point in everyone])]
    for side, title in (("real", "Real training rows"), ("synthetic", "Synthetic rows")):
        svg = plots.cloud(details[side], limits, len(details["groups"]))
        yield _picture(f"map-{side}", "map", title, f"{len(details[side]):,} rows", svg)


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _roc(report: ReportFile) -> Iterable[Picture]:
    curves = report.details("membership").get("roc")
    score = report.scores.get("mia_auc")
    if not curves or score is None or score.value is None:
        return
    note = f"ROC-AUC {score.value:.3f}, {interval_text(score)}; the dotted line is guessing"
    svg = plots.roc(curves["test"], curves["synthetic"])
    yield _picture("roc", "privacy", "Membership attack", note, svg)


def _distances(report: ReportFile) -> Iterable[Picture]:
    dcr = report.details("privacy").get("dcr")
    if not dcr:
        return
    test = dcr.get("test") or [0.0] * len(dcr["synthetic"])
    svg = plots.histogram(dcr["edges"], test, dcr["synthetic"], label="distance", wide=True)
    note = "the last bin holds everything beyond the 99th percentile"
    yield _picture("distances", "privacy", "Distance to the closest training row", note, svg)


def _fidelity(report: ReportFile) -> Iterable[Picture]:
    """Draw means over the parts of the curves behind alpha-precision and beta-recall."""
    details = report.details("fidelity")
    if not details:
        return
    ideals = {"precision": "the dotted line is ideal", "recall": "unseen real rows lie near half the dotted line"}
    for name, note in ideals.items():
        curves = {
            side: [sum(values) / len(values) for values in zip(*(part[name] for part in details[key]), strict=True)]
            for side, key in (("real", "real_parts"), ("synthetic", "synthetic_parts"))
        }
        svg = plots.levels(details["levels"], curves["real"], curves["synthetic"])
        yield _picture(f"fidelity-{name}", "fidelity", TITLES[name], note, svg)


def _worst(report: ReportFile) -> Iterable[Picture]:
    columns: list[dict[str, Any]] = report.details("breakdown").get("columns", [])
    if columns:
        labels = [column["name"] for column in columns]
        baselines, errors = ([column[side] or 0.0 for column in columns] for side in ("baseline", "error"))
        note = "shape error" + (", beside that of the real test split" if any(baselines) else "")
        svg = plots.bars(labels, baselines, errors, wide=True)
        yield _picture("worst-columns", "worst", "Worst columns", note, svg)


def _curves(loss_curves: Mapping[str, Sequence[Mapping[str, JSON]]]) -> Iterable[Picture]:
    for number, (stage, events) in enumerate(loss_curves.items(), start=1):
        series = {"training": _series(events, "train"), "validation": _series(events, "validation")}
        series = {name: points for name, points in series.items() if points}
        if not series:
            continue
        losses = [loss for points in series.values() for _, loss in points]
        last = {name: points[-1][1] for name, points in series.items()}
        note = ", ".join(f"last {name} loss {loss:.4g}" for name, loss in last.items())
        logarithmic = min(losses) > 0 and max(losses) > 20 * min(losses)
        svg = plots.curves(series, label="loss", logarithmic=logarithmic)
        yield _picture(f"training-{number}", "training", stage, note, svg)


def _series(events: Sequence[Mapping[str, JSON]], kind: str) -> list[tuple[float, float]]:
    """List (step, loss) of the events of one kind; those without a kind are training ones, other kinds are left out."""
    points = []
    for event in events:
        step, loss = event.get("step"), event.get("loss")
        if event.get("kind", "train") != kind or not isinstance(step, int | float) or not isinstance(loss, int | float):
            continue
        if math.isfinite(loss):
            points.append((float(step), float(loss)))
    return points
