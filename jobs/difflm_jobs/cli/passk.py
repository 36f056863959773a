"""`difflm passk`: runs completions of programming exercises in the sandbox, and writes what came of it.

`difflm export-tools`: tool records back to raw tools as ToolBench has them, one JSON object a line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.config import Config, apply_overrides, validate
from difflm.records.files.reading import ReadConfig
from difflm.records.notices import ignore
from difflm.records.tool_codec import KEYS, tools_of, tools_of_table
from difflm_evaluators.base import Evaluation
from difflm_evaluators.report.rendering import markdown_cell
from difflm_evaluators.texts.pass_at_k import evaluate_pass_at_k, read_completions, read_problems
from difflm_evaluators.texts.sandbox import SandboxLimits
from difflm_jobs.cli.terminal import REFERENCE
from difflm_jobs.inputs.places import refuse_others, refuse_over
from difflm_jobs.inputs.record_kinds import TOOLS
from difflm_jobs.pipeline.runlog import counted


def export_tools(records: Path, out: Path) -> tuple[int, int]:
    """Write the tools of a file of records, of any readable kind; returns the numbers of records and of tools.

    Records of one category, tool name and tool description are one tool, wherever they stand; tools and their APIs
    keep the order in which they come first.

    Raises:
        ConfigError: the tools would replace the records.
        DataError: the file is missing, no table or JSON of tool records, or a value of `parameters` is no JSON.
        StorageError: the disk is full or writing is not permitted.
    """
    refuse_over(out, [records])
    found = tools_of_table(TOOLS.read(records, ReadConfig(), ignore), place=str(records))
    places: dict[tuple[object, ...], int] = {}
    for record in found:
        places.setdefault(tuple(record[key] for key in KEYS[:3]), len(places))
    tools = tools_of(sorted(found, key=lambda record: places[tuple(record[key] for key in KEYS[:3])]))
    write_bytes_atomic(out, "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools).encode())
    return len(found), len(tools)


class PassKSettings(Config):
    """What `difflm passk` takes with --set."""

    limits: SandboxLimits = SandboxLimits()


def score_completions(
    samples: str,
    *,
    problems: Path,
    ks: Sequence[int],
    out: Path,
    workers: int,
    overrides: Sequence[str],
    console: Console,
) -> Evaluation:
    """Score completions (JSON lines with task_id and completion), or the exercises' own reference solutions.

    Writes `passk.json` (scores, outcomes and failures) and `passk.md` (the same for people) into `out`. Raises
    DataError for files that cannot be read.
    """
    settings = validate(PassKSettings, apply_overrides({}, overrides), "--set", overrides)
    refuse_others(out, "passk")
    exercises = read_problems(problems)
    completions = (
        {problem.task_id: [problem.reference] for problem in exercises}
        if samples == REFERENCE
        else read_completions(Path(samples))
    )
    with console.status("running programs") as status:
        evaluation = evaluate_pass_at_k(
            exercises,
            completions,
            ks=ks,
            limits=settings.limits,
            workers=workers,
            progress=lambda done, total: status.update(f"running programs: {done:,} of {total:,}"),
        )
    out.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = json.loads(json.dumps(evaluation.to_json()))
    write_json_atomic(out / "passk.json", {"problems": str(problems), "samples": samples, **told})
    write_bytes_atomic(out / "passk.md", _markdown(evaluation, f"{samples} on {problems}").encode(errors="replace"))
    return evaluation


def account(evaluation: Evaluation) -> str:
    """Say in one line how many programs ran, how they ended, and how many exercises had none."""
    details: dict[str, Any] = json.loads(json.dumps(evaluation.details))
    said = f"{details['completions']:,} programs of {details['problems']:,} exercises: {counted(details['outcomes'])}"
    if missing := len(details["without_completions"]):
        said += f"; {missing:,} exercises have no completion and count as never solved"
    return said


def _markdown(evaluation: Evaluation, title: str) -> str:
    """Render scores, how programs ended, and which exercises were not solved, under what limits."""
    details: dict[str, Any] = json.loads(json.dumps(evaluation.details))
    lines = [f"# pass@k: {title}", "", "| score | value (%) | standard error |", "|---|---|---|"]
    for score in evaluation.scores:
        error = "-" if score.standard_error is None else f"{score.standard_error:.2f}"
        lines.append(f"| {score.title} | {score.value:.2f} | {error} |")
    lines += ["", f"{account(evaluation)}."]
    limits = ", ".join(f"{name} {value}" for name, value in details["limits"].items())
    lines += ["", f"Isolation: {details['isolation']}. Limits: {limits}."]
    if missing := details["without_completions"]:
        lines += ["", f"Without a completion: {', '.join(missing)}."]
    if failures := details["failures"]:
        lines += ["", "| exercise | outcome | error |", "|---|---|---|"]
        rows = ((one["task_id"], one["outcome"], one["error"]) for one in failures)
        lines += [f"| {' | '.join(markdown_cell(str(cell)) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"
