"""The judge against a local server that speaks the protocol: faults, resumption, cache, budget, forms of output."""

import gzip
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from difflm.errors import ConfigError, DataError, StorageError
from difflm.testing.judge_server import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Drops,
    Fails,
    Hangs,
    JudgeServer,
    Pours,
    Reaction,
    Says,
    Script,
    Sends,
    in_turn,
    judge_server,
    says_json,
)
from difflm_evaluators.judge.answers import AnswerLog, Cache, DiskCache, NoCache
from difflm_evaluators.judge.client import retry_after_s
from difflm_evaluators.judge.grades import RubricProtocol
from difflm_evaluators.judge.questions import Record
from difflm_evaluators.judge.report import Judgement
from difflm_evaluators.judge.rubric import Criterion, Rubric
from difflm_evaluators.judge.run import ANSWERS, judge
from difflm_evaluators.judge.settings import JudgeSettings, PriceSettings

GOOD = says_json({"reason": "fine", "grade": 6})
RUBRIC = Rubric(record="a thing", criteria=(Criterion(name="grade", description="good"),))


@dataclass
class Scene:
    """A judge, its server, and the waits that nobody has waited for."""

    server: JudgeServer
    folder: Path
    waits: list[float] = field(default_factory=list)
    key: str = "sk-secret"

    def judge(
        self, *texts: str, cache: Cache | None = None, settings: Mapping[str, Any] | None = None, folder: str = "out"
    ) -> Judgement:
        """Grade records with these texts."""
        protocol = RubricProtocol(
            name="rubric",
            rubric=RUBRIC,
            records=[Record(row=row, fields={"text": text}) for row, text in enumerate(texts, start=1)],
        )

        async def no_sleep(seconds: float) -> None:
            self.waits.append(seconds)

        return judge(
            protocol,
            JudgeSettings.model_validate_json(
                json.dumps({"model": "m", "base_url": self.server.base_url, **(settings or {})})
            ),
            self.folder / folder,
            title="things",
            cache=cache or NoCache(),
            environment={"OPENAI_API_KEY": self.key},
            sleep=no_sleep,
        )

    def lines(self, folder: str = "out") -> list[dict[str, Any]]:
        """The log of answers."""
        return [json.loads(line) for line in (self.folder / folder / ANSWERS).read_text().splitlines()]


@contextmanager
def _scene(folder: Path, script: Script, *, key: str | None = None) -> Iterator[Scene]:
    with judge_server(script, key=key) as server:
        yield Scene(server, folder)


def _text_of(body: Mapping[str, Any]) -> str:
    """The record's text inside a question."""
    found: str = body["messages"][1]["content"].partition('"text": "')[2].partition('"')[0]
    return found


def test_every_record_is_asked_about_once_and_everything_is_written_down(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Reaction:
        return says_json({"reason": "r", "grade": int(_text_of(body))})

    with _scene(tmp_path, script, key="sk-secret") as scene:
        found = scene.judge("2", "4", "9", settings={"prices": {"input": 1, "output": 10}})
        assert found.evaluation.score("judge_grade").value == 5
        assert found.stopped_because is None
        assert scene.server.keys == ["sk-secret"] * 3
        form = scene.server.requests[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    written = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert written["complete"] is True
    assert written["evaluation"]["scores"][0]["value"] == 5
    account = written["account"]
    assert (account["requests"], account["answered"], account["unanswered"]) == (3, 3, 0)
    assert (account["input_tokens"], account["output_tokens"]) == (3 * INPUT_TOKENS, 3 * OUTPUT_TOKENS)
    assert account["dollars"] == pytest.approx(3 * (INPUT_TOKENS * 1 + OUTPUT_TOKENS * 10) / 1e6)
    assert not any("sk-secret" in file.read_text() for file in (tmp_path / "out").iterdir())
    assert "| Judge: grade | 5.000 ± 2.1 |" in (tmp_path / "out" / "judge.md").read_text()


@pytest.mark.parametrize(
    "fault",
    [
        Fails(status=500),
        Fails(status=503),
        Fails(status=429),
        Drops(),
        Sends(body=b'{"choices": [{"mess'),
        Sends(body=b"<html>bad gateway</html>", content_type="text/html"),
        Sends(body=b'{"choices": []}'),
        Sends(body=b'{"choices": 5}'),
        Sends(body=b'{"choices": {"a": 1}}'),
        Sends(body=b'{"choices": [null]}'),
        Says(content='{"reason": "\\ud800", "grade": 5}'),
        Says(content="no JSON here"),
        says_json({"reason": "of another form", "grade": 99}),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{getattr(fault, 'status', '')}",
)
def test_one_fault_costs_a_request_and_no_answer(tmp_path: Path, fault: Reaction) -> None:
    with _scene(tmp_path, in_turn(GOOD, fault, GOOD)) as scene:
        found = scene.judge("a", "b", settings={"limits": {"concurrency": 1}})
        assert found.evaluation.score("judge_grade").value == 6
        assert (found.account.answered, found.account.requests, len(scene.server.requests)) == (2, 3, 3)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fails(status=500), "server error 500"),
        (Fails(status=429), "rate limited (429)"),
        (Drops(), "connection broken"),
        (Hangs(), "timed out"),
        (Pours(), "timed out"),
        (Pours(chunk=b" " * 2**20, pause_s=0), "connection broken"),
        (Sends(body=b"{"), "response is not JSON"),
        (Sends(body=b"[" * 100_000), "response is not JSON"),
        (Sends(body=gzip.compress(b" " * 2**20), headers={"Content-Encoding": "gzip"}), "connection broken"),
        (Sends(body=b"busy", content_type="text/plain"), "response is no chat completion"),
        (Says(content="hm"), "the reply is not JSON"),
        (Says(content=None), "the reply is not JSON"),
        (says_json({"grade": 5}), "the reply has another form"),
        (Says(content="", refusal="I will not."), "the judge refused"),
        (Says(content='{"reason": "it', finish_reason="length"), "the reply was cut off at max_output_tokens"),
        (Fails(status=400, message="context too long"), "the server does not take the request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lasting_fault_leaves_its_record_unanswered_and_unscored(
    tmp_path: Path, fault: Reaction, reason: str
) -> None:
    limits = {"attempts": 2, "readings": 2, "timeout_s": 0.2 if reason == "timed out" else 20}
    with _scene(tmp_path, lambda body, number: fault if _text_of(body) == "bad" else GOOD) as scene:
        found = scene.judge("a", "bad", "c", settings={"limits": limits})
    assert found.evaluation.score("judge_grade").value == 6
    assert "1 of 3 records" in (found.evaluation.score("judge_grade").warning or "")
    assert found.reasons == {reason: 1}
    written = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert written["unanswered"]["by_reason"] == {reason: 1}
    assert written["unanswered"]["questions"][0]["item"] == "row 2"
    once = isinstance(fault, Fails) and fault.status == 400
    once = once or reason in ("the judge refused", "the reply was cut off at max_output_tokens")
    assert found.account.requests == 2 + (1 if once else 2)


def test_half_a_surrogate_pair_in_a_reply_is_written_down_as_a_question_mark(tmp_path: Path) -> None:
    with _scene(tmp_path, in_turn(Says(content='{"reason": "\ud800", "grade": 5}'))) as scene:
        assert scene.judge("a").evaluation.score("judge_grade").value == 5
    assert json.loads((tmp_path / "out" / ANSWERS).read_text())["values"]["reason"] == "?"


def test_pauses_grow_and_a_server_that_names_one_gets_it(tmp_path: Path) -> None:
    busy = Fails(status=429, headers={"Retry-After": "7"})
    failing = Fails(status=500)
    with _scene(tmp_path, in_turn(failing, failing, failing, busy, GOOD)) as scene:
        scene.judge("a")
    first, second, third, asked = scene.waits
    assert 1 <= first <= 2
    assert 2 <= second <= 3
    assert 4 <= third <= 5
    assert asked == 7


def test_a_pause_longer_than_allowed_is_not_waited_for(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Reaction:
        return Fails(status=429, headers={"Retry-After": "3600"}) if _text_of(body) == "late" else GOOD

    with _scene(tmp_path, script) as scene:
        found = scene.judge("a", "late")
    assert scene.waits == []
    assert found.reasons == {"rate limited (429)": 1}
    assert "3600" in found.unanswered[0].detail


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "12", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Sat, 01 Jan 2000 00:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 31 Dec 1999 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999999"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, 0),
    ],
)
def test_all_spellings_of_retry_after_are_read(headers: Mapping[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, datetime(2000, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (in_turn(Fails(status=401, message="bad key")), "the key is refused"),
        (in_turn(Fails(status=403)), "the key is refused"),
        (in_turn(Fails(status=302, headers={"Location": "http://127.0.0.1:9/"})), "leads elsewhere"),
        (in_turn(Fails(status=401, message="\x1b[31mred\x9b")), r"refused \(401: \[31mred\)"),
        (in_turn(Fails(status=404, message="no such model")), "--model"),
        (in_turn(Fails(status=429, code="insufficient_quota")), "no means left"),
    ],
)
def test_what_no_question_can_mend_stops_at_the_first_request(tmp_path: Path, script: Script, message: str) -> None:
    with _scene(tmp_path, script) as scene:
        with pytest.raises(ConfigError, match=message):
            scene.judge(*"abcdefgh")
        assert len(scene.server.requests) == 1
    assert scene.waits == []


def test_a_key_that_a_server_says_again_is_written_nowhere(tmp_path: Path) -> None:
    said = in_turn(
        says_json({"reason": "your key is sk-secret", "grade": 3}),
        Says(content="", refusal="sk-secret asks too much"),
        Fails(status=400, message="no use for sk-secret"),
    )
    with _scene(tmp_path, said) as scene:
        found = scene.judge("a", "b", "c", settings={"limits": {"concurrency": 1}})
    assert found.evaluation.score("judge_grade").value == 3
    for path in (tmp_path / "out").iterdir():
        assert b"sk-secret" not in path.read_bytes(), path.name
    assert "[key]" in (tmp_path / "out" / ANSWERS).read_text()
    with _scene(tmp_path, in_turn(Fails(status=401, message="sk-secret is old"))) as scene:
        with pytest.raises(ConfigError, match=r"\[key\] is old") as caught:
            scene.judge("a")
    assert "sk-secret" not in str(caught.value)


def test_a_wrong_key_stops_at_once_also_in_the_middle_and_answers_stay(tmp_path: Path) -> None:
    with _scene(tmp_path, in_turn(GOOD, GOOD, Fails(status=401))) as scene:
        with pytest.raises(ConfigError, match="key"):
            scene.judge(*"abcdefgh", settings={"limits": {"concurrency": 1}})
        assert len(scene.server.requests) == 3
    assert len(scene.lines()) == 2


def test_a_silent_endpoint_is_left_after_the_first_question(tmp_path: Path) -> None:
    with _scene(tmp_path, in_turn(Drops())) as scene:
        found = scene.judge(*"abcd", settings={"limits": {"attempts": 2}})
        assert len(scene.server.requests) == 2
    assert found.stopped_because is not None
    assert "did not answer at all" in found.stopped_because
    assert found.evaluation.score("judge_grade").value is None
    assert found.reasons == {"connection broken": 1, "not asked": 3}


def test_an_endpoint_that_falls_silent_is_left_and_the_same_run_goes_on_later(tmp_path: Path) -> None:
    limits = {"limits": {"attempts": 1, "failures_in_a_row": 3, "concurrency": 1}}
    with _scene(tmp_path, lambda body, number: Fails(status=500) if 1 <= number < 4 else GOOD) as scene:
        first = scene.judge(*"abcdefgh", settings=limits)
        assert len(scene.server.requests) == 4
        assert "3 questions in a row" in (first.stopped_because or "")
        log = tmp_path / "out" / ANSWERS
        log.write_bytes(log.read_bytes() + b'{"key": "cut sho')  # as a kill leaves it
        second = scene.judge(*"abcdefgh", settings=limits)
        assert len(scene.server.requests) == 4 + 7
    assert second.stopped_because is None
    assert second.account.sources == {"this folder": 1, "endpoint": 7}
    assert len(scene.lines()) == 4 + 7


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """Each rewrote the log as it found it, without what the other had appended."""
    (tmp_path / "out").mkdir()
    with _scene(tmp_path, lambda body, number: GOOD) as scene:
        with AnswerLog(tmp_path / "out" / ANSWERS).alone(), pytest.raises(StorageError, match="another command judges"):
            scene.judge("a", folder="out")
        assert scene.judge("a", folder="out").account.answered == 1


def test_a_stopped_run_asks_only_what_is_left(tmp_path: Path) -> None:
    failing = {"on": True}

    def script(body: dict[str, Any], number: int) -> Reaction:
        return Fails(status=500) if failing["on"] and _text_of(body) in "cd" else GOOD

    with _scene(tmp_path, script) as scene:
        first = scene.judge(*"abcd", settings={"limits": {"attempts": 1}})
        failing["on"] = False
        seen = len(scene.server.requests)
        second = scene.judge(*"abcd")
        assert sorted(map(_text_of, scene.server.requests[seen:])) == ["c", "d"]
    assert (first.account.answered, second.account.answered) == (2, 4)
    assert second.account.requests == 6  # the failed ones stay in the account


def test_the_budget_holds_over_all_runs_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"sampling": {"max_output_tokens": 50}, "budget": {"tokens": 3000}}
    with _scene(tmp_path, in_turn(GOOD)) as scene:
        first = scene.judge(*"abcdefghijklmnopqrstuvwxyz", settings=settings)
        assert "3,000 tokens" in (first.stopped_because or "")
        assert 0 < first.account.answered < 26
        used = first.account.input_tokens + first.account.output_tokens
        assert used <= 3000
        assert first.evaluation.score("judge_grade").warning is not None
        asked = len(scene.server.requests)
        second = scene.judge(*"abcdefghijklmnopqrstuvwxyz", settings=settings)
        assert len(scene.server.requests) == asked
        assert second.account.answered == first.account.answered
        third = scene.judge(*"abcdefghijklmnopqrstuvwxyz", settings={**settings, "budget": {"tokens": 9000}})
        assert third.stopped_because is None
        assert len(scene.server.requests) == third.account.answered == 26


def test_requests_of_unknown_cost_are_charged_at_the_most(tmp_path: Path) -> None:
    silent = Says(content=GOOD.content, usage=False)
    with _scene(tmp_path, in_turn(Drops(), silent)) as scene:
        found = scene.judge("a", settings={"sampling": {"max_output_tokens": 50}})
    assert found.account.uncertain_requests == 2
    assert found.account.output_tokens == 2 * 50
    assert found.account.input_tokens > 2 * INPUT_TOKENS


def test_as_many_questions_as_allowed_are_under_way_and_no_more(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)  # broken when fewer than three ever come at a time
    lock = threading.Lock()
    counts = {"now": 0, "most": 0}

    def script(body: dict[str, Any], number: int) -> Reaction:
        if number == 0:
            return GOOD  # the first is alone, to find out what the server takes
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        together.wait()
        with lock:
            counts["now"] -= 1
        return GOOD

    with _scene(tmp_path, script) as scene:
        found = scene.judge(*"abcdefg", settings={"limits": {"concurrency": 3}})
    assert found.account.answered == found.account.requests == 7
    assert counts["most"] == 3


def test_the_cache_serves_other_folders_and_knows_model_repeat_and_sampling(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache" / "judge.sqlite")
    with _scene(tmp_path, in_turn(GOOD)) as scene:
        scene.judge("a", "b", cache=cache)
        again = scene.judge("a", "b", "c", cache=cache, folder="other")
        assert len(scene.server.requests) == 3
        assert again.account.sources == {"this folder": 0, "cache": 2, "endpoint": 1}
        assert again.account.input_tokens == INPUT_TOKENS
        for changes in ({"model": "n"}, {"repeats": 2}, {"sampling": {"temperature": 0.5}}):
            before = len(scene.server.requests)
            scene.judge("a", cache=cache, settings=changes, folder=f"out{before}")
            assert len(scene.server.requests) == before + 1
        assert scene.server.requests[-1]["temperature"] == 0.5


def test_equal_records_share_one_question(tmp_path: Path) -> None:
    with _scene(tmp_path, in_turn(GOOD)) as scene:
        found = scene.judge("a", "a", "a", "b")
        assert len(scene.server.requests) == 2
    assert found.account.questions == 2
    estimates: Any = found.evaluation.details["estimates"]
    assert estimates["judge_grade"]["count"] == 4


def test_a_server_without_structured_output_is_asked_for_less_once(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Reaction:
        form = body.get("response_format", {}).get("type")
        if form is not None:
            return Fails(status=400, message=f"{form} is not supported")
        return Says(content=f"```json\n{GOOD.content}\n```")

    with _scene(tmp_path, script) as scene:
        found = scene.judge(*"abcde")
        forms = [body.get("response_format", {}).get("type") for body in scene.server.requests]
    assert forms == ["json_schema", "json_object", *[None] * 5]
    assert found.account.modes == {"plain": 5}
    assert found.account.requests == 7


def test_models_that_want_the_newer_name_of_the_length_limit_get_it(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Reaction:
        if "max_tokens" in body:
            return Fails(status=400, message="'max_tokens' is not supported; use 'max_completion_tokens' instead.")
        return GOOD

    with _scene(tmp_path, script) as scene:
        found = scene.judge("a", "b")
        assert scene.server.requests[-1]["max_completion_tokens"] == 1024
    assert found.account.modes == {"json_schema": 2}
    assert found.account.requests == 3


def test_repeats_show_how_far_the_judge_agrees_with_itself(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Reaction:
        return says_json({"reason": "r", "grade": 8 if _text_of(body) == "a" else 2})

    with _scene(tmp_path, script) as scene:
        found = scene.judge("a", "b", settings={"repeats": 2})
        assert len(scene.server.requests) == 4
    agreement: Any = found.evaluation.details["agreement"]
    assert agreement["judge_grade"]["krippendorff_alpha"] == 1


def test_without_an_endpoint_there_is_an_error_and_no_score(tmp_path: Path) -> None:
    protocol = RubricProtocol(name="rubric", rubric=RUBRIC, records=[Record(row=1, fields={"text": "a"})])
    with pytest.raises(ConfigError, match=r"no judge to ask.*--base-url"):
        judge(protocol, JudgeSettings(model="m"), tmp_path, title="t", cache=NoCache(), environment={})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="is no address"):
        judge(protocol, JudgeSettings(model="m", base_url="here"), tmp_path, title="t", cache=NoCache(), environment={})


def test_a_log_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ANSWERS).write_text('{"loss": 1.0}\n')
    with _scene(tmp_path, in_turn(GOOD)) as scene, pytest.raises(DataError, match="--out"):
        scene.judge("a")
    assert (tmp_path / "out" / ANSWERS).read_text() == '{"loss": 1.0}\n'


def test_prices_make_dollars_and_none_are_guessed() -> None:
    assert PriceSettings(input=2.0, output=8.0).dollars(1_000_000, 500_000) == 6
    assert PriceSettings(input=2.0).dollars(1, 1) is None
    with pytest.raises(ValueError, match="needs prices"):
        JudgeSettings.model_validate({"model": "m", "budget": {"dollars": 1.0}})


def test_a_database_of_something_else_is_no_cache(tmp_path: Path) -> None:
    """A table was put into it."""
    path = tmp_path / "sales.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE sales (price)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"a database of something else, with 'sales'\); give another with --cache"):
        DiskCache(path)
    assert path.read_bytes() == before
