"""Plots: matplotlib figures as SVG text, drawn from numbers that `report.json` holds too.

matplotlib is one of the optional libraries: what only needs colours or texts of here does without it.

Colours are fixed sentinels. `inline_svg` turns them into the page's CSS variables, so that one drawing is legible on
light and on dark pages; `standalone_svg` keeps them and puts a light card behind.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, REAL, SYNTHETIC, GRID = "#1d2733", "#3b76c4", "#e0672b", "#c9d1db"
CSS_COLOURS = {INK: "currentColor", REAL: "var(--real)", SYNTHETIC: "var(--synthetic)", GRID: "var(--grid)"}
GROUPS = ("#4e86c6", "#e8833a", "#4fa35c", "#b06fb3", "#d9565b", "#9a8a5b", "#8a8f98")
"""Colours of groups, legible on light and on dark cards."""
RASTER_DPI = 200
MAX_TICK_LABELS = 40
MAX_VECTOR_CELLS = 40  # per side; larger heat maps are drawn as one raster
LABEL_CHARACTERS = 18
PAIR_CHARACTERS = 36

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "difflm",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
}


@contextmanager
def _axes(width: float, height: float) -> Iterator[Axes]:
    """Make the axes of a transparent figure of `width` x `height` inches, in the report's style."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0.0)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        yield axes


def _ticker() -> ModuleType:
    from matplotlib import ticker

    return ticker


def _svg(axes: Axes) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    figure: Any = axes.figure
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # only for measuring: the text itself stays text (svg.fonttype none), drawn in a font of the reader's browser
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", dpi=RASTER_DPI, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def inline_svg(svg: str, prefix: str) -> str:
    """Adapt an SVG for use inside a page, which gives the colours and the size; ids are made unique by `prefix`."""
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, css in CSS_COLOURS.items():
        svg = svg.replace(colour, css)
    return svg


def standalone_svg(svg: str) -> str:
    """Adapt a drawing as a file of its own, on a light card."""
    opening = svg.index(">") + 1
    header = '<?xml version="1.0" encoding="utf-8"?>\n'
    return f'{header}{svg[:opening]}<rect width="100%" height="100%" fill="#ffffff"/>{svg[opening:]}'


def histogram(
    edges: Sequence[float], real: Sequence[float], other: Sequence[float], *, label: str = "", wide: bool = False
) -> str:
    """Draw real shares as a filled area, synthetic ones as a line, on common bins."""
    with _axes(*((5.2, 3.2) if wide else (3.4, 2.4))) as axes:
        axes.stairs(real, edges, fill=True, color=REAL, alpha=0.45)
        axes.stairs(other, edges, color=SYNTHETIC, linewidth=1.6)
        axes.margins(x=0.01)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(_ticker().MaxNLocator(3))
        axes.xaxis.set_major_locator(_ticker().MaxNLocator(5))
        axes.yaxis.set_major_formatter(_ticker().PercentFormatter(1.0, decimals=None))
        if 1e4 <= max(abs(edge) for edge in edges) < 1e15:
            axes.xaxis.set_major_formatter(_ticker().EngFormatter(sep=""))
        if label:
            axes.set_xlabel(label)
        return _svg(axes)


def bars(labels: Sequence[str], real: Sequence[float], other: Sequence[float], *, wide: bool = False) -> str:
    """Draw two horizontal bars per category, the first category on top."""
    with _axes(5.2 if wide else 3.4, 0.5 + 0.2 * max(3, len(labels))) as axes:
        rows = range(len(labels))
        axes.barh([row - 0.2 for row in rows], real, height=0.38, color=REAL, alpha=0.75)
        axes.barh([row + 0.2 for row in rows], other, height=0.38, color=SYNTHETIC)
        axes.set_yticks(list(rows), [shorten(label) for label in labels])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(_ticker().MaxNLocator(4))
        axes.xaxis.set_major_formatter(_ticker().PercentFormatter(1.0, decimals=None))
        return _svg(axes)


def heat_map(
    names: Sequence[str],
    values: Mapping[tuple[str, str], float],
    *,
    highest: float,
    label: str,
    both_signs: bool = False,
) -> str:
    """Draw values of pairs as a symmetric map, blank where there is none; colours span 0 or -`highest` to `highest`."""
    from matplotlib import colors

    side = len(names)
    high, low = (colors.to_rgb(colour) for colour in ((REAL, SYNTHETIC) if both_signs else (SYNTHETIC, SYNTHETIC)))
    shades = [(*low, 1.0), (*low, 0.0), (*high, 0.0), (*high, 1.0)] if both_signs else [(*high, 0.0), (*high, 1.0)]
    places = [0.0, 0.5, 0.5, 1.0] if both_signs else [0.0, 1.0]
    colours = colors.LinearSegmentedColormap.from_list("values", list(zip(places, shades, strict=True)))
    lowest = -highest if both_signs else 0
    cells = [[values.get((a, b), values.get((b, a), math.nan)) for b in names] for a in names]
    size = min(9.0, max(3.6, 1.8 + 0.3 * side))
    with _axes(size + 0.6, size) as axes:
        if side <= MAX_VECTOR_CELLS:
            mesh: Any = axes.pcolormesh(cells, cmap=colours, vmin=lowest, vmax=highest, edgecolors=GRID, linewidth=0.4)
            centre = 0.5
        else:
            mesh = axes.imshow(cells, cmap=colours, vmin=lowest, vmax=highest, interpolation="nearest")
            centre = 0.0
        if side <= MAX_TICK_LABELS:
            ticks = [centre + position for position in range(side)]
            axes.set_xticks(ticks, [shorten(name) for name in names], rotation=90)
            axes.set_yticks(ticks, [shorten(name) for name in names])
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        if side <= MAX_VECTOR_CELLS:
            axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = axes.figure.colorbar(mesh, ax=axes, fraction=0.045, pad=0.02, label=label)
        bar.ax.patch.set_alpha(0.0)
        outline: Any = bar.outline
        outline.set_visible(False)
        return _svg(axes)


def levels(ideal: Sequence[float], real: Sequence[float], other: Sequence[float]) -> str:
    """Draw shares over levels from 0 to 1, the diagonal dotted; `real` may be empty."""
    with _axes(5.2, 3.2) as axes:
        axes.plot(ideal, ideal, color=INK, linewidth=0.8, linestyle=":")
        if real:
            axes.plot(ideal, real, color=REAL, linewidth=1.6)
        axes.plot(ideal, other, color=SYNTHETIC, linewidth=1.6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_ticker().MultipleLocator(0.25))
            axis.set_major_formatter(_ticker().PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("level")
        return _svg(axes)


def roc(real: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> str:
    """Draw [false positive rate, true positive rate] as two lines, the diagonal dotted."""
    with _axes(5.2, 3.2) as axes:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        for points, colour in ((real, REAL), (other, SYNTHETIC)):
            axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linewidth=1.6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_ticker().MultipleLocator(0.25))
            axis.set_major_formatter(_ticker().PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("unseen rows taken for training rows")
        axes.set_ylabel("training rows found")
        return _svg(axes)


def cloud(points: Sequence[Sequence[float]], limits: Sequence[float], groups: int) -> str:
    """Draw [x, y, group] as dots in the colours of the groups, in a frame of `limits` (left, right, bottom, top)."""
    with _axes(4.4, 4.0) as axes:
        for group in range(groups):
            chosen = [point for point in points if point[2] == group]
            xs, ys = [point[0] for point in chosen], [point[1] for point in chosen]
            axes.scatter(xs, ys, s=7, color=GROUPS[group], alpha=0.75, linewidths=0, rasterized=True)
        axes.set_xlim(limits[0], limits[1])
        axes.set_ylim(limits[2], limits[3])
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(axes)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], *, label: str, logarithmic: bool) -> str:
    """Draw lines over steps: "training" thin, "validation" strong."""
    with _axes(5.2, 2.8) as axes:
        for name, points in series.items():
            training = name == "training"
            xs, ys = [x for x, _ in points], [y for _, y in points]
            marker = "o" if len(points) < 30 and not training else None
            colour, width = (REAL, 1.1) if training else (SYNTHETIC, 1.8)
            axes.plot(xs, ys, color=colour, linewidth=width, marker=marker, markersize=3)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_ticker().FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(_ticker().NullFormatter())
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        return _svg(axes)


def levels_by(series: Mapping[str, Sequence[tuple[int, float]]], real: float | None, *, across: str, label: str) -> str:
    """Draw a score of one or two things by a whole number, and what real data get in its place as a dashed line."""
    with _axes(5.2, 2.8) as axes:
        if real is not None:
            axes.axhline(real, color=REAL, linewidth=1.2, linestyle="--", label="real data")
        for (name, points), colour in zip(series.items(), (SYNTHETIC, GROUPS[2]), strict=False):
            xs, ys = [number for number, _ in points], [value for _, value in points]
            axes.plot(xs, ys, color=colour, linewidth=1.8, marker="o", markersize=4, label=name)
        axes.legend()
        axes.xaxis.set_major_locator(_ticker().MaxNLocator(integer=True))
        axes.set_xlabel(across)
        axes.set_ylabel(label)
        return _svg(axes)


def dots(
    labels: Sequence[str], series: Mapping[str, tuple[str, Sequence[float | None]]], *, label: str, shares: bool
) -> str:
    """Draw a dot per label, the first on top, and series: a colour and numbers (`shares` as percentages), or None."""
    with _axes(6.4, 1.1 + 0.27 * max(3, len(labels))) as axes:
        for row in range(len(labels)):
            axes.axhline(row, color=GRID, linewidth=0.6, zorder=0)
        for name, (colour, values) in series.items():
            points = [(value, row) for row, value in enumerate(values) if value is not None]
            if points:
                xs, ys = [value for value, _ in points], [row for _, row in points]
                axes.plot(xs, ys, linestyle="", marker="o", markersize=6, alpha=0.85, color=colour, label=name)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8, handletextpad=0.2)
        axes.set_yticks(range(len(labels)), [shorten(text, PAIR_CHARACTERS) for text in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(_ticker().MaxNLocator(5))
        if shares:
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(_ticker().PercentFormatter(1.0, decimals=None))
        return _svg(axes)


def shorten(text: str, characters: int = LABEL_CHARACTERS) -> str:
    """Cut a text to at most so many characters on one line, with an ellipsis where cut."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"
