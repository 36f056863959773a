"""`difflm passk`: runs completions of programming exercises in the sandbox, and writes what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from difflm.artifacts import write_json_atomic
from difflm.config import Config, apply_overrides, validate
from difflm_evaluators.code_problems import read_completions, read_problems
from difflm_evaluators.pass_at_k import evaluate_pass_at_k
from difflm_evaluators.sandbox import SandboxLimits

REFERENCE = "reference"


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
) -> list[dict[str, Any]]:
    """Score completions (JSON lines with task_id and completion), or the exercises' own reference solutions.

    Writes `passk.json` (scores, outcomes and failures) into `out`. Raises DataError for files that cannot be read.
    """
    settings = validate(PassKSettings, apply_overrides({}, overrides), "--set", overrides)
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
    return [asdict(score) for score in evaluation.scores]
