"""Stages of differential privacy: the real rows apart, private summaries in their place, and DP-SGD of the decoder.

`rows` holds the real table. Only `prepare` (which measures it), `fit-decoder` (DP-SGD) and `evaluate` (outside of the
guarantee) have it among their inputs. What every other stage reads as `prepare` is the surrogate: rows that are drawn
from private summaries, so whatever is done with them costs nothing.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.errors import DataError
from difflm.privacy.budget import PRIVACY_NAME, PrivacyConfig, Spent, Steps, epsilon_of, noise_for
from difflm.records.files.source import SOURCE_NAME, SourceForm
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import SchemaConfig, read_schema
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.inputs.given_tables import PRIVATE_ROWS as ROWS
from difflm_jobs.inputs.sources import DataConfig, FileSource, PackagedSource, hash_source, locate
from difflm_jobs.pipeline.runlog import NOTICES
from difflm_jobs.pipeline.stage import StageContext, StageOutcome, apart
from difflm_jobs.pipeline.training import run_training
from difflm_jobs.stages.decoder import FitDecoder
from difflm_jobs.stages.prepare import SPLITS, described_ending

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.privacy.surrogate import Summary
    from difflm.training.loop import LoopConfig
    from difflm.training.task import TaskSpec

UNITS = "units.npy"
_MOST_SURROGATES = 100_000
_AVERAGED = 0.9**0.1
"""Decay of the average of weights: steps of DP-SGD are few and noisy, and nine tenths are left after ten of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRows:
    """Writes train.parquet and test.parquet, the real rows, and units.npy: whose each training row is, from 0."""

    data: DataConfig = field(metadata=apart("train", "test"))
    privacy: PrivacyConfig
    name: ClassVar[str] = ROWS
    version: ClassVar[int] = 1
    output: ClassVar[str] = ROWS
    drawn_anew: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ()

    def sources(self) -> Mapping[str, str]:
        paths = {key: locate(source, key) for key, source in self._files().items()}
        return {key: f"{described_ending(path)} {hash_source(path)}" for key, path in paths.items()}

    def _files(self) -> Mapping[str, FileSource | PackagedSource]:
        given = {"data.train": self.data.train, "data.test": self.data.test}
        return {key: source for key, source in given.items() if source is not None}

    def run(self, context: StageContext) -> StageOutcome:
        import pyarrow.parquet as pq

        kind = self.data.record_kind
        tables: dict[str, pa.Table] = {}
        for key, source in self._files().items():
            context.report(len(tables), 2, f"reading {key}")
            found = kind.read(locate(source, key), self.data.read, lambda notice: None, context.work)
            tables[key] = self._usable(found, key)
        train, units_N = tables["data.train"], self._units(tables["data.train"])
        if "data.test" in tables:
            test = tables["data.test"]
        else:
            train, test, units_N = self._split(train, units_N)
        form = SourceForm.of(tables["data.train"])
        for name, table in (("train", train), ("test", test)):
            pq.write_table(self._columns(table).replace_schema_metadata(None), context.output / f"{name}.parquet")
        np.save(context.output / UNITS, units_N)
        if form is not None:
            write_bytes_atomic(context.output / SOURCE_NAME, form.dumped())
        return StageOutcome(facts={"real rows": "in this folder; delete it when the bundle is all that is needed"})

    def _usable(self, table: pa.Table, key: str) -> pa.Table:
        import pyarrow.compute as pc

        known = ", ".join(map(repr, table.column_names))
        for option, column in (("data.target", self.data.target), ("privacy.unit", self.privacy.unit)):
            wanted = column is not None and not (key == "data.test" and option[0] == "p")
            if wanted and column not in table.column_names:
                raise DataError(f"{key}: there is no column {column!r} ({option}); it has {known}")
        for column in self.privacy.leave_out:
            if column not in table.column_names and key == "data.train":
                raise DataError(f"{key}: there is no column {column!r} (privacy.leave_out); it has {known}")
        if self.data.target is not None:
            table = table.filter(pc.is_valid(table.column(self.data.target)))
        if not table.num_rows:
            raise DataError(f"{key}: no rows are left; give a table with rows that have a target")
        return table

    def _units(self, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Count through the units of all rows.

        Raises:
            DataError: a row has no unit.
        """
        import pyarrow.compute as pc

        if self.privacy.unit is None:
            return np.arange(table.num_rows, dtype=np.int64)
        column = table.column(self.privacy.unit)
        if column.null_count:
            row = pc.index(pc.is_null(column), True).as_py() + 1
            raise DataError(
                f"column {self.privacy.unit!r} (privacy.unit) has no value in {column.null_count:,} rows, first in row "
                f"{row}: nobody knows whose they are; fill them in or leave these rows out"
            )
        encoded = pc.dictionary_encode(column).combine_chunks()
        return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)

    def _split(
        self, table: pa.Table, units_N: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> tuple[pa.Table, pa.Table, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """Put each unit into the test split by itself: no other row has a say, as it has where shares are exact."""
        from difflm.privacy.secret_noise import secret_uniform

        tested_U = secret_uniform(int(units_N.max()) + 1) <= self.data.test_share
        tested_N = tested_U[units_N]
        if tested_N.all() or not tested_N.any():
            raise DataError(f"{len(tested_U)} units cannot be split into training and test; give more, or data.test")
        _, units_M = np.unique(units_N[~tested_N], return_inverse=True)
        return table.take(np.flatnonzero(~tested_N)), table.take(np.flatnonzero(tested_N)), units_M

    def _columns(self, table: pa.Table) -> pa.Table:
        left_out = {self.privacy.unit, *self.privacy.leave_out}
        return table.select([name for name in table.column_names if name not in left_out])


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarize:
    """Writes what `prepare` does without privacy, of rows that are drawn from private summaries; and summary.json."""

    privacy: PrivacyConfig
    schema: SchemaConfig
    target: str | None
    seed: int
    name: ClassVar[str] = "prepare"
    version: ClassVar[int] = 2
    output: ClassVar[str] = "table"
    drawn_anew: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = (ROWS,)

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        import pyarrow.parquet as pq

        from difflm.privacy.surrogate import summarize

        rows = context.input(ROWS)
        table = pq.read_table(rows / "train.parquet")
        context.report(0, 2, "measuring columns and pairs with noise")
        summary = summarize(table, np.load(rows / UNITS), self.privacy, target=self.target)
        context.report(1, 2, "drawing from the measurements")
        self._write(summary, table.schema, context.output)
        planned_steps(self.privacy, json.loads((context.output / SUMMARY_NAME).read_bytes()))  # refused before training
        form = SourceForm.read(rows)
        if form is not None:
            kept = form.public().kept(read_schema(context.output), lambda notice: None)
            write_bytes_atomic(context.output / SOURCE_NAME, kept.dumped())
        spent = epsilon_of(summary.ledger.rho, None, summary.plan.rest_delta)
        sentence = (
            f"schema, tokenizer and {len(summary.tree.edges)} joint counts are of private measurements of about "
            f"{summary.plan.units:,} units (epsilon {spent:.2f} so far); relations are not looked for"
        )
        schema = read_schema(context.output)
        facts: dict[str, JSON] = {f"{name} rows": schema.row_count for name in SPLITS}
        return StageOutcome(facts={**facts, "columns": len(schema.fields), NOTICES: list[JSON]([sentence])})

    def _write(self, summary: Summary, types: pa.Schema, folder: Path) -> None:
        import pyarrow.parquet as pq

        count = min(max(summary.plan.units, 10), _MOST_SURROGATES)
        random = np.random.default_rng(derive_seed(self.seed, self.name))
        sizes = {"train": count, "validation": max(10, count // 10), "test": max(10, count // 10)}
        drawn = {name: summary.draw(rows, types, random) for name, rows in sizes.items()}
        known = set(drawn["train"].column_names)
        kinds = {name: kind for name, kind in self.schema.kinds.items() if name in known}
        schema = infer_schema(
            drawn["train"], target=self.target, config=self.schema.model_copy(update={"kinds": kinds})
        )
        for name, table in drawn.items():
            pq.write_table(table, folder / f"{name}.parquet")
        write_bytes_atomic(folder / "schema.json", schema.to_json().encode())
        ledger: list[JSON] = [
            {"part": each.part, "rho": each.rho, "delta": each.delta} for each in summary.ledger.spent
        ]
        plan: dict[str, JSON] = {
            "delta": summary.plan.delta,
            "rest_delta": summary.plan.rest_delta,
            "units": summary.plan.units,
        }
        write_json_atomic(folder / SUMMARY_NAME, {**plan, "spent": ledger})


SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDecoder:
    """Fits tokenizer and decoder to the surrogate, which costs nothing: what DP-SGD goes on from."""

    fit: FitDecoder
    name: ClassVar[str] = "start-decoder"
    version: ClassVar[int] = FitDecoder.version
    output: ClassVar[str] = "start"
    inputs: ClassVar[tuple[str, ...]] = ("prepare",)

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        return self.fit.run(context)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPrivately:
    """Writes what `FitDecoder` does, after steps of DP-SGD on the real rows; and privacy.json: what is promised."""

    privacy: PrivacyConfig
    fit: FitDecoder
    seed: int
    name: ClassVar[str] = "fit-decoder"
    version: ClassVar[int] = 2
    output: ClassVar[str] = "decoder"
    drawn_anew: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("prepare", ROWS, "start-decoder")

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.models.decoder_store import read_parts, read_tensors, write_compact_model

        prepared, started = context.input("prepare"), context.input("start-decoder")
        summary = json.loads((prepared / SUMMARY_NAME).read_bytes())
        steps = planned_steps(self.privacy, summary)
        outcome = StageOutcome()
        shutil.copytree(started, context.output, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        if steps is not None:
            spec = self._spec(context, steps, int(summary["units"]))
            outcome = run_training(context, name=self.name, spec=spec, loop=self._loop(), runtime=context.runtime)
            parts = read_parts(context.output, read_schema(prepared))
            write_compact_model(context.output, parts, read_tensors(context.output / "best.safetensors"))
        promised = self._promised(summary, steps)
        write_json_atomic(context.output / PRIVACY_NAME, promised)
        facts: dict[str, JSON] = {**outcome.facts, "privacy": promised, NOTICES: list[JSON]([str(promised["says"])])}
        return replace(outcome, facts=facts)

    def _loop(self) -> LoopConfig:
        assert self.fit.fit is not None
        changes = {"method": "adamw", "learning_rate": self.privacy.learning_rate, "gradient_accumulation": 1}
        changes |= {"warmup_steps": 10, "weight_decay": 0.0, "ema_decay": _AVERAGED}
        return self.fit.fit.loop.model_copy(update=changes)

    def _spec(self, context: StageContext, steps: Steps, units: int) -> TaskSpec:
        from difflm.training.task import TaskSpec

        fit, steering = self.fit.fit, self.fit.steering
        assert fit is not None
        assert steering is not None
        return TaskSpec(
            factory="private_decoder",
            config={
                "chunk_rows": self.privacy.chunk_rows,
                "steering": steering.model_dump(mode="json"),
                "rate": steps.rate,
                "noise": steps.noise,
                "steps": steps.steps,
                "units": units,
                "reordered_share": fit.reordered_share,
                "loop": self._loop().model_dump(mode="json"),
            },
            inputs={
                "prepare": str(context.input("prepare")),
                "rows": str(context.input(ROWS)),
                "decoder": str(context.input("start-decoder")),
            },
            seed=derive_seed(self.seed, self.name),
        )

    def _promised(self, summary: Mapping[str, Any], steps: Steps | None) -> dict[str, JSON]:
        from difflm.privacy.statement import promise

        spent = [Spent(**each) for each in summary["spent"]]
        return promise(self.privacy, delta=float(summary["delta"]), spent=spent, steps=steps)


def planned_steps(config: PrivacyConfig, summary: Mapping[str, Any]) -> Steps | None:
    """Return the sample rate, the number of steps and the noise that the rest of the budget allows.

    Raises:
        ConfigError: nothing of it is left.
    """
    units, spent = int(summary["units"]), math.fsum(each["rho"] for each in summary["spent"])
    if config.passes == 0:
        return None
    rate = min(config.batch_units, max(1, units // 10)) / units
    count = max(1, round(config.passes / rate))
    noise = noise_for(config.epsilon, float(summary["rest_delta"]), rho=spent, rate=rate, steps=count)
    return Steps(rate=rate, noise=noise, steps=count)
