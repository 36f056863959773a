"""Scores of tool records, each against an answer that was worked out by hand."""

import copy
from typing import Any

import pytest

from difflm.errors import DataError
from difflm_evaluators.texts.text_scores import CopiesConfig
from difflm_evaluators.texts.tools import evaluate_tools


def record(
    category: str, number: int, *, parameters: int = 1, words: str = "find the weather of a place"
) -> dict[str, Any]:
    return {
        "category": category,
        "tool_name": f"tool {number}",
        "tool_description": None,
        "api_name": f"api {number}",
        "api_description": " ".join(f"{word}{number}" for word in words.split()),
        "parameters": [
            {"name": f"p{i}", "type": "STRING", "description": "", "required": i == 0} for i in range(parameters)
        ],
    }


TRAIN = [record("Weather", 1), record("Music", 2), record("Music", 3), record("Sports", 4, parameters=2)]
TEST = [record("Music", 8), record("Music", 9)]


def values(synthetic: list[dict[str, Any]]) -> dict[str, float | None]:
    evaluations = evaluate_tools(synthetic, TRAIN, TEST, CopiesConfig())
    return {score.name: score.value for evaluation in evaluations for score in evaluation.scores}


def test_good_records() -> None:
    found = values([record("Music", 5), record("Weather", 6)])
    assert found["valid_share"] == found["consistent_share"] == 100.0
    assert found["category_coverage"] == pytest.approx(200 / 3)
    assert found["near_duplicate_share"] == found["near_copy_share"] == found["exact_copy_share"] == 0.0
    assert found["parameter_count_error"] == pytest.approx(25.0)  # a quarter of training has two parameters
    assert found["description_length_error"] == 0.0
    assert found["distinct_pairs"] == 100.0


def test_faults_are_counted_by_place_and_rule() -> None:
    wrong_type, no_key, text = record("Music", 5), record("Music", 6), record("Music", 7)
    wrong_type["parameters"][0]["type"] = "NEVER SEEN"
    del no_key["api_name"]
    text["parameters"] = "[not json"
    tools, _, _ = evaluate_tools([wrong_type, no_key, text, record("Music", 8)], TRAIN, None, CopiesConfig())
    assert tools.score("valid_share").value == 25.0
    assert tools.details["faults"] == {"parameters/type: enum": 1, "record: required": 1, "parameters: type": 1}


def test_parameters_that_contradict_each_other() -> None:
    twice, behind = record("Music", 5, parameters=2), record("Music", 6, parameters=2)
    twice["parameters"][1]["name"] = "p0"
    behind["parameters"].reverse()
    assert values([twice, behind, record("Music", 7)])["consistent_share"] == pytest.approx(100 / 3)


def test_copies_count_in_any_category() -> None:
    copied = copy.deepcopy(TRAIN[0])
    copied["category"] = "Sports"
    found = values([copied, copied, record("Music", 7)])
    assert found["exact_copy_share"] == found["near_copy_share"] == pytest.approx(200 / 3)
    assert found["near_duplicate_share"] == pytest.approx(100 / 3)


def test_without_a_valid_record_texts_are_undefined() -> None:
    evaluations = evaluate_tools([{"category": 1}], TRAIN, None, CopiesConfig())
    assert evaluations[2].score("distinct_pairs").undefined_because == "no record is valid"
    assert evaluations[0].score("valid_share").value == 0.0
    assert evaluations[0].score("category_coverage").value == 0.0


def test_real_records_must_fit() -> None:
    with pytest.raises(DataError, match="training record 1: record: required"):
        evaluate_tools(TRAIN, [{"category": "Music"}], None, CopiesConfig())
