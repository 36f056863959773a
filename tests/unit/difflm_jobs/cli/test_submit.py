"""Submitting says what is missing, and keeps the runs where the cluster does not throw them away."""

import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from difflm.errors import ClusterError, ConfigError
from difflm_jobs.cli import submit
from difflm_jobs.cli.main import app
from difflm_jobs.cli.submit import check_files, check_settings, submission_command, submit_job

VERBS = get_command(app).commands  # type: ignore[attr-defined]


def job(*verb: str) -> list[str]:
    command = submission_command(verb, VERBS, address="http://head:8265", wait=True)
    return command[command.index("--", 3) + 1 :]


def test_runs_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFLM_RUNS", raising=False)
    head = ["python", "-m", "difflm_jobs", "run", "adult"]
    assert job("run", "adult") == [*head, "--runs", str(tmp_path / "runs")]
    assert job("run", "adult", "--runs", "there") == [*head, "--runs", str(tmp_path / "there")]
    assert job("run", "adult", "--runs=/there") == [*head, "--runs=/there"]
    assert job("judge", "tools", "/s/x.jsonl")[3:] == ["judge", "tools", "/s/x.jsonl"]  # a verb without runs
    assert job("passk", "reference", "--problems", "/s/p.jsonl")[3:] == [
        "passk",
        "reference",
        "--problems",
        "/s/p.jsonl",
    ]
    assert job("compare", "a", "b")[-2:] == ["--runs", str(tmp_path / "runs")]


def test_the_runtime_environment_goes_along() -> None:
    command = submission_command(["run", "adult"], VERBS, address="http://head:8265", wait=False)
    assert command[command.index("--runtime-env") + 1] == "infra/ray/runtime-env.yaml"
    assert "--no-wait" in command


@pytest.mark.parametrize(
    ("verb", "named"),
    [
        (["synthesize", "runs/adult", "--rows", "5", "--out", "/shared/x.csv"], "bundle 'runs/adult'"),
        (["synthesize", "--rows", "5", "--out=x.csv", "/shared/runs/adult"], "out 'x.csv'"),
        (["evaluate", "x.csv", "--train", "/shared/t.csv", "--out", "/shared/out"], "records 'x.csv'"),
        (["evaluate", "/shared/x.csv", "--train", "t.csv", "--out", "/shared/out"], "train 't.csv'"),
        (["evaluate", "/shared/x.csv", "--train", "/shared/t.csv"], "out 'evaluation'"),
        (["evaluate", "/s/x.csv", "--train", "/s/t.csv", "--out", "/s/out", "--judge", "j"], "judge 'j'"),
        (["passk", "reference", "--problems", "p.jsonl", "--out", "/s/out"], "problems 'p.jsonl'"),
        (["passk", "s.jsonl", "--problems", "/s/p.jsonl", "--out", "/s/out"], "samples 's.jsonl'"),
        (["compare", "a", "b", "--out", "there"], "out 'there'"),
        (["study", "adult"], "out 'study'"),
    ],
)
def test_files_the_job_would_not_find_are_refused(verb: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"submit {verb[0]}: {named} is a relative path.*; give an absolute path"):
        submit_job(verb, VERBS, address="http://head:8265", wait=True)


def test_shared_files_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    check_files(["evaluate", "/shared/x.csv", "--train", "/shared/t.csv", "--out", "/shared/out"], VERBS)
    check_files(["synthesize", "/shared/runs/adult", "--rows", "5", "--out", "/shared/x.csv"], VERBS)
    check_files(["run", "adult"], VERBS)
    with pytest.raises(typer.BadParameter, match="rows"):
        check_files(["synthesize", "/shared/runs/adult", "--out", "/shared/x.csv"], VERBS)


def test_settings_that_no_cluster_can_use_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    vllm = ["--set", "sampling.engine.kind=vllm"]
    rows = ["synthesize", "/shared/runs/adult", "--rows", "5", "--out", "/shared/x.csv"]
    (tmp_path / "mine.yaml").write_text("data: {train: x.csv}\nsampling: {engine: {kind: vllm}}\n", encoding="utf-8")
    for verb in ([*rows, *vllm], ["run", "adult", *vllm], ["plan", "x.csv", *vllm], ["run", "mine.yaml"]):
        with pytest.raises(ConfigError, match="gpus_per_actor is 0"):
            submit_job(verb, VERBS, address="http://head:8265", wait=True)
    with pytest.raises(ConfigError, match=r"did you mean 'sampling\.steps'"):
        submit_job(["run", "adult", "--set", "sampling.step=3"], VERBS, address="http://head:8265", wait=True)
    gpu = ["--set", "runtime.synthesis.pool.gpus_per_actor=1"]
    for verb in ([*rows, *vllm, *gpu], ["run", "mine.yaml", *gpu], ["run", "mine.yaml", "--until", "encode"]):
        check_settings(verb, VERBS)
    check_settings(["run", "/shared/elsewhere.yaml", *vllm], VERBS)  # which the job reads


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no verb given"):
        submit_job([], VERBS, address="http://head:8265", wait=True)
    with pytest.raises(ConfigError, match="set RAY_ADDRESS or give --address"):
        submit_job(["run", "adult"], VERBS, address=None, wait=True)
    with pytest.raises(ConfigError, match="from the root of a checkout"):
        submit_job(["run", "adult"], VERBS, address="http://head:8265", wait=True)


def test_a_cluster_that_refuses_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "infra/ray").mkdir(parents=True)
    (tmp_path / "infra/ray/runtime-env.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    said = "import os, sys; print(os.environ['RAY_ADDRESS'], file=sys.stderr)\nraise RuntimeError('no agent')"
    monkeypatch.setattr(submit, "submission_command", lambda *_, **__: [sys.executable, "-c", said])
    with pytest.raises(
        ClusterError, match=r"http://head:8265 did not take the job, or was lost \(RuntimeError: no agent\); check"
    ):
        submit_job(["run", "adult"], VERBS, address="http://head:8265", wait=True)
    assert capfd.readouterr().err == "http://head:8265\n"
    monkeypatch.setattr(submit, "submission_command", lambda *_, **__: [sys.executable, "-c", "raise SystemExit(3)"])
    assert submit_job(["run", "adult"], VERBS, address="http://head:8265", wait=True) == 3
