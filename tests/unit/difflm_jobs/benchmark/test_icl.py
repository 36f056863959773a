"""In-context prompting against an endpoint in this process."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from difflm.errors import ConfigError, DiffLMError
from difflm.models.local_chat import ChatReply, LocalChat
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.testing.judge_server import Fails, Hangs, Reaction, Says, judge_server
from difflm_jobs.benchmark import icl
from difflm_jobs.benchmark.methods import read_methods
from difflm_jobs.benchmark.own import Job

REAL = pa.table(
    {"age": [20 + row % 40 for row in range(80)], "height": [1.5 + row % 50 / 100 for row in range(80)]}
    | {"city": ["Oslo", "Rome"] * 40}
)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """A function from the settings that differ to a job for 6 rows of `REAL`."""

    def make(minutes: float = 1.0, **settings: Any) -> Job:
        (method,) = read_methods(["icl"], overrides=())
        return Job(
            method="icl",
            rows=6,
            seed=0,
            minutes=minutes,
            settings={**method.settings, "model": "m", "concurrency": 1, "rows_per_request": 3, **settings},
            schema=infer_schema(REAL),
            config={},
            folder=tmp_path,
            started=time.monotonic(),
        )

    return make


def _rows(job: Job) -> pa.Table:
    return icl.sample(icl.fit(REAL, job), job)


def test_rows_come_from_replies_and_what_is_no_record_is_counted(job: Callable[..., Job]) -> None:
    good = {"age": 30, "height": 1.7, "city": "Rome"}
    lines = [good, {**good, "city": "Atlantis"}, {**good, "age": 31.0}, {**good, "age": 900}]
    replies = ["```json\n" + "\n".join(map(json.dumps, lines)) + "\nas you wished\n```", json.dumps([good, good])]

    def says(body: Mapping[str, Any], number: int) -> Reaction:
        return Says(content=replies[number % 2])

    with judge_server(says) as server:
        asked = job(base_url=server.base_url)
        rows = _rows(asked)
    assert rows.num_rows == 6
    assert rows.column("age").to_pylist() == [30, 31, 30, 30, 30, 31]
    assert rows.column("height").to_pylist() == [1.7] * 6
    assert asked.notes == [
        "3 requests, 360 tokens",
        "6 of 12 rows were no records of the schema: 2 category, 2 range, 2 not_json",
    ]
    said = server.requests[0]["messages"][1]["content"]
    assert '- "age": a whole number from 20 to 59' in said
    assert '- "city": one of "Oslo", "Rome"' in said
    assert "5 of its rows:" in said
    assert "Write 3 new rows" in said
    shown = [line for line in said.splitlines() if line.startswith("{")]
    real = set(JsonRecordCodec(infer_schema(REAL)).encode_table(REAL))
    assert len(shown) == 5
    assert set(shown) <= real
    assert said != server.requests[1]["messages"][1]["content"]  # other examples


def test_there_is_an_end_to_asking(job: Callable[..., Job]) -> None:
    def says(body: Mapping[str, Any], number: int) -> Reaction:
        return Says(content="I would rather not.")

    with judge_server(says) as server, pytest.raises(DiffLMError, match="4 requests brought no record of the schema"):
        _rows(job(base_url=server.base_url, max_requests=4))
    assert len(server.requests) == 4


def test_nonsense_of_an_endpoint_is_left_out_and_said(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers without end, depths without end, halves of characters, and answers that are none."""
    good = {"age": 30, "height": 1.7, "city": "Rome"}
    lines = [
        json.dumps(good).replace("1.7", "1" + "0" * 400),
        json.dumps(good).replace("1.7", "NaN"),
        "[" * 100_000,
        json.dumps(good).replace("Rome", "\\ud800"),
        "null",
        json.dumps(good),
    ]

    def says(body: Mapping[str, Any], number: int) -> Reaction:
        return Says(content="\n".join(lines))

    with judge_server(says) as server:
        asked = job(base_url=server.base_url)
        assert _rows(asked).to_pylist() == [good] * 6
    assert "30 of 36 rows were no records of the schema" in asked.notes[-1]


def test_why_no_answer_was_one_is_said(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(seconds: float) -> None:
        """Wait for nothing."""

    monkeypatch.setattr(icl.asyncio, "sleep", at_once)

    def says(body: Mapping[str, Any], number: int) -> Reaction:
        return Fails(status=503)

    with (
        judge_server(says) as server,
        pytest.raises(
            DiffLMError, match=r"2 requests brought no record of the schema \(12 server error 503\); look at the end"
        ),
    ):
        _rows(job(base_url=server.base_url, max_requests=2))


def test_what_came_in_time_is_kept(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icl, "SAFETY_S", 0.0)
    good = json.dumps({"age": 30, "height": 1.7, "city": "Rome"})

    def says(body: Mapping[str, Any], number: int) -> Reaction:
        return Hangs() if number else Says(content=good)

    with judge_server(says) as server:
        assert _rows(job(minutes=0.03, base_url=server.base_url)).num_rows == 1


@pytest.mark.parametrize(
    ("settings", "reaction", "said"),
    [
        ({"model": None}, None, "needs a model at an endpoint, or a package's; give --set icl.model=NAME"),
        ({}, Fails(status=401), "the key is refused"),
        ({}, Fails(status=400, message="too long"), "the endpoint refuses the request: 400: too long"),
    ],
)
def test_an_endpoint_that_will_never_answer_is_told_at_once(
    job: Callable[..., Job], settings: dict[str, Any], reaction: Reaction | None, said: str
) -> None:
    def says(body: Mapping[str, Any], number: int) -> Reaction:
        assert reaction is not None
        return reaction

    with judge_server(says) as server, pytest.raises((ConfigError, DiffLMError), match=said):
        _rows(job(base_url=server.base_url, concurrency=3, **settings))
    assert len(server.requests) <= 3


def test_a_model_of_this_machine_needs_no_endpoint(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps({"age": 30, "height": 1.7, "city": "Rome"})

    def reply(self: LocalChat, messages: object, **_: object) -> ChatReply:
        return ChatReply(text=f"{good}\n{good}\n{good}", finished=True, read=40, written=60)

    monkeypatch.setattr(LocalChat, "load", lambda self: None)
    monkeypatch.setattr(LocalChat, "reply", reply)
    asked = job(model="package:any")
    assert _rows(asked).num_rows == 6
    assert asked.notes == ["2 requests, 200 tokens"]
