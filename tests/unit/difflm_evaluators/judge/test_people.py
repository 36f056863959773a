"""Preference by people: hidden sides, answers in, wins and ties and agreement out; the page in a browser."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from difflm.errors import DataError
from difflm_evaluators.judge.people import (
    QUESTION,
    PairAnswers,
    PairsKey,
    evaluate_answers,
    make_page,
    read_answers,
    read_key,
    write_page,
)
from difflm_evaluators.judge.preference import Pair, single_pairs
from difflm_evaluators.judge.questions import Record

NASTY = "</script><script>document.title='gone'</script> \u2028 <b>bold</b>"


def pairs(count: int) -> list[Pair]:
    return [
        Pair(
            category=f"kind {number % 3}",
            a=[Record(row=number + 1, fields={"name": f"synthetic {number}", "text": NASTY})],
            b=[Record(row=number + 1, fields={"name": f"real {number}", "parts": {"x": [1]}})],
        )
        for number in range(count)
    ]


def answers(key: PairsKey, rater: str, verdicts: dict[str, str]) -> PairAnswers:
    """What a rater's file says who prefers these sides."""
    choices: dict[str, Any] = {}
    for pair in key.pairs:
        verdict = verdicts.get(pair.id)
        if verdict is not None:
            choices[pair.id] = "equal" if verdict == "equal" else "left" if pair.left == verdict else "right"
    return PairAnswers(format_version=1, page=key.page, rater=rater, answers=choices)


def test_wins_ties_losses_and_agreement_are_known_ones() -> None:
    key = make_page(pairs(10), a="synthetic", b="real", seed=0, question=QUESTION).key
    names = [pair.id for pair in key.pairs]
    first = dict(zip(names, ["A"] * 5 + ["B"] * 3 + ["equal"] * 2, strict=True))
    evaluation = evaluate_answers(key, [answers(key, "ada", first), answers(key, "bob", first)])
    scores = {score.name: score for score in evaluation.scores}
    assert [scores[f"people_{name}"].value for name in ("prefer_a", "prefer_b", "equal")] == [50.0, 30.0, 20.0]
    # Wilson's interval of 10 of 20
    assert scores["people_prefer_a"].interval == pytest.approx((29.93, 70.07), abs=0.01)
    assert scores["people_agreement"].value == pytest.approx(1.0)
    other = first | {names[0]: "B", names[5]: "A"}
    mixed = evaluate_answers(key, [answers(key, "ada", first), answers(key, "bob", other)])
    # 20 ratings: 10 A, 6 B, 4 equal; 4 of 20 in pairs that differ: 1 - 0.2 / (2 (60 + 40 + 24) / (20 * 19))
    assert {score.name: score for score in mixed.scores}["people_agreement"].value == pytest.approx(
        1 - 0.2 / (248 / 380)
    )


def test_sides_are_drawn_and_the_page_does_not_tell_them() -> None:
    page = make_page(pairs(200), a="mine.jsonl", b="theirs.jsonl", seed=1, question=QUESTION)
    lefts = [pair.left for pair in page.key.pairs]
    assert 70 < lefts.count("A") < 130
    assert "mine.jsonl" not in page.html
    assert "theirs.jsonl" not in page.html
    assert '"left":' not in page.html
    assert page.html.count("</script>") == 2  # nothing of a record ends the data
    assert page == make_page(pairs(200), a="mine.jsonl", b="theirs.jsonl", seed=1, question=QUESTION)


def test_pairs_of_categories_show_no_record_twice() -> None:
    a = [Record(row=row, fields={"kind": "xyz"[row % 3], "n": row}) for row in range(30)]
    b = [Record(row=row, fields={"kind": "xy"[row % 2], "n": row}) for row in range(8)]
    drawn = single_pairs(a, b, "kind", most=100, seed=0)
    assert len(drawn) == 8
    assert len({pair.a[0].row for pair in drawn}) == len({pair.b[0].row for pair in drawn}) == 8
    assert all(pair.a[0].fields["kind"] == pair.category == pair.b[0].fields["kind"] for pair in drawn)


def test_what_is_missing_is_said() -> None:
    key = make_page(pairs(4), a="a", b="b", seed=0, question=QUESTION).key
    evaluation = evaluate_answers(key, [answers(key, "ada", {key.pairs[0].id: "A"})])
    assert evaluation.scores[0].warning == "3 of 4 answers are missing"
    assert evaluation.scores[3].undefined_because is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"page": "0" * 16}, "give the key that was written beside the page"),
        ({"answers": {"pair-9999": "left"}}, "'pair-9999' that the page does not have"),
        ({"answers": {"pair-0001": "both"}}, "answers.pair-0001: "),
        ({"rater": ""}, "rater: "),
        ({"format_version": 2}, "format_version: "),
    ],
)
def test_answers_that_are_none_name_the_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    key = make_page(pairs(2), a="a", b="b", seed=0, question=QUESTION).key
    saved = json.loads(answers(key, "ada", {}).model_dump_json()) | change
    (tmp_path / "x.json").write_text(json.dumps(saved))
    with pytest.raises(DataError, match=r"x\.json") as caught:
        read_answers(tmp_path / "x.json", key)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"{}"])
def test_a_key_that_is_none_names_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "k.json").write_bytes(data)
    with pytest.raises(DataError, match=r"k\.json"):
        read_key(tmp_path / "k.json")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        read_key(tmp_path / "nowhere.json")


def test_the_key_of_a_page_that_raters_have_is_not_replaced(tmp_path: Path) -> None:
    """With another seed it was, and their answers could be read no more."""
    first, again, other = (make_page(pairs(3), a="a", b="b", seed=seed, question="?") for seed in (1, 1, 2))
    key = write_page(first, tmp_path / "pairs.html")
    assert write_page(again, tmp_path / "pairs.html") == key
    with pytest.raises(DataError, match="is the key of another page"):
        write_page(other, tmp_path / "pairs.html")
    assert read_key(key) == first.key


def test_one_rater_has_one_file_and_somebody_has_answered() -> None:
    key = make_page(pairs(2), a="a", b="b", seed=0, question=QUESTION).key
    one = answers(key, "ada", {key.pairs[0].id: "A"})
    with pytest.raises(DataError, match="two files hold the answers of 'ada'"):
        evaluate_answers(key, [one, one])
    with pytest.raises(DataError, match="none of the files holds an answer"):
        evaluate_answers(key, [answers(key, "ada", {})])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine; apt-get install chromium")
def test_a_rater_answers_by_keyboard_and_saves_a_file(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    page = make_page(pairs(3), a="a", b="b", seed=0, question="Which one?")
    key_path = write_page(page, tmp_path / "pairs.html")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        failures: list[str] = []
        tab.on("pageerror", lambda error: failures.append(str(error)))
        tab.goto((tmp_path / "pairs.html").as_uri())
        assert tab.title() == "Pairs of records"
        assert tab.inner_text("#question") == "Which one?"
        assert NASTY.split(" \u2028")[0] in tab.inner_text("#pair")
        tab.keyboard.press("s")
        assert "Give your name" in tab.inner_text("#told")
        tab.fill("#rater", "Ada L.")
        tab.locator("#rater").blur()
        for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "ArrowLeft"):  # the second is changed to a tie
            tab.keyboard.press(key)
        with tab.expect_download() as saving:
            tab.keyboard.press("s")
        name = saving.value.suggested_filename
        saving.value.save_as(tmp_path / name)
        browser.close()
    assert not failures
    assert name == "answers-Ada_L_.json"
    saved = read_answers(tmp_path / name, read_key(key_path))
    assert saved.rater == "Ada L."
    assert saved.answers == {"pair-0001": "left", "pair-0002": "equal", "pair-0003": "left"}
