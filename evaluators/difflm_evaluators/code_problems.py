"""Programming exercises with tests: readers of HumanEval (Chen et al. 2021) and MBPP (Austin et al. 2021) files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflm.errors import DataError
from difflm.records.json_rows import read_json_rows

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
        """The program that ends without an error if and only if the completion passes the tests."""
        return f"{self.before}{completion}\n{self.after}\n"


def read_problems(path: Path) -> list[Problem]:
    """The exercises in a file of HumanEval or MBPP (full or sanitized), JSON lines or a JSON list, also gzip.

    Raises DataError naming file, line and key for anything else.
    """
    problems = [_problem(row, f"{path}: exercise {place}") for place, row in enumerate(read_json_rows(path), start=1)]
    if not problems:
        raise DataError(f"{path}: no exercise in it; give a file of HumanEval or MBPP")
    return problems


def read_completions(path: Path) -> dict[str, list[str]]:
    """Completions by exercise from JSON lines with `task_id` and `completion`, in the order of the file.

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
