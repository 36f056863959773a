"""A judge that is a model of this machine: no endpoint, no key, one question at a time."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from difflm.errors import ConfigError
from difflm.models.decoder import load_causal_lm
from difflm.models.local_chat import ChatReply, LocalChat
from difflm.testing.models import save_decoder
from difflm_evaluators.judge.answers import NoCache
from difflm_evaluators.judge.client import Reply, Request
from difflm_evaluators.judge.grades import RubricProtocol
from difflm_evaluators.judge.local_client import LocalClient
from difflm_evaluators.judge.questions import Record
from difflm_evaluators.judge.report import Judgement
from difflm_evaluators.judge.rubric import Criterion, Rubric
from difflm_evaluators.judge.run import ANSWERS, judge
from difflm_evaluators.judge.settings import JudgeSettings, SamplingSettings, find_endpoint

MESSAGES = [{"role": "user", "content": "the quick brown fox"}]


def judged(model: str, folder: Path) -> Judgement:
    protocol = RubricProtocol(
        name="rubric",
        rubric=Rubric(record="a thing", criteria=(Criterion(name="grade", description="good"),)),
        records=[Record(row=row, fields={"text": text}) for row, text in enumerate(("one", "two"), start=1)],
    )
    settings = JudgeSettings(model=model, sampling=SamplingSettings(max_output_tokens=8))
    return judge(protocol, settings, folder, title="things", cache=NoCache(), environment={})


def test_a_model_of_this_machine_answers_without_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def reply(self: LocalChat, messages: object, *, max_tokens: int, seed: int, **_: object) -> ChatReply:
        asked.append(seed)
        text = json.dumps({"reason": "fine", "grade": 6})
        return ChatReply(text=text, finished=True, read=30, written=max_tokens)

    monkeypatch.setattr(LocalChat, "reply", reply)
    folder = save_decoder(tmp_path / "model", "llama")
    found = judged(str(folder), tmp_path / "out")
    assert found.base_url == "this process"
    assert (found.account.answered, found.account.questions) == (2, 2)
    assert found.account.output_tokens == 16
    assert sorted(asked) == [1, 2]
    lines = [json.loads(line) for line in (tmp_path / "out" / ANSWERS).read_text().splitlines()]
    assert {line["mode"] for line in lines} == {"plain"}


def test_what_a_model_without_sense_writes_is_counted_and_not_scored(tmp_path: Path) -> None:
    found = judged(str(save_decoder(tmp_path / "model", "llama", positions=4096)), tmp_path / "out")
    assert found.account.answered == 0
    assert len(found.unanswered) == 2


def test_a_model_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the package no_such_model is not installed"):
        judged("package:no_such_model", tmp_path / "out")


def test_an_address_wins_over_a_path() -> None:
    settings = JudgeSettings(model="/models/m", base_url="http://localhost:8000/v1")
    assert find_endpoint(settings, {}).base_url == "http://localhost:8000/v1"
    with pytest.raises(ConfigError, match="no judge to ask"):
        find_endpoint(JudgeSettings(model="organisation/model"), {})


def test_a_reply_is_the_greedy_continuation_or_drawn_with_its_seed(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path / "model", "qwen2")
    model, tokenizer = load_causal_lm(folder)
    chat = LocalChat(str(folder))
    said = chat.reply(MESSAGES, max_tokens=6, temperature=None, seed=0)
    ids = torch.tensor([tokenizer("the quick brown fox\n\n", add_special_tokens=False)["input_ids"]])
    wanted: list[int] = []
    for _ in range(6):
        step = model(input_ids=torch.cat([ids, torch.tensor([wanted], dtype=torch.int64)], dim=1)).logits[0, -1]
        wanted.append(int(step.argmax()))
    assert said.text == tokenizer.decode(wanted)
    assert (said.read, said.written, said.finished) == (ids.shape[1], 6, False)
    drawn = [chat.reply(MESSAGES, max_tokens=6, temperature=2.0, seed=seed).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    answers = iter((False, False, True))
    assert chat.reply(MESSAGES, max_tokens=6, temperature=None, seed=0, given_up=lambda: next(answers)).written == 2


def test_a_reply_that_nobody_waits_for_any_more_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def reply(self: LocalChat, messages: object, *, given_up: Callable[[], bool], **_: object) -> ChatReply:
        begun.set()
        while not given_up():
            pass
        ended.set()
        return ChatReply(text="", finished=False, read=1, written=1)

    async def cancelled() -> None:
        request = Request(
            messages=MESSAGES, schema={}, mode="plain", max_output_tokens=8, length_key="max_tokens", temperature=None
        )
        asked: asyncio.Task[Reply] = asyncio.create_task(client.send(request))
        await asyncio.to_thread(begun.wait)
        asked.cancel()
        await asyncio.wait([asked])

    monkeypatch.setattr(LocalChat, "reply", reply)
    client = LocalClient(str(save_decoder(tmp_path / "model", "llama")))
    asyncio.run(cancelled())
    assert ended.is_set()
