"""pass@k: its closed form, readers of both benchmarks, and reference solutions that pass."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.errors import DataError
from difflm_evaluators.texts.pass_at_k import Problem, evaluate_pass_at_k, pass_at_k, read_completions, read_problems
from difflm_evaluators.texts.sandbox import SandboxLimits

LIMITS = SandboxLimits(cpu_s=5)
PROBLEM = Problem(task_id="a", prompt="", before="def f():\n", after="assert f() == 1", reference="    return 1")


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(case: tuple[int, int, int]) -> None:
    n, c, k = case
    draws = list(itertools.combinations([place < c for place in range(n)], k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_of_large_numbers() -> None:
    assert pass_at_k(200, 1, 100) == pytest.approx(0.5)
    assert pass_at_k(200, 101, 100) == 1.0
    with pytest.raises(ValueError, match="k=3"):
        pass_at_k(2, 1, 3)


def test_two_exercises_one_solved_half_of_the_time() -> None:
    other = Problem(task_id="b", prompt="", before="", after="assert g", reference="g = 1")
    done: list[int] = []
    evaluation = evaluate_pass_at_k(
        [PROBLEM, other],
        {"a": ["    return 1", "    return 2"], "b": ["g = 0", "import sys\nsys.exit(0)"]},
        ks=[1, 2],
        limits=LIMITS,
        progress=lambda count, total: done.append(count),
    )
    assert [score.value for score in evaluation.scores] == [25.0, 50.0]
    assert evaluation.scores[0].standard_error == pytest.approx(25.0)
    assert evaluation.details["outcomes"] == {"passed": 1, "failed": 3}
    assert done == [1, 2, 3, 4]


def test_an_exercise_without_completions_is_not_solved() -> None:
    other = Problem(task_id="b", prompt="", before="", after="", reference="")
    evaluation = evaluate_pass_at_k([PROBLEM, other], {"a": [PROBLEM.reference]}, ks=[1], limits=LIMITS)
    assert evaluation.score("pass_at_1").value == 50.0
    assert evaluation.details["without_completions"] == ["b"]


@pytest.mark.parametrize(
    ("completions", "message"),
    [({"c": ["x"]}, "none of the exercises"), ({}, "no completions"), ({"a": ["x"]}, "pass@2 needs as many")],
)
def test_completions_that_do_not_fit_are_refused(completions: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_pass_at_k([PROBLEM], completions, ks=[2], limits=LIMITS)


def test_bad_files_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"task_id": "x", "text": "no tests"}\n')
    with pytest.raises(DataError, match="exercise 1 has the keys"):
        read_problems(path)
    path.write_text('{"task_id": 1}\nnot json\n')
    with pytest.raises(DataError, match="line 2: not JSON"):
        read_problems(path)
    path.write_text('{"task_id": 1}\n')
    with pytest.raises(DataError, match="sample 1 needs the keys task_id and completion"):
        read_completions(path)
    path.write_text(
        json.dumps({"task_id": 7, "completion": "a"}) + "\n" + json.dumps({"task_id": 7, "completion": "b"})
    )
    assert read_completions(path) == {"7": ["a", "b"]}


@pytest.mark.parametrize(
    ("file", "count"),
    [("humaneval/HumanEval.jsonl.gz", 164), ("mbpp/sanitized-mbpp.json.gz", 427), ("mbpp/mbpp.jsonl.gz", 974)],
)
def test_reference_solutions_pass(real_data: Callable[[str], Path], file: str, count: int) -> None:
    """A sample of them; `difflm passk reference --problems FILE` runs all."""
    problems = read_problems(real_data(file))
    assert len(problems) == count
    some = problems[:: count // 5]
    evaluation = evaluate_pass_at_k(some, {p.task_id: [p.reference] for p in some}, ks=[1], limits=LIMITS)
    assert evaluation.details["failures"] == []


@pytest.mark.parametrize(
    "changes", [{"test_list": 5}, {"test_list": ["assert 1", 7]}, {"test_imports": "x"}, {"code": None}]
)
def test_an_exercise_of_another_form_is_named(tmp_path: Path, changes: dict[str, object]) -> None:
    row = {"task_id": 1, "text": "t", "code": "x = 1", "test_list": ["assert 1"], **changes}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=rf"mbpp\.jsonl: exercise 1: {next(iter(changes))} is no "):
        read_problems(tmp_path / "mbpp.jsonl")
