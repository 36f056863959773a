"""`diagnose.json` for programs, `diagnose.html` for people: a picture and a table for every finding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from difflm.telemetry import JSON
from difflm_evaluators.diagnosis.diagnosis import DECODER, DRAWS, HELD_OUT, RECONSTRUCTED, TITLES, Diagnosis
from difflm_evaluators.diagnosis.findings import REAL, Finding, conclusions, findings, notes
from difflm_evaluators.report import plots
from difflm_evaluators.report.rendering import html_templates, write_files

COLOURS = {
    REAL: plots.INK,
    TITLES[HELD_OUT]: plots.REAL,
    TITLES[RECONSTRUCTED]: plots.GROUPS[2],
    TITLES[DRAWS]: plots.SYNTHETIC,
    TITLES[DECODER]: plots.GROUPS[3],
}
AXES = {
    "sources": "C2ST, ROC-AUC",
    "columns": "share of the gain",
    "pairs": "trend error",
    "interactions": "share of the gain by pairs",
    "equal": "share of the rows",
    "atoms": "share of the rows",
}
_OTHERS = (plots.SYNTHETIC, plots.GROUPS[3], plots.REAL)


def write_diagnosis(diagnosis: Diagnosis, directory: Path, *, title: str, about: Mapping[str, JSON]) -> None:
    """Write both files into `directory`, which is made; `about` says where the rows come from, by the name of each.

    Raises:
        StorageError: the directory cannot be written.
    """
    document: dict[str, JSON] = {**diagnosis.to_json(), "title": title, "about": dict(about)}
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    page = diagnosis_html(diagnosis, title=title, about=about)
    write_files(directory, {"diagnose.json": text, "diagnose.html": page})


def diagnosis_html(diagnosis: Diagnosis, *, title: str, about: Mapping[str, JSON]) -> str:
    """Render one page in the look of the report, with nothing from outside."""
    shown = [(finding, Markup(_picture(finding))) for finding in findings(diagnosis)]
    template = html_templates().get_template("diagnose.html.j2")
    return template.render(
        title=title,
        diagnosis=diagnosis,
        findings=shown,
        conclusions=conclusions(diagnosis),
        notes=notes(diagnosis),
        about=about,
    )


def _picture(finding: Finding) -> str:
    """Draw the numbers of a finding, a source in the same colour everywhere; nothing where there is no number."""
    if all(value is None for values in finding.values.values() for value in values):
        return ""
    others = iter(_OTHERS)
    series = {
        name: (COLOURS[name] if name in COLOURS else next(others), values) for name, values in finding.values.items()
    }
    labels = [row[0] for row in finding.rows]
    svg = plots.dots(labels, series, label=AXES[finding.name], shares=finding.name != "sources")
    return plots.inline_svg(svg, finding.name)
