"""The model card of a saved generator: README.md with a head in YAML, as hubs show it. No value of a row is in it.

Of columns it tells names, kinds and, of categories, the values; no ranges, whose ends are somebody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import difflm
from difflm.artifacts.manifest import SCORES_NAME
from difflm.printable import printable
from difflm.privacy.budget import PRIVACY_NAME, is_private
from difflm.records.schema import CategoricalField, Field, RecordSchema, read_schema
from difflm.regular_files import read_file
from difflm.synthesis.bundle_files import CARD_NAME, is_local
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.telemetry import parse_json

LICENCE_UNKNOWN: Final = "unknown"
_SHOWN_VALUES = 12
_SHOWN_TEXT = 40
_SHOWN_SETTINGS = (
    *("decoder.kind", "decoder.hidden_size", "decoder.layers", "decoder.model", "decoder.any_order"),
    *("encoder.kind", "encoder.latent_size", "encoder.latent_per_slot", "injector.kind"),
    *("sampling.temperature", "sampling.steps", "sampling.precision", "sampling.attempts"),
)


def write_card(folder: Path, *, licence: str | None, sampling: SamplingConfig) -> None:
    """Write the card of a saved bundle from what lies in its folder."""
    schema, report = read_schema(folder), _json(folder / SCORES_NAME)
    lines = [
        *_head(schema, report, licence),
        "",
        "# A generator of synthetic records",
        "",
        f"Made by [DiffLM](https://arxiv.org/abs/2411.03250) (difflm {difflm.__version__}) from "
        f"{schema.row_count:,} rows with {len(schema.fields)} columns"
        + (f", of which `{_code(schema.target)}` is the target." if schema.target is not None else "."),
        "It writes new rows like them; the rows themselves are not in it.",
        *_promised(folder),
        *_loading(),
        *_scores(report),
        *_columns(schema),
        *_settings(folder, sampling),
        *_limits(schema, promised=is_private(folder)),
        *_licence(licence),
    ]
    (folder / CARD_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _promised(folder: Path) -> list[str]:
    """Say what differential privacy promises, and what would void it."""
    promised = _json(folder / PRIVACY_NAME)
    if promised is None:
        return []
    voided = "; ".join(_text(str(each)) for each in promised["voided_by"])
    return ["", "## Differential privacy", "", f"{_text(str(promised['says']))}. It is voided by: {voided}."]


def _head(schema: RecordSchema, report: Mapping[str, Any] | None, licence: str | None) -> list[str]:
    import yaml

    head: dict[str, Any] = {
        "license": licence or LICENCE_UNKNOWN,
        "library_name": "difflm",
        "tags": ["difflm", "synthetic-data", "tabular", "diffusion"],
    }
    metrics = [
        {"type": score["name"], "name": score["title"], "value": round(score["value"], 6)}
        for score in _measured(report)
    ]
    if metrics:
        about = {
            "task": {"type": "tabular-generation", "name": "synthetic records"},
            "dataset": {"type": "private", "name": f"{schema.row_count} rows, {len(schema.fields)} columns"},
            "metrics": metrics,
        }
        head["model-index"] = [{"name": "generator", "results": [about]}]
    return ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(), "---"]


def _loading() -> list[str]:
    return [
        *("", "## How to load it", "", "```python", "import difflm", ""),
        'generator = difflm.load("people.difflm")  # this file, its folder, or "hf://owner/name"',
        "rows = generator.sample(1000, seed=7)",
        *("```", "", "```bash", "pip install difflm"),
        "difflm synthesize people.difflm --rows 1000 --out rows.csv",
        *("difflm verify people.difflm", "```", ""),
        "Loading runs no code of the file: tensors are safetensors, everything else is JSON, and each file is",
        "compared with its hash before it is read.",
    ]


def _scores(report: Mapping[str, Any] | None) -> Iterator[str]:
    yield from ("", "## How good it is", "")
    if report is None:
        yield "Not measured: the generator was saved without a report."
        return
    verdict = report.get("verdict")
    for answer in verdict["answers"] if isinstance(verdict, Mapping) else ():
        yield f"- **{answer['question'].capitalize()}: {_text(answer['word'])}.** {_text(answer['sentence'])}"
    rows = report["rows"]
    yield from (
        "",
        f"Of {rows['synthetic']:,} synthetic rows, beside {rows['test']:,} real ones that it never saw:",
        "",
    )
    yield from ("| score | value | real rows |", "|---|---|---|")
    for score in _measured(report):
        beside = "–" if score["baseline"] is None else f"{score['baseline']:.4g}"
        yield f"| {_text(score['title'])} | {score['value']:.4g} {_text(score['unit'])} | {beside} |"


def _measured(report: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    evaluations: Sequence[Any] = () if report is None else report["evaluations"]
    return [score for one in evaluations for score in one["scores"] if score["value"] is not None]


def _columns(schema: RecordSchema) -> Iterator[str]:
    yield from ("", "## Columns", "", "| column | kind | values |", "|---|---|---|")
    for field in schema.fields:
        yield f"| {_text(field.name)} | {field.kind} | {_values(field)} |"


def _values(field: Field) -> str:
    if not isinstance(field, CategoricalField):
        return "–"
    shown = ", ".join(f"`{_code(value)}`" for value in field.values[:_SHOWN_VALUES])
    more = len(field.values) - _SHOWN_VALUES
    return f"{shown} and {more:,} more" if more > 0 else shown


def _settings(folder: Path, sampling: SamplingConfig) -> Iterator[str]:
    facts, decoder = _json(folder / "bundle.json") or {}, _json(folder / "decoder" / "decoder.json") or {}
    shape = facts.get("autoencoder", {})
    found = {
        "decoder": {**decoder.get("config", {}), "any_order": decoder.get("any_order", False)},
        "encoder": shape.get("encoder", {}),
        "injector": shape.get("injector", {}),
        "sampling": sampling.model_dump(mode="json"),
    }
    yield from ("", "## Settings", "", "| setting | value |", "|---|---|")
    for key in _SHOWN_SETTINGS:
        section, name = key.split(".")
        value = found[section].get(name)
        if value is not None and not (name == "model" and is_local(str(value))):
            yield f"| `{key}` | {_text(json.dumps(value))} |"


def _limits(schema: RecordSchema, *, promised: bool) -> list[str]:
    few = "" if schema.row_count >= 1000 else " It learned from few rows, which are the more easily learned by heart."
    return [
        *("", "## Limits", ""),
        "- It knows this table and nothing of the world; free text from it is locally plausible at best.",
        "- What real rows lack, or have rarely, it lacks, too; what they are wrong about, it repeats.",
        "- One table at a time: no relations between tables, no time series.",
        *("", "## Privacy", ""),
        *_privacy(schema, few, promised=promised),
    ]


def _privacy(schema: RecordSchema, few: str, *, promised: bool) -> list[str]:
    """Say what stands behind the scores: a promise, protected values, or nothing."""
    if promised:
        return [
            "What differential privacy promises of this file and of all rows drawn from it stands above. The scores",
            'under "How good it is" are of real rows and outside of the promise.',
        ]
    evidence = (
        f"Distances, copies and attacks are evidence of one table, not a proof.{few} Nothing holds back rows that "
        "equal a training row, by chance or because it was learned by heart."
    )
    if schema.protected is None:
        return [
            f"Nothing here is differential privacy. {evidence} The file holds the names of columns, the values of",
            "categories, and the ranges of numbers, as they are in the training rows. Share it as widely as those.",
        ]
    left_out = ", ".join(f"`{_code(name)}`" for name in schema.protected.unprotected)
    but = f", but for {left_out}" if left_out else ""
    return [
        f"Nothing here is differential privacy. Values that fewer than {schema.protected.threshold} training rows have "
        f"were not learned and are not in the file{but}; ends of numbers and dates are cut. {evidence}",
    ]


def _licence(licence: str | None) -> list[str]:
    told = f"`{_code(licence)}`." if licence else "Its maker named none: ask before you use it."
    return ["", "## Licence", "", told]


def _json(path: Path) -> dict[str, Any] | None:
    """Read a file of the bundle that is being saved; None where it is not there."""
    return parse_json(read_file(path)) if path.is_file() else None


def _text(text: str) -> str:
    """Write a text of the data into a cell of a table, without markup of its own."""
    line = printable(" ".join(text.split()))
    for mark in "\\|<*_[]`":
        line = line.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return line


def _code(text: str) -> str:
    line = printable(" ".join(str(text).split())).replace("`", "'").replace("|", "\\|")
    return line if len(line) <= _SHOWN_TEXT else line[: _SHOWN_TEXT - 1] + "…"
