"""A reply is read as JSON of the right form or not at all."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm_evaluators.judge.client import Reply
from difflm_evaluators.judge.questions import strict_schema
from difflm_evaluators.judge.reading import CUT_OFF, NO_JSON, REFUSED, WRONG_FORM, NotReadable, read_reply
from difflm_evaluators.judge.rubric import Criterion, Rubric, answer_model

MODEL = answer_model(Rubric(record="a thing", criteria=(Criterion(name="grade", description="good", highest=5),)))


def _reply(content: str, *, finish_reason: str = "stop", refusal: str | None = None) -> Reply:
    return Reply(content=content, finish_reason=finish_reason, refusal=refusal, used=None)


@pytest.mark.parametrize(
    "content",
    [
        '{"reason": "fine", "grade": 3}',
        ' {"grade": "3", "reason": "fine", "more": 1} ',
        '```json\n{"reason": "fine", "grade": 3}\n```',
        '<think>maybe {"grade": 9}?</think>\n{"reason": "fine", "grade": 3.0}',
        'Here you are: {"reason": "fine", "grade": 3}. Bye!',
    ],
)
def test_an_answer_is_found_where_servers_without_structured_output_put_it(content: str) -> None:
    assert read_reply(_reply(content), MODEL) == {"reason": "fine", "grade": 3}


@pytest.mark.parametrize(
    ("reply", "reason", "again"),
    [
        (_reply("I would say 3."), NO_JSON, True),
        (_reply(""), NO_JSON, True),
        (_reply("[3]"), NO_JSON, True),
        (_reply('{"reason": "fine"}'), WRONG_FORM, True),
        (_reply('{"reason": "fine", "grade": 6}'), WRONG_FORM, True),
        (_reply('{"reason": "fine", "grade": 2.5}'), WRONG_FORM, True),
        (_reply('{"reason": "fine", "grade": true}'), WRONG_FORM, True),
        (_reply('{"reason": "fine", "grade": null}'), WRONG_FORM, True),
        (_reply('{"reason": "it is a very', finish_reason="length"), CUT_OFF, False),
        (_reply("", refusal="I cannot grade this."), REFUSED, False),
        (_reply('{"reason": "fine", "grade": 3}', finish_reason="content_filter"), REFUSED, False),
    ],
)
def test_anything_else_is_a_reason_and_no_grade(reply: Reply, reason: str, again: bool) -> None:
    with pytest.raises(NotReadable) as caught:
        read_reply(reply, MODEL)
    assert caught.value.reason == reason
    assert caught.value.again is again


@given(st.text(max_size=200))
def test_no_text_makes_reading_fail_otherwise_or_a_grade_leave_its_scale(content: str) -> None:
    for text in (content, '{"reason": "", "grade": ' + content + "}"):
        with suppress(NotReadable):
            assert 0 <= read_reply(_reply(text), MODEL)["grade"] <= 5


def test_the_schema_that_is_sent_is_closed_and_bounds_every_grade() -> None:
    assert strict_schema(MODEL) == {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "grade": {"type": "integer", "minimum": 0, "maximum": 5}},
        "required": ["reason", "grade"],
        "additionalProperties": False,
    }
