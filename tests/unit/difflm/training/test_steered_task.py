"""Fitting a decoder beside a latent: pure batches in any order, both ways in validation, and a draft that is kept."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from difflm.models.autoencoder import Autoencoder
from difflm.models.decoder_store import read_parts, write_compact_model, write_tokenizer
from difflm.models.kl_schedule import CapacityKl
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import SchemaConfig, read_schema
from difflm.records.tool_codec import records_of, table_of_tools
from difflm.telemetry import JSON
from difflm.testing.bundles import TINY_DECODER, TINY_POOLED_SHAPE, StageFolders, write_prepared
from difflm.testing.tables import small_table
from difflm.training.any_order import counted_tokens, fields_of, opening_tokens
from difflm.training.autoencoder_task import AutoencoderConfig, AutoencoderTask
from difflm.training.decoder_task import DecoderFitConfig
from difflm.training.engine import PlainEngine
from difflm.training.loop import Event, LoopConfig, run_loop
from difflm.training.record_data import read_split
from difflm.training.steered_task import SteeredDecoderTask, Steering
from difflm.training.task import TaskSpec, build_task

LOOP = LoopConfig(learning_rate=3e-3, warmup_steps=5, evaluate_every=20, checkpoint_every=1000)
FIT = DecoderFitConfig(steps=40, batch_size=16, validation_records=30, loop=LOOP)
STEERING = Steering(shape=TINY_POOLED_SHAPE, nats=1.5)
AUTOENCODER = AutoencoderConfig(
    encoder=TINY_POOLED_SHAPE.encoder,
    injector=TINY_POOLED_SHAPE.injector,
    kl=CapacityKl(nats=1.5),
    steps=4,
    batch_size=16,
    validation_records=20,
    loop=LOOP,
)


class MemoryIO:
    """A loop's surroundings that keep events only."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def resume_from(self) -> Path | None:
        return None

    def started(self, step: int) -> None:
        pass

    def log(self, event: Event) -> None:
        self.events.append(event)

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        pass


def _spec(stages: StageFolders, *, seed: int = 5, **fit: JSON) -> TaskSpec:
    config: dict[str, JSON] = {
        "fit": FIT.model_dump(mode="json") | fit,
        "steering": STEERING.model_dump(mode="json"),
    }
    inputs = {"prepare": str(stages.prepared), "tokenizer": str(stages.decoder)}
    return TaskSpec(factory="steered_decoder", config=config, inputs=inputs, seed=seed)


@pytest.fixture
def task(any_order_stages: StageFolders) -> SteeredDecoderTask:
    return _built(_spec(any_order_stages))


def _built(spec: TaskSpec) -> SteeredDecoderTask:
    task = build_task(spec, "cpu")
    assert isinstance(task, SteeredDecoderTask)
    return task


def test_batches_are_pure_and_of_both_kinds(task: SteeredDecoderTask, any_order_stages: StageFolders) -> None:
    other = _built(_spec(any_order_stages))
    for place in ((0, 0, 0, 1), (3, 1, 1, 2), (0, 0, 0, 1)):
        torch.testing.assert_close(task.batch(*place), other.batch(*place), atol=0, rtol=0)
        other.batch(17, 0, 0, 1)
    torch.testing.assert_close(task.module.state_dict(), other.module.state_dict(), atol=0, rtol=0)
    told = torch.cat([task.batch(step, 0, 0, 1)["told_B"] for step in range(20)])
    assert 0.35 < float(told.float().mean()) < 0.65
    assert not torch.equal(task.batch(0, 0, 0, 1)["grid_BG"], task.batch(1, 0, 0, 1)["grid_BG"])


def test_few_rows_are_told_with_other_numbers_and_take_as_many_steps(any_order_stages: StageFolders) -> None:
    fit = {"steps": 1000, "epochs": 100.0}
    task = _built(_spec(any_order_stages, **fit))
    prepared = any_order_stages.prepared
    rows = read_split(prepared, "train", read_schema(prepared)).num_rows
    assert task.copies > 1
    assert len(task.train) == task.copies * rows
    assert task.steps() == -(-100 * rows // 16)
    assert len(torch.unique(task.train.grid_NG, dim=0)) > 10 * rows


def test_records_of_both_kinds_come_in_other_orders_those_that_are_told_seldom(task: SteeredDecoderTask) -> None:
    assert task.opening_F is not None
    seen = {True: 0, False: 0}
    for step in range(10):
        batch = task.batch(step, 0, 0, 1)
        for ids, told in zip(batch["ids_BT"], batch["told_B"].tolist(), strict=True):
            opened = ids[torch.isin(ids, task.opening_F)]
            assert set(opened.tolist()) == set(task.opening_F.tolist())
            seen[told] += not torch.equal(opened, task.opening_F)
    assert 3 < seen[True] < 30
    assert 20 < seen[False] < 70  # of about eighty


def test_a_decoder_of_the_tables_order_is_given_no_other(any_order_stages: StageFolders, tmp_path: Path) -> None:
    schema = read_schema(any_order_stages.prepared)
    literals = JsonRecordCodec(schema).value_literals(read_split(any_order_stages.prepared, "train", schema))
    spelled = TINY_DECODER.model_copy(update={"number_pairs": False})
    assert not write_tokenizer(tmp_path, spelled, schema, literals, any_order=True).any_order
    spec = _spec(any_order_stages)
    task = _built(replace(spec, inputs={**spec.inputs, "tokenizer": str(tmp_path)}))
    assert task.opening_F is not None
    batch = task.batch(0, 0, 0, 1)
    for ids in batch["ids_BT"]:
        torch.testing.assert_close(ids[torch.isin(ids, task.opening_F)], task.opening_F)


def test_every_record_is_validated_both_ways_and_by_one_rank(task: SteeredDecoderTask) -> None:
    whole = list(task.validation_batches(0, 1))
    assert sum(count for count, _ in whole) == 30
    assert sum(count for rank in range(3) for count, _ in task.validation_batches(rank, 3)) == 30
    for count, batch in whole:
        told = batch["told_B"]
        assert told.tolist() == [True] * count + [False] * count
        for name in ("ids_BT", "grid_BG", "class_BF", "counted_BT"):
            torch.testing.assert_close(batch[name][told], batch[name][~told])
    again = list(task.validation_batches(0, 1))
    torch.testing.assert_close([batch for _, batch in whole], [batch for _, batch in again], atol=0, rtol=0)


def test_the_fit_learns_and_says_both_ways(task: SteeredDecoderTask, any_order_stages: StageFolders) -> None:
    io = MemoryIO()
    result = run_loop(task, PlainEngine(task.module, gradient_clip=1.0), LOOP, io, seed=0)
    validated = [event for event in io.events if event["kind"] == "validation"]
    first, last = (float(event["metrics"]["nats"]) for event in (validated[0], validated[-1]))
    assert last < first - 5
    verdict = task.observe(40, {"nats": 3.0, "nats_empty": 4.0, "nats_told": 2.0, "kl_nats": 1.5, "loss": 9.0})
    assert verdict.objective == 3.0
    assert verdict.note == "by itself 4.00 nats, steered by 1.50 2.00"
    summary = task.summary()
    assert {"nats_told", "nats_empty", "kl_nats", "parameters"} <= summary.keys()
    assert any(name.startswith("model.") for name in result.best_tensors)
    pointers = [value.data_ptr() for value in task.artifact_tensors().values()]
    assert len(pointers) == len(set(pointers))
    other = _built(_spec(any_order_stages))
    other.load_state_dict(task.state_dict())
    assert other.last == task.last


def _autoencoder(stages: StageFolders, decoder: Path, **config: JSON) -> AutoencoderTask:
    inputs = {"prepare": str(stages.prepared), "fit-decoder": str(decoder)}
    given = AUTOENCODER.model_dump(mode="json") | config
    task = build_task(TaskSpec(factory="autoencoder", config=given, inputs=inputs, seed=9), "cpu")
    assert isinstance(task, AutoencoderTask)
    return task


def test_the_autoencoder_goes_on_with_the_draft(
    task: SteeredDecoderTask, any_order_stages: StageFolders, tmp_path: Path
) -> None:
    decoder = Path(shutil.copytree(any_order_stages.decoder, tmp_path / "decoder"))
    parts = read_parts(decoder, read_schema(any_order_stages.prepared))
    tensors = {name: value.detach().clone() for name, value in task.artifact_tensors().items()}
    save_file(tensors, decoder / "best.safetensors")
    write_compact_model(decoder, parts, tensors)
    module = _autoencoder(any_order_stages, decoder).module
    assert isinstance(module, Autoencoder)
    own = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    assert {"injector.empty", "head.out.weight"} & set(own)
    for name, value in own.items():
        torch.testing.assert_close(value, tensors[name], atol=0, rtol=0)
    steered = task.module.eval()
    batch = task.batch(0, 0, 0, 1)
    posterior = steered.head.posterior(steered.encoder(batch["grid_BG"]))
    torch.testing.assert_close(module.eval().encode({"grid_BG": batch["grid_BG"]}).mean_BZ, posterior.mean_BZ)


def test_a_draft_of_another_shape_is_left(
    task: SteeredDecoderTask, any_order_stages: StageFolders, tmp_path: Path
) -> None:
    decoder = Path(shutil.copytree(any_order_stages.decoder, tmp_path / "decoder"))
    save_file(
        {name: value.detach().clone() for name, value in task.artifact_tensors().items()}, decoder / "best.safetensors"
    )
    wider = {"encoder": {**AUTOENCODER.encoder.model_dump(mode="json"), "latent_size": 6}}
    module = _autoencoder(any_order_stages, decoder, **wider).module
    assert module.injector.latent_size == 6


def test_only_a_value_that_a_row_was_drawn_for_does_not_count(task: SteeredDecoderTask) -> None:
    assert task.opening_F is not None
    uncounted = 0
    for step in range(20):
        batch = task.batch(step, 0, 0, 1)
        segment_BT = fields_of(batch["ids_BT"], batch["lengths_B"], task.opening_F)
        value_BT = counted_tokens(batch["ids_BT"], batch["lengths_B"], task.opening_F)
        left_out_BT = value_BT & ~batch["counted_BT"]
        assert not bool((left_out_BT & (segment_BT > 0)).any())
        whole_B = (left_out_BT | ~value_BT | (segment_BT > 0)).all(dim=1)
        assert torch.equal(whole_B, left_out_BT.any(dim=1))  # all of the first value, or none of it
        uncounted += int(whole_B.sum())
    assert uncounted > 0


def test_the_autoencoders_batches_hold_the_capacity_and_some_records_untold(any_order_stages: StageFolders) -> None:
    task = _autoencoder(any_order_stages, any_order_stages.decoder)
    batch = task.batch(0, 0, 0, 1)
    assert float(batch["capacity"]) == 1.5
    assert float(batch["beta"]) == 1.0
    assert batch["told_B"].tolist() == [False] * 2 + [True] * 14
    assert task.opening_F is not None
    assert not bool(batch["counted_BT"][torch.isin(batch["ids_BT"], task.opening_F)].any())
    (_, validated), *_ = task.validation_batches(0, 1)
    assert "told_B" not in validated
    io = MemoryIO()
    run_loop(task, PlainEngine(task.module, gradient_clip=1.0), LOOP, io, seed=0)
    assert task.summary()["kl_nats"] is not None
    assert "best_objective" in task.summary()


@pytest.mark.parametrize("columns", [["age"], ["age", "label"]])
def test_tables_of_fewer_columns_than_soft_tokens_have_room(columns: list[str], tmp_path: Path) -> None:
    table = small_table(60).select(columns)
    write_prepared(tmp_path / "prepared", table, table)
    schema = read_schema(tmp_path / "prepared")
    literals = JsonRecordCodec(schema).value_literals(read_split(tmp_path / "prepared", "train", schema))
    parts = write_tokenizer(tmp_path / "decoder", TINY_DECODER, schema, literals, any_order=True)
    assert parts.any_order == (len(columns) > 1)
    inputs = {"prepare": str(tmp_path / "prepared"), "tokenizer": str(tmp_path / "decoder")}
    config = {"fit": FIT.model_dump(mode="json"), "steering": STEERING.model_dump(mode="json")}
    task = _built(TaskSpec(factory="steered_decoder", config=config, inputs=inputs, seed=1))
    task.module(**task.batch(0, 0, 0, 1))
    tensors = {name: value.detach().clone() for name, value in task.artifact_tensors().items()}
    save_file(tensors, tmp_path / "decoder" / "best.safetensors")
    write_compact_model(tmp_path / "decoder", parts, tensors)
    inputs["fit-decoder"] = inputs["tokenizer"]
    build_task(TaskSpec(factory="autoencoder", config=AUTOENCODER.model_dump(mode="json"), inputs=inputs), "cpu")


def test_keys_of_json_that_are_written_as_fields_do_not_confuse_the_fit(tmp_path: Path) -> None:
    tools = [
        {
            "category": "Data" if tool % 2 else "Music",
            "tool_name": f"tool {tool}",
            "tool_description": "It finds.",
            "api_list": [
                {
                    "name": f"find{tool}",
                    "description": "Finds.",
                    "required_parameters": [{"name": "p", "type": "STRING", "description": "what"}] * 2,
                    "optional_parameters": [],
                }
            ],
        }
        for tool in range(12)
    ]
    table = table_of_tools(record for tool in tools for record in records_of(tool, "tool"))
    table = table.rename_columns({"tool_description": "type"})
    kinds = SchemaConfig(kinds={"category": "categorical", "parameters": "tool_parameters"})
    write_prepared(tmp_path / "prepared", table, table, inference=kinds)
    schema = read_schema(tmp_path / "prepared")
    literals = JsonRecordCodec(schema).value_literals(read_split(tmp_path / "prepared", "train", schema))
    parts = write_tokenizer(tmp_path / "decoder", TINY_DECODER, schema, literals, any_order=True)
    (place,) = [place for place, field in enumerate(schema.fields) if field.kind == "json"]
    own = {ids[0] for ids in parts.tokenizer.fixed_ids[:-1]}
    assert own & set(parts.tokenizer.literal_ids(place, literals[place][0]))  # such keys there are
    assert opening_tokens(parts.tokenizer) is None
    assert not parts.any_order


@pytest.mark.parametrize(("fit", "most"), [({}, 12), ({"lengthened": 1.0}, 4), ({"epochs": 1.2}, 4)])
def test_a_fit_becomes_longer_while_it_gets_better_and_rows_were_seen_few_times(
    fit: dict[str, JSON], most: int, any_order_stages: StageFolders
) -> None:
    spec = _spec(any_order_stages, **{"steps": 4, "patience": 50, **fit})
    task, step, verdicts = _built(spec), 0, []
    assert task.steps() == 4
    while step < task.steps():
        step += 1
        nats = 30.0 * 0.97**step
        metrics = {"nats": nats, "nats_empty": nats, "nats_told": nats, "kl_nats": 1.0}
        verdicts.append(task.observe(step, metrics))
    assert step == task.steps() == most
    assert not any(verdict.stop for verdict in verdicts)
    assert any("so 6 steps" in str(verdict.note) for verdict in verdicts) is (most > 4)
    resumed = _built(spec)
    resumed.load_state_dict(task.state_dict())
    assert resumed.steps() == most
