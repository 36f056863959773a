"""Words, repetition and fluency of texts, each against an answer worked out by hand; and the page of samples."""

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.errors import DataError, EvaluationError
from difflm_evaluators.evaluation import RealSplits
from difflm_evaluators.report.layout import ReportContext
from difflm_evaluators.report.report import write_report
from difflm_evaluators.texts.evaluation import TextScoring, evaluate_code_table
from difflm_evaluators.texts.language import (
    FluencyConfig,
    LanguageConfig,
    bits_per_character,
    evaluate_language,
    read_tool,
    words_of,
)

TRAIN = ["the quick brown fox jumps over the lazy dog", "a river runs past"]
TEST = ["the quick brown fox runs past"]
TOOL = {
    "category": "Weather",
    "tool_name": "sky",
    "tool_description": None,
    "api_name": "now",
    "api_description": "The weather now.",
    "parameters": [
        {"name": "city", "type": "STRING", "description": "Where", "required": True},
        {"name": "unit", "type": "STRING", "description": "", "required": False},
    ],
}


class Coins:
    """A language model to which every character is a fair coin: one bit."""

    name = "coins"

    def __call__(self, texts: Sequence[str]) -> list[float]:
        return [len(text) * math.log(2) for text in texts]


class Shouting(Coins):
    """One to which an upper-case letter costs three bits."""

    def __call__(self, texts: Sequence[str]) -> list[float]:
        return [sum(3 if sign.isupper() else 1 for sign in text) * math.log(2) for text in texts]


def values(synthetic: Sequence[str], config: LanguageConfig | None = None) -> dict[str, float | None]:
    evaluations = evaluate_language(synthetic, TRAIN, TEST, config or LanguageConfig(), scorer=Shouting())
    return {score.name: score.value for evaluation in evaluations for score in evaluation.scores}


def test_words_are_runs_of_letters() -> None:
    assert words_of("get_fox2 the-Dog x straße 42") == ["get", "fox", "the", "dog", "straße"]


def test_known_words_are_those_of_training() -> None:
    assert values(["the quikc brown fox", "Lazy river"])["known_word_share"] == pytest.approx(100 * 5 / 6)
    found = evaluate_language(["the quikc quikc dgo"], TRAIN, TEST, LanguageConfig())[0]
    assert found.details["unknown_words"] == {"synthetic": [["quikc", 2], ["dgo", 1]], "real_test": []}
    assert found.score("known_word_share").baseline == 100.0
    assert [score.name for score in found.scores] == ["known_word_share", "repetition_within", "repetition_between"]


def test_a_list_adds_known_words(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("Whale 1200\nsquid\t17\n\n", encoding="utf-8")
    config = LanguageConfig(words=str(path))
    assert values(["whale squid fox shrimp"], config)["known_word_share"] == 75.0
    for broken in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="no list of words"):
            values(["fox"], LanguageConfig(words=str(broken)))


def test_repeats_within_a_record() -> None:
    """Nine words have six runs of four; the last two of "w x y z w x y z w" were there before."""
    words = "fox dog river past fox dog river past fox"
    assert values([words])["repetition_within"] == pytest.approx(100 * 2 / 6)
    assert values(["the quick brown fox jumps"])["repetition_within"] == 0.0


def test_repeats_between_records_are_counted_among_as_many_of_each_side() -> None:
    made = ["the quick brown fox jumps", "the quick brown fox runs", "one two three four five"]
    tests = ["alpha beta gamma delta", "alpha beta gamma delta", "first second third fourth"]
    found = evaluate_language(made, TRAIN, tests, LanguageConfig())[0].score("repetition_between")
    assert found.value == pytest.approx(100 * 2 / 6)  # one of two runs, twice; the third record shares none
    assert found.baseline == pytest.approx(100 * 2 / 3)
    alone = evaluate_language(made, TRAIN, None, LanguageConfig())[0].score("repetition_between")
    assert (alone.direction, alone.baseline) == ("lower", None)


def test_bits_per_character() -> None:
    assert bits_per_character(["abcd", "ABCD", ""], Shouting()) == (2.0, pytest.approx(math.sqrt(32 * 2) / 8))
    assert bits_per_character(["Ab"], Shouting()) == (2.0, None)
    assert bits_per_character([""], Coins()) == (None, None)
    found = evaluate_language(["ABcd"], TRAIN, TEST, LanguageConfig(), scorer=Shouting())[0].score("bits_per_character")
    assert (found.value, found.baseline) == (2.0, pytest.approx(1.0))
    assert "coins" in found.meaning


def test_only_the_beginning_of_some_texts_is_measured() -> None:
    config = LanguageConfig(fluency=FluencyConfig(max_texts=1, max_characters=2))
    assert values(["abCD", "abCD"], config)["bits_per_character"] == pytest.approx(1.0)


def test_a_scorer_without_figures_is_an_error() -> None:
    class Lost(Coins):
        def __call__(self, texts: Sequence[str]) -> list[float]:
            return [math.inf] * len(texts)

    with pytest.raises(EvaluationError, match="finite figures"):
        bits_per_character(["a"], Lost())


def test_no_words_and_no_texts_have_a_reason() -> None:
    found = evaluate_language(["42", ""], TRAIN, None, LanguageConfig())[0]
    assert found.score("known_word_share").undefined_because == "there are no words"
    assert found.score("repetition_within").undefined_because == "no record has 4 words"
    nothing = evaluate_language([], TRAIN, None, LanguageConfig(), scorer=Coins())[0]
    assert nothing.score("bits_per_character").undefined_because == "there are no texts"


def test_a_tool_reads_like_a_text() -> None:
    assert read_tool(TOOL) == ("Weather: sky\nnow: The weather now.\n- city (STRING, required): Where\n- unit (STRING)")
    assert read_tool({**TOOL, "tool_description": "Skies.", "api_description": None, "parameters": []}) == (
        "Weather: sky\nSkies.\nnow"
    )


def test_the_report_shows_records_to_read_escaped_and_only_where_asked(tmp_path: Path) -> None:
    code = pa.table({"code": ["print('<b>synthetic</b>')", "x = 1"]})
    real = RealSplits(train=pa.table({"code": ["train_only = 1"]}), test=pa.table({"code": ["held_out = 2"]}))
    report = evaluate_code_table(code, real, TextScoring())
    write_report(report, tmp_path / "shown", context=ReportContext(title="t"))
    page = (tmp_path / "shown" / "report.html").read_text(encoding="utf-8")
    assert "Records to read" in page
    assert "print(&#39;&lt;b&gt;synthetic&lt;/b&gt;&#39;)" in page
    assert "held_out = 2" in page
    assert "<b>synthetic" not in page
    assert "train_only = 1" not in page
    assert "Words that training does not have: " in page
    quiet = evaluate_code_table(code, real, TextScoring(language=LanguageConfig(samples=0)))
    write_report(quiet, tmp_path / "quiet", context=ReportContext(title="t"))
    page = (tmp_path / "quiet" / "report.html").read_text(encoding="utf-8")
    assert "Records to read" not in page
    assert "held_out" not in page
