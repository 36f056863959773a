"""Tools and code through every stage and the verbs behind them, with small models in this process instead of on Ray.

How well so small a model writes is not asked, only that what comes out is valid, counted and scored.
"""

import io
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from difflm.records.tool_codec import record_schema, records_of, tools_of_table
from difflm.runtime.batch_actors import MapSummary
from difflm.runtime.shard_actor import ActorPoolConfig, Shard, ShardWorker
from difflm.runtime.training import TrainingJob, TrainingResult
from difflm.telemetry import JSON, append_event
from difflm.training.engine import PlainEngine
from difflm.training.loop import Event, run_loop
from difflm.training.tasks import build_task
from difflm_jobs.cli import main

LOOP = "{evaluate_every: 40, checkpoint_every: 1000, log_every: 10, precision: float32}"
CONFIG = f"""
name: tiny
decoder: {{hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64, vocabulary_size: 400, value_tokens: 16}}
decoder_fit:
  {{steps: 80, batch_size: 32, group_by_length: true, copied_below: 0.9999, validation_records: 20, loop: {LOOP}}}
autoencoder: {{encoder: {{hidden_size: 16, layers: 1, heads: 2}}, steps: 40, batch_size: 32, loop: {LOOP}}}
prior: {{steps: 40, width: 16, blocks: 1, batch_size: 32, loop: {LOOP}}}
rows: 24
"""
TOOL_SAMPLING = (
    "sampling={steps: 4, precision: float32, text_tokens: 40, attempts: 8, "
    "engine: {kind: builtin, constraint: llguidance}}"
)
TOOLS = f"""
data: {{kind: tools, train: tools.jsonl, longest: 250}}
conditions: {{enabled: true, steps: 10, loop: {LOOP}}}
{TOOL_SAMPLING.replace("=", ": ", 1)}
"""
CODE = """
data: {kind: code, train: code.jsonl, longest: 40}
sampling: {steps: 4, precision: float32, text_tokens: 40, attempts: 20, temperature: 0.7}
"""
WORDS = ("get", "list", "song", "price", "city", "user", "search", "weather", "stock", "team")


def write_tools(path: Path) -> None:
    """140 tools with one API or two, one far too long, one without an API."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(count))

    def api() -> dict[str, Any]:
        parameter = {"name": draw.choice(WORDS), "type": draw.choice(["STRING", "NUMBER"]), "description": words(2)}
        return {
            "name": words(1),
            "description": words(draw.randint(1, 4)),
            "required_parameters": [parameter] if draw.random() < 0.5 else [],
            "optional_parameters": [],
        }

    def tool(apis: list[dict[str, Any]]) -> dict[str, Any]:
        category = draw.choice(["Data", "Music"])
        return {"category": category, "tool_name": words(2), "tool_description": None, "api_list": apis}

    tools = [tool([api() for _ in range(draw.randint(1, 2))]) for _ in range(140)]
    tools += [tool([api() | {"description": "long " * 100}]), tool([])]
    path.write_text("".join(json.dumps(one) + "\n" for one in tools), encoding="utf-8")


def write_code(path: Path) -> None:
    """250 assignments, one that does not parse, one that is too long."""
    draw = random.Random(0)
    texts = [f"{a} = {b} + {n}\n" for a in "abcde" for b in "vwxyz" for n in draw.sample(range(100), 10)]
    texts += ["def f(", "x" * 50]
    path.write_text("".join(json.dumps({"code": text}) + "\n" for text in texts), encoding="utf-8")


def train_here(job: TrainingJob, *, progress: Callable[[int, int, Mapping[str, float]], None]) -> TrainingResult:
    """What `difflm.runtime.training.train` leaves behind, of a loop in this process."""
    task = build_task(job.spec, "cpu")
    job.output_dir.mkdir(parents=True, exist_ok=True)

    class Output:
        def resume_from(self) -> Path | None:
            return None

        def started(self, step: int) -> None:
            pass

        def log(self, event: Event) -> None:
            append_event(job.output_dir / "events.jsonl", event)

        def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
            pass

    engine = PlainEngine(task.module, gradient_clip=job.loop.gradient_clip, precision=job.loop.precision)
    result = run_loop(task, engine, job.loop, Output(), seed=job.spec.seed)
    save_file(result.best_tensors, job.output_dir / "best.safetensors")
    (job.output_dir / "summary.json").write_text(json.dumps(task.summary()))
    progress(result.steps, result.steps, {"loss": result.best_objective})
    return TrainingResult(
        steps=result.steps,
        stopped=result.stopped,
        best_step=result.best_step,
        best_objective=result.best_objective,
        resumed_from=0,
        loop_seconds=result.seconds,
        total_seconds=result.seconds,
        timings={},
        workers=[],
        summary=task.summary(),
    )


def map_here(
    shards: Sequence[Shard],
    actor: type[ShardWorker],
    actor_args: Mapping[str, Any],
    resources: ActorPoolConfig,
    on_result: Callable[[dict[str, JSON]], None],
    timeout_s: float,
    *,
    folders: Mapping[str, Path],
) -> MapSummary:
    """`difflm.runtime.batch_actors.map_shards` with one worker in this process."""
    started = time.monotonic()
    worker = actor({**actor_args, **{name: str(path) for name, path in folders.items()}})
    for shard in shards:
        account = dict(worker.run(shard))
        facts = {"shard": shard.id, "start": shard.start, "stop": shard.stop, "seconds": 0.1, "pid": os.getpid()}
        on_result({**account, **facts})
    seconds = time.monotonic() - started
    return MapSummary(shards=len(shards), seconds=seconds, first_result_seconds=0.0, peak_rss_mib={})


class NoMetrics:
    """Metrics that nobody reads."""

    def __init__(self, job: str) -> None:
        del job

    def record(self, account: Mapping[str, Any]) -> None:
        del account


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that ended, and the command line in its folder."""

    folder: Path
    said: str
    call: Callable[..., str]

    def artifact(self, kind: str) -> Path:
        (found,) = (self.folder / "runs" / "tiny" / "artifacts").glob(f"{kind}-*")
        return found

    def scores(self) -> dict[str, Any]:
        report = json.loads((self.artifact("report") / "report.json").read_text(encoding="utf-8"))
        return {score["name"]: score for evaluation in report["evaluations"] for score in evaluation["scores"]}


@pytest.fixture(scope="module")
def here() -> Iterator[pytest.MonkeyPatch]:
    """Training and mapping in this process, with one thread."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difflm.runtime.training.train", train_here)
        patch.setattr("difflm.runtime.batch_actors.map_shards", map_here)
        patch.setattr("difflm.runtime.metrics.PrometheusMetrics", NoMetrics)
        patch.setattr("difflm.runtime.cluster.start_or_connect", lambda config: None)
        patch.setattr("difflm.runtime.cluster.stop", lambda: None)
        patch.setenv("COLUMNS", "160")
        torch.set_num_threads(1)
        yield patch
    torch.set_num_threads(threads)


def run(here: pytest.MonkeyPatch, folder: Path, config: str) -> Finished:
    (folder / "tiny.yaml").write_text(CONFIG + config.replace("\n  ", ""), encoding="utf-8")

    def call(*arguments: str) -> str:
        here.chdir(folder)
        here.setattr(sys, "argv", ["difflm", *arguments])
        with redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, said.getvalue()
        return said.getvalue()

    return Finished(folder=folder, said=call("run", "tiny.yaml"), call=call)


@pytest.fixture(scope="module")
def tools(here: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("tools")
    write_tools(folder / "tools.jsonl")
    return run(here, folder, TOOLS)


@pytest.fixture(scope="module")
def code(here: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("code")
    write_code(folder / "code.jsonl")
    return run(here, folder, CODE)


def test_every_generated_tool_parses_and_fits_the_schema(tools: Finished) -> None:
    made = pq.read_table(tools.artifact("synthetic") / "shards")
    trained = tools_of_table(pq.read_table(tools.artifact("table") / "train.parquet"))
    schema = record_schema({parameter["type"] for record in trained for parameter in record["parameters"]})
    records = tools_of_table(made)
    assert len(records) == 24
    for record in records:
        jsonschema.validate(record, schema)
    scores = tools.scores()
    assert scores["valid_share"]["value"] == 100
    assert 0 <= scores["near_copy_share"]["value"] <= 100
    assert scores["near_copy_share"]["baseline"] is not None


def test_what_was_left_out_and_read_in_part_is_said(tools: Finished, code: Finished) -> None:
    assert "table: 1 tools have no API and give no record" in tools.said
    assert "table: 1 records are longer than 250 characters and are left out" in tools.said
    assert "training values of 'parameters' have more than 16 tokens; only these are encoded" in tools.said
    assert "table: 1 records do not parse as Python and are left out" in code.said
    assert "tokens; only these are encoded" not in code.said


def test_rows_of_a_condition_satisfy_it_and_become_raw_tools(tools: Finished) -> None:
    arguments = ["--where", 'category == "Music"', "--set", TOOL_SAMPLING]
    tools.call("synthesize", "runs/tiny", "--rows", "8", "--out", "music.jsonl", *arguments)
    rows = _json_lines(tools.folder / "music.jsonl")
    assert [row["category"] for row in rows] == ["Music"] * 8
    said = tools.call("export-tools", "music.jsonl", "--out", "raw.jsonl")
    raw = _json_lines(tools.folder / "raw.jsonl")
    assert f"raw.jsonl: {len(raw)} tools with 8 APIs" in said
    assert len({(tool["tool_name"], tool["tool_description"]) for tool in raw}) == len(raw)
    again = [record for tool in raw for record in records_of(tool, "raw.jsonl")]
    made = [{**row, "parameters": json.loads(row["parameters"])} for row in rows]
    assert sorted(map(_required_first, again)) == sorted(map(_required_first, made))


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _required_first(record: Mapping[str, Any]) -> str:
    parameters = sorted(record["parameters"], key=lambda one: not one["required"])
    return json.dumps({**record, "parameters": parameters})


def test_code_that_comes_out_parses_and_draws_that_do_not_are_counted(code: Finished) -> None:
    account = json.loads((code.artifact("synthetic") / "account.json").read_text(encoding="utf-8"))
    texts = pq.read_table(code.artifact("synthetic") / "shards").column("code").to_pylist()
    assert len(texts) == account["rows_emitted"] > 0
    for text in texts:
        compile(text, "record", "exec", dont_inherit=True)
    assert account["attempts"] == account["rows_emitted"] + sum(account["rejections"].values())
    scores = code.scores()
    assert scores["parses_share"]["value"] == 100
    assert scores["valid_draw_share"]["value"] == pytest.approx(100 * account["rows_emitted"] / account["attempts"])


def test_show_says_what_run_said(code: Finished) -> None:
    shown = code.call("show", "tiny")
    assert "Parses" in shown
    assert "do not parse as Python and are left out" in shown
