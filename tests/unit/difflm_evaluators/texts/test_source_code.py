"""Scores of Python code, each against an answer that was worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm_evaluators.texts.source_code import evaluate_source_code, inspect_code
from difflm_evaluators.texts.text_scores import CopiesConfig, NearDuplicates, jaccard, shingles

GOOD = "import os\n\ndef f(a, b):\n    return os.path.join(a, b)\n"
WORDS = " ".join(f"w{i}" for i in range(100))


def test_code_that_parses_but_does_not_compile() -> None:
    inspection = inspect_code("return 1")
    assert (inspection.parses, inspection.compiles) == (True, False)
    assert inspection.fault is not None
    assert inspect_code("def (").parses is False
    assert inspect_code("x = '\0'").parses is False


def test_imports_and_lint_classes() -> None:
    inspection = inspect_code(
        "import os, numpy.linalg\nfrom . import sibling\nfrom nowhere_at_all.x import y\nprint(z)\n"
    )
    assert inspection.modules == ("nowhere_at_all", "numpy", "os")
    assert sorted(set(inspection.lint)) == ["UndefinedName", "UnusedImport"]
    assert inspection.lines == 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# Copyright 2019 Somebody", True),
        ("# SPDX-License-Identifier: MIT", True),
        ("# Licensed under the Apache License", True),
        ("def license_plate(car):\n    return car.plate", False),
    ],
)
def test_licence_headers(text: str, found: bool) -> None:
    assert inspect_code(text).licence is found


def test_known_answers_of_all_scores() -> None:
    synthetic = [GOOD, "import nowhere_at_all\nx = 1\n", "def (", "# (c) 2001 Me\nimport os, sys\n"]
    train = [GOOD + "   \n", "import nowhere_at_all\n"]
    code, copies = evaluate_source_code(synthetic, train, [GOOD], CopiesConfig())
    values = {score.name: score.value for score in (*code.scores, *copies.scores)}
    assert values == {
        "parses_share": 75.0,
        "compiles_share": 75.0,
        "resolvable_import_share": 75.0,
        "known_import_share": 100.0,
        "lint_rate": pytest.approx(100 * 3 / 7),
        "licence_share": 25.0,
        "near_duplicate_share": 0.0,
        "exact_copy_share": 25.0,
        "near_copy_share": 25.0,
    }
    assert code.score("parses_share").baseline == 100.0
    assert copies.details["near_copies"] == [[0, 0]]
    assert copies.score("near_copy_share").warning is None  # the real test record is a copy as well


def test_copies_are_a_warning_where_real_records_are_none() -> None:
    _, copies = evaluate_source_code([GOOD], [GOOD], [WORDS], CopiesConfig())
    assert "100.0 % of the records are near-copies" in str(copies.score("near_copy_share").warning)


def test_what_cannot_be_measured_is_undefined_with_a_reason() -> None:
    code, _ = evaluate_source_code(["def ("], [GOOD], None, CopiesConfig())
    assert code.score("lint_rate").undefined_because == "no record parses"
    assert code.score("known_import_share").undefined_because == "no record imports anything"


def test_jaccard_of_shingles_by_hand() -> None:
    assert shingles("a b c d e f") == {"a b c d e", "b c d e f"}
    assert shingles("a(b)") == {"a ( b )"}
    assert jaccard(shingles("a b c d e f"), shingles("a b c d e g")) == pytest.approx(1 / 3)
    assert jaccard(shingles(""), shingles(" \n")) == 1.0


def test_near_duplicates_of_a_changed_word() -> None:
    words = WORDS.split()
    changed = " ".join([*words[:50], "other", *words[51:]])  # 5 of 96 shingles differ: 91 / 101
    index = NearDuplicates.of([WORDS, "something else altogether, and more of it"], 0.9)
    assert index.near([changed, " ".join(reversed(words))]) == [0, None]
    assert NearDuplicates.of([WORDS], 0.91).near([changed]) == [None]
    assert NearDuplicates.repeats([WORDS, "a b", changed, WORDS], 0.9) == [None, None, 0, 0]


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5))
def test_every_text_is_a_near_duplicate_of_itself(texts: list[str]) -> None:
    nearest = NearDuplicates.of(texts).near(texts)
    assert all(
        place is not None and shingles(texts[place]) == shingles(text)
        for place, text in zip(nearest, texts, strict=True)
    )
