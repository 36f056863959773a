"""The loop on the plain engine, in one process: curves, resuming, best tensors, early stopping, broken losses."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from difflm.errors import TrainingError
from difflm.models.precision import resolve_precision
from difflm.testing.toys import ToyConfig, ToyTask
from difflm.training.checkpoints import checkpoint_precision
from difflm.training.engine import PlainEngine
from difflm.training.loop import Event, LoopConfig, LoopResult, run_loop

LOOP = LoopConfig(
    precision="float32", learning_rate=1e-2, warmup_steps=3, evaluate_every=4, checkpoint_every=4, log_every=1
)


class Killed(Exception):
    """Stands for the SIGKILL of a process at a chosen checkpoint."""


class DirectoryIO:
    """A `LoopIO` that keeps checkpoints in folders and events in a list."""

    def __init__(self, folder: Path, *, kill_at: int | None = None) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.started_at: int | None = None
        self._kill_at = kill_at

    def resume_from(self) -> Path | None:
        folders = sorted(self.folder.glob("step-*"))
        return folders[-1] if folders else None

    def started(self, step: int) -> None:
        self.started_at = step

    def log(self, event: Event) -> None:
        self.events.append(event)

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        directory = self.folder / f"step-{step:08d}"
        directory.mkdir(parents=True)
        write(directory)
        if step == self._kill_at:
            raise Killed


def train(io: DirectoryIO, config: LoopConfig = LOOP, *, seed: int = 7, **toy: Any) -> tuple[LoopResult, ToyTask]:
    task = ToyTask(ToyConfig(**toy), seed=seed)
    engine = PlainEngine(
        task.module,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
        gradient_accumulation=config.gradient_accumulation,
        precision=resolve_precision(config.precision, "cpu"),
    )
    return run_loop(task, engine, config, io, seed=seed), task


def curve(events: list[Event]) -> list[dict[str, Any]]:
    return [{key: event.get(key) for key in event.keys() - {"seconds", "rss"}} for event in events]


def same_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_loss_falls_and_every_event_says_where_it_stands(tmp_path: Path) -> None:
    io = DirectoryIO(tmp_path)
    result, _ = train(io, steps=40)
    losses = [event["loss"] for event in io.events if event["kind"] == "train"]
    assert len(losses) == 40
    assert losses[-1] < losses[0] / 2
    assert result.steps == 40
    assert result.stopped == "complete"
    assert all({"step", "loss", "metrics", "seconds", "rss"} <= event.keys() for event in io.events)
    assert [event["step"] for event in io.events if event["kind"] == "validation"] == list(range(4, 41, 4))


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], float]], None]:
    """A function that takes how many seconds a step takes; nothing else takes time then."""
    now = [0.0]
    monkeypatch.setattr("difflm.training.loop.time.perf_counter", lambda: now[0])

    def pace(seconds: Callable[[int], float]) -> None:
        batch = ToyTask.batch

        def timed(task: ToyTask, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
            now[0] += seconds(step)
            return batch(task, step, micro, rank, world_size)

        monkeypatch.setattr(ToyTask, "batch", timed)

    return pace


def test_a_training_of_so_many_seconds_has_as_many_steps_as_fit(
    paced: Callable[[Callable[[int], float]], None], tmp_path: Path
) -> None:
    paced(lambda step: 2.0)
    io = DirectoryIO(tmp_path)
    result, _ = train(io, LOOP.model_copy(update={"most_seconds": 41.0}), steps=1000)
    assert (result.steps, result.stopped) == (20, "time")
    rates = [event["lr"] for event in io.events if event["kind"] == "train"]
    assert rates[-1] < 0.05 * max(rates), "it fell over the steps that fit, not over those that were asked for"
    assert io.events[-1]["kind"] == "validation"
    assert io.events[-1]["step"] == 20


def test_a_pace_that_changes_moves_the_end(paced: Callable[[Callable[[int], float]], None], tmp_path: Path) -> None:
    paced(lambda step: 5.0 if step < 4 else 1.0)
    io = DirectoryIO(tmp_path)
    result, _ = train(io, LOOP.model_copy(update={"most_seconds": 50.0}), steps=1000)
    assert (result.steps, result.stopped) == (33, "time")  # the pace is that of all steps, 49 s for these
    totals = [event["total"] for event in io.events if event["kind"] == "train"]
    assert totals[3] == 10


def test_seconds_that_are_enough_change_nothing(
    paced: Callable[[Callable[[int], float]], None], tmp_path: Path
) -> None:
    paced(lambda step: 2.0)
    free, held = DirectoryIO(tmp_path / "free"), DirectoryIO(tmp_path / "held")
    train(free, steps=20)
    result, _ = train(held, LOOP.model_copy(update={"most_seconds": 1000.0}), steps=20)
    assert result.stopped == "complete"
    assert curve(held.events) == curve(free.events)


def test_seconds_count_over_all_lives(paced: Callable[[Callable[[int], float]], None], tmp_path: Path) -> None:
    paced(lambda step: 2.0)
    config = LOOP.model_copy(update={"most_seconds": 41.0})
    with pytest.raises(Killed):
        train(DirectoryIO(tmp_path, kill_at=12), config, steps=1000)
    result, _ = train(DirectoryIO(tmp_path), config, steps=1000)
    assert (result.steps, result.stopped) == (20, "time")


@pytest.mark.parametrize(("kill_at", "ema_decay"), [(4, 0.0), (8, 0.0), (16, 0.0), (8, 0.9)])
def test_a_killed_run_resumes_to_the_same_curve_bit_for_bit(tmp_path: Path, kill_at: int, ema_decay: float) -> None:
    config = LOOP.model_copy(update={"gradient_accumulation": 2, "ema_decay": ema_decay})
    whole = DirectoryIO(tmp_path / "whole")
    expected, expected_task = train(whole, config, steps=20)
    first = DirectoryIO(tmp_path / "killed", kill_at=kill_at)
    with pytest.raises(Killed):
        train(first, config, steps=20)
    second = DirectoryIO(tmp_path / "killed")
    resumed, task = train(second, config, steps=20)
    assert second.started_at == kill_at
    assert curve(first.events) + curve(second.events) == curve(whole.events)
    assert same_tensors(resumed.best_tensors, expected.best_tensors)
    assert same_tensors(dict(task.module.state_dict()), dict(expected_task.module.state_dict()))
    assert (resumed.best_step, resumed.best_objective) == (expected.best_step, expected.best_objective)


def test_a_resumed_run_keeps_a_best_state_from_before_the_kill(tmp_path: Path) -> None:
    config = LOOP.model_copy(update={"learning_rate": 0.1, "schedule": "constant", "warmup_steps": 0})
    expected, _ = train(DirectoryIO(tmp_path / "whole"), config, steps=40)
    with pytest.raises(Killed):
        train(DirectoryIO(tmp_path / "killed", kill_at=24), config, steps=40)
    resumed, _ = train(DirectoryIO(tmp_path / "killed"), config, steps=40)
    assert expected.best_step < 24, "the test needs a run whose best evaluation is not its last"
    assert resumed.best_step == expected.best_step
    assert same_tensors(resumed.best_tensors, expected.best_tensors)


def test_the_moving_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    config = LOOP.model_copy(update={"schedule": "constant", "learning_rate": 0.3, "evaluate_every": 40})
    jittering, task = train(DirectoryIO(tmp_path / "weights"), config, steps=40)
    averaged, same = train(DirectoryIO(tmp_path / "average"), config.model_copy(update={"ema_decay": 0.9}), steps=40)
    weights = dict(same.module.state_dict())
    assert same_tensors(dict(task.module.state_dict()), weights)  # training itself is as without
    assert averaged.best_objective < jittering.best_objective
    name = "encode.weight"  # the toy keeps averages of its own beside it
    assert not torch.equal(averaged.best_tensors[name], jittering.best_tensors[name])


def test_the_best_tensors_are_a_copy_without_frozen_parameters(tmp_path: Path) -> None:
    result, task = train(DirectoryIO(tmp_path), steps=8)
    assert not any(name.startswith("frozen") for name in result.best_tensors)
    before = {name: tensor.clone() for name, tensor in result.best_tensors.items()}
    with torch.no_grad():
        for parameter in task.module.parameters():
            parameter.zero_()
    assert same_tensors(before, result.best_tensors)


def test_a_task_stops_early(tmp_path: Path) -> None:
    config = LOOP.model_copy(update={"learning_rate": 5.0, "schedule": "constant", "warmup_steps": 0})
    io = DirectoryIO(tmp_path)
    result, _ = train(io, config, steps=400, patience=2)
    assert result.stopped == "early"
    assert result.steps < 400
    assert io.events[-1]["stop"] is True


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss \[nan\].*step 6 on rank 0.*learning_rate"):
        train(DirectoryIO(tmp_path), steps=20, nan_at_step=5)


def test_an_empty_validation_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="validation split"):
        train(DirectoryIO(tmp_path), steps=4, validation_batches=0)


def test_the_last_step_is_always_evaluated(tmp_path: Path) -> None:
    io = DirectoryIO(tmp_path)
    result, _ = train(io, steps=3)
    assert [event["step"] for event in io.events if event["kind"] == "validation"] == [3]
    assert result.best_step == 3


def test_bfloat16_autocast_trains_float32_weights(tmp_path: Path) -> None:
    io = DirectoryIO(tmp_path)
    _, task = train(io, LOOP.model_copy(update={"precision": "bfloat16"}), steps=20)
    losses = [event["loss"] for event in io.events if event["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in task.module.parameters())


@pytest.mark.parametrize("limit", ["AVX2", "ALL"])
def test_under_auto_the_processor_decides_and_a_checkpoint_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    io = DirectoryIO(tmp_path)
    train(io, LOOP.model_copy(update={"precision": "auto"}), steps=20)
    losses = [event["loss"] for event in io.events if event["kind"] == "train"]
    assert losses[-1] < losses[0]
    chosen = "float32" if limit == "AVX2" else "bfloat16"
    assert checkpoint_precision(tmp_path / "step-00000004") == chosen
    other = DirectoryIO(tmp_path / "other")
    train(other, LOOP.model_copy(update={"precision": chosen}), steps=20)
    assert curve(other.events) == curve(io.events)


@pytest.mark.parametrize("text", [None, "{", '{"step": 3}'])
def test_a_checkpoint_that_does_not_say_its_precision_leaves_it_open(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "loop.json").write_text(text)
    assert checkpoint_precision(tmp_path) is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(DirectoryIO(tmp_path, kill_at=4), steps=8)
    state_file = tmp_path / "step-00000004" / "engine.pt"
    state = torch.load(state_file, weights_only=True)
    state["weights"]["other.weight"] = state["weights"].pop("encode.weight")
    torch.save(state, state_file)
    with pytest.raises(TrainingError, match=r"another model.*encode\.weight"):
        train(DirectoryIO(tmp_path), steps=8)


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_checkpoint_names_its_file(tmp_path: Path, damage: str) -> None:
    with pytest.raises(Killed):
        train(DirectoryIO(tmp_path, kill_at=4), steps=8)
    state_file = tmp_path / "step-00000004" / "engine.pt"
    if damage == "missing":
        state_file.unlink()
    else:
        state_file.write_bytes(state_file.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"engine\.pt: cannot read the checkpoint.*remove it"):
        train(DirectoryIO(tmp_path), steps=8)


def test_the_caller_may_delete_checkpoints_while_it_runs(tmp_path: Path) -> None:
    io = DirectoryIO(tmp_path)
    shutil.rmtree(tmp_path)
    result, _ = train(io, steps=8)
    assert result.steps == 8


@pytest.mark.parametrize("name", ["loop.json", "task.pt", "engine.pt", "average.safetensors"])
def test_a_checkpoint_that_somebody_changed_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    """Copies of runs are gone on with; keys and types of theirs were believed."""
    ema = LOOP.model_copy(update={"ema_decay": 0.5})
    with pytest.raises(Killed):
        train(DirectoryIO(tmp_path, kill_at=4), ema, steps=8)
    path = tmp_path / "step-00000004" / name
    whole = path.read_bytes()
    if name == "loop.json":
        facts = json.loads(whole)
        changed = [{**facts, key: odd} for key in facts for odd in ("x", [])]
        texts = [json.dumps(one).encode() for one in [*changed, [], 7, {}]]
    elif name == "average.safetensors":
        texts = [b"", whole[:-9], save({"odd": torch.ones(2)})]
    else:
        texts = []
        for odd in (7, {"weights": 7}, {"weights": {}, "moments": [], "steps": "x"}, object):
            torch.save(odd, path)
            texts.append(path.read_bytes())
        path.write_bytes(pickle.dumps(object))
        texts += [path.read_bytes(), b"", whole[:100]]
    for text in texts:
        path.write_bytes(text)
        with pytest.raises(TrainingError, match=r"step-00000004.*(remove it|remove the checkpoints)"):
            train(DirectoryIO(tmp_path), ema, steps=8)
