"""pass@k: the probability that at least one of k completions of an exercise passes its tests (Chen et al. 2021).

Unbiased from n >= k completions of which c pass (arXiv 2107.03374, section 2.1): 1 - C(n - c, k) / C(n, k).

Programming exercises with tests: readers of HumanEval (Chen et al. 2021) and MBPP (Austin et al. 2021) files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difflm.errors import DataError
from difflm.records.files.json_files import read_json_rows
from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.texts.sandbox import SandboxLimits, SandboxResult, isolation, run_program

_HUMANEVAL = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
_MBPP = ("task_id", "code", "test_list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One exercise. `before` stands before a completion (HumanEval's prompt; nothing in MBPP), `after` are its tests.

    `prompt` is what a model is shown; `reference` is a completion that is right.
    """

    task_id: str
    prompt: str
    before: str
    after: str
    reference: str

    def program(self, completion: str) -> str:
        """Build the program that ends without an error if and only if the completion passes the tests."""
        return f"{self.before}{completion}\n{self.after}\n"


def read_problems(path: Path) -> list[Problem]:
    """Read the exercises in a file of HumanEval or MBPP (full or sanitized), JSON lines or a JSON list, also gzip.

    Raises DataError naming file, line and key for anything else.
    """
    problems = [_problem(row, f"{path}: exercise {place}") for place, row in enumerate(read_json_rows(path), start=1)]
    if not problems:
        raise DataError(f"{path}: no exercise in it; give a file of HumanEval or MBPP")
    return problems


def read_completions(path: Path) -> dict[str, list[str]]:
    """Read completions by exercise from JSON lines with `task_id` and `completion`, in the order of the file.

    Raises DataError naming file and line.
    """
    found: dict[str, list[str]] = {}
    for place, row in enumerate(read_json_rows(path), start=1):
        task, completion = row.get("task_id"), row.get("completion")
        if task is None or not isinstance(completion, str):
            raise DataError(
                f"{path}: sample {place} needs the keys task_id and completion (a text); it has {list(row)}"
            )
        found.setdefault(str(task), []).append(completion)
    if not found:
        raise DataError(f"{path}: no completion in it; give at least one")
    return found


def _problem(row: Mapping[str, Any], place: str) -> Problem:
    if all(isinstance(row.get(key), str) for key in _HUMANEVAL):
        return Problem(
            task_id=row["task_id"],
            prompt=row["prompt"],
            before=row["prompt"],
            after=f"{row['test']}\ncheck({row['entry_point']})",
            reference=row["canonical_solution"],
        )
    if all(key in row for key in _MBPP):
        for key in ("test_imports", "test_list"):
            if not isinstance(texts := row.get(key, []), list) or not all(isinstance(one, str) for one in texts):
                raise DataError(f"{place}: {key} is no list of texts; give exercises as MBPP has them")
        for key in ("test_setup_code", "code"):
            if not isinstance(row.get(key, ""), str):
                raise DataError(f"{place}: {key} is no text; give exercises as MBPP has them")
        tests = [*row.get("test_imports", ()), row.get("test_setup_code", ""), *row["test_list"]]
        text = str(row.get("prompt", row.get("text", "")))
        shown = "\n".join([text, *row["test_list"]])
        return Problem(
            task_id=str(row["task_id"]),
            prompt=f'"""\n{shown}\n"""\n',
            before="",
            after="\n".join(tests),
            reference=row["code"],
        )
    raise DataError(
        f"{place} has the keys {list(row)}; HumanEval has {list(_HUMANEVAL)}, MBPP has at least {list(_MBPP)}"
    )


Progress = Callable[[int, int], None]


def pass_at_k(n: int, c: int, k: int) -> float:
    """Estimate from `n` completions of which `c` pass; ValueError unless 0 <= c <= n and 1 <= k <= n."""
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def evaluate_pass_at_k(
    problems: Sequence[Problem],
    completions: Mapping[str, Sequence[str]],
    *,
    ks: Sequence[int],
    limits: SandboxLimits,
    workers: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Run every completion of every exercise in the sandbox; one score per k (percent), with its standard error over
    exercises.

    An exercise without completions counts as never solved by as many as the others have, and is named in the details.

    Raises:
        DataError: a completion of an exercise that there is not, no completions at all, or fewer than the largest k.
    """
    _check(problems, completions, ks)
    most = max(len(samples) for samples in completions.values())
    jobs = [(problem, text) for problem in problems for text in completions.get(problem.task_id, ())]
    results: list[SandboxResult] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for result in pool.map(lambda job: run_program(job[0].program(job[1]), limits), jobs):
            results.append(result)
            if progress is not None:
                progress(len(results), len(jobs))
    passed: Counter[str] = Counter()
    for (problem, _), result in zip(jobs, results, strict=True):
        passed[problem.task_id] += result.outcome == "passed"
    counts = [(len(completions.get(p.task_id, ())) or most, passed[p.task_id]) for p in problems]
    scores = tuple(_score(k, np.array([pass_at_k(n, c, k) for n, c in counts])) for k in ks)
    outcomes: dict[str, JSON] = dict(Counter(result.outcome for result in results))
    failures: list[JSON] = [
        {"task_id": problem.task_id, "outcome": result.outcome, "error": result.error}
        for (problem, _), result in zip(jobs, results, strict=True)
        if result.outcome != "passed"
    ]
    return Evaluation(
        name="pass_at_k",
        scores=scores,
        details={
            "problems": len(problems),
            "completions": len(jobs),
            "without_completions": [p.task_id for p in problems if not completions.get(p.task_id)],
            "outcomes": outcomes,
            "failures": failures,
            "limits": limits.model_dump(),
            "isolation": isolation().text,
        },
    )


def _check(problems: Sequence[Problem], completions: Mapping[str, Sequence[str]], ks: Sequence[int]) -> None:
    unknown = sorted(set(completions) - {problem.task_id for problem in problems})
    if unknown:
        raise DataError(
            f"completions of {unknown[0]!r}, which is none of the exercises; give the exercises they are for"
        )
    if not completions:
        raise DataError("no completions; give at least one")
    fewest = min(completions, key=lambda task: len(completions[task]))
    if len(completions[fewest]) < max(ks):
        raise DataError(
            f"exercise {fewest!r} has {len(completions[fewest])} completions, pass@{max(ks)} needs as many; "
            "give more, or a smaller k"
        )


def _score(k: int, estimates_P: np.ndarray) -> Score:
    count = len(estimates_P)
    return Score(
        name=f"pass_at_{k}",
        title=f"pass@{k}",
        meaning=f"Probability that at least one of {k} completions of an exercise passes all its tests.",
        value=100 * float(estimates_P.mean()),
        direction="higher",
        unit="%",
        bounds=(0, 100),
        ideal=100,
        standard_error=100 * float(estimates_P.std(ddof=1)) / math.sqrt(count) if count > 1 else None,
    )
