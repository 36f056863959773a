"""Stage `prepare`: read the table, split it, and infer the schema from the training split alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.errors import DataError
from difflm.records.inference import SchemaConfig, infer_schema
from difflm.records.notices import Notice
from difflm.records.schema import RecordSchema
from difflm.records.splits import GivenSplit, HashSplit, Splits, split_table
from difflm.telemetry import JSON
from difflm_jobs.cli.summary import NOTICES
from difflm_jobs.inputs.record_files import read_source
from difflm_jobs.inputs.record_kinds import hash_source, read_text_records, schema_config, usable
from difflm_jobs.inputs.sources import DataConfig, FileSource, PackagedSource, locate
from difflm_jobs.pipeline.stage import StageContext, StageOutcome

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Writes train, validation and test as Parquet, schema.json and report.json (what was found odd)."""

    data: DataConfig
    schema: SchemaConfig
    seed: int
    name: str = "prepare"
    version: int = 2
    output: str = "table"
    inputs: tuple[str, ...] = ()

    def section(self) -> Mapping[str, JSON]:
        only_texts = {"kind", "longest"} if self.data.kind == "table" else set()
        data = self.data.model_dump(mode="json", exclude={"train", "test"} | only_texts)
        return {"data": data, "schema": self.schema.model_dump(mode="json"), "seed": self.seed}

    def sources(self) -> Mapping[str, str]:
        paths = {key: self._locate(source, key) for key, source in self._files().items()}
        return {key: f"{_ending(path)} {hash_source(path)}" for key, path in paths.items()}

    def _locate(self, source: FileSource | PackagedSource, key: str) -> Path:
        return locate(source, key, folders=self.data.kind == "code")

    def _read(self, path: Path, work: Path, notices: list[Notice]) -> pa.Table:
        data = self.data
        if data.kind == "table":
            return read_source(path, data.read, work, notices)
        records = read_text_records(path, data.kind, data.read, notices.append)
        return usable(records, data.kind, longest=data.longest, report=notices.append)

    def _files(self) -> dict[str, FileSource | PackagedSource]:
        given = {"data.train": self.data.train, "data.test": self.data.test}
        return {key: source for key, source in given.items() if source is not None}

    def run(self, context: StageContext) -> StageOutcome:
        notices: list[Notice] = []
        tables: dict[str, pa.Table] = {}
        for done, (key, source) in enumerate(self._files().items()):
            context.report(done, 4, f"reading {key}")
            tables[key] = self._read(self._locate(source, key), context.work, notices)
        context.report(2, 4, "splitting")
        splits = self._split(tables["data.train"], tables.get("data.test"))
        context.report(3, 4, "inferring the schema")
        schema = self._infer(splits.train)
        notices += [*splits.notices, *schema.notices]
        if self.data.kind != "table":
            splits = _held_out_that_fit(splits, schema, notices)
        _write(splits, schema, notices, tables["data.train"].num_rows, context.output)
        facts: dict[str, JSON] = {f"{name} rows": getattr(splits, name).num_rows for name in SPLITS}
        facts["columns"] = len(schema.fields)
        if self.data.kind != "table":
            facts[NOTICES] = [
                notice.message if notice.column is None else f"{notice.column!r}: {notice.message}"
                for notice in notices
                if notice.code != "identifier"  # every text of its own is what such records are
            ]
        return StageOutcome(facts=facts)

    def _infer(self, train: pa.Table) -> RecordSchema:
        try:
            config = schema_config(self.schema, self.data.kind, longest=self.data.longest)
            return infer_schema(train, target=self.data.target, config=config)
        except DataError as error:
            remedy = " (--set schema.drop_all_missing=true)" if "drop_all_missing" in str(error) else ""
            raise type(error)(f"{describe(self.data.train)}: {error}{remedy}") from None

    def _split(self, table: pa.Table, test: pa.Table | None) -> Splits:
        data = self.data
        try:
            if test is None:
                config = HashSplit(validation=data.validation, test=data.test_share, seed=self.seed)
                return split_table(table, config, target=data.target)
            given = GivenSplit(validation=data.validation, seed=self.seed)
            return split_table(table, given, target=data.target, test=test)
        except DataError as error:
            remedy = "; give another name with --set data.target=COLUMN" if "target column" in str(error) else ""
            raise DataError(f"{describe(data.train)}: {error}{remedy}") from None


def _held_out_that_fit(splits: Splits, schema: RecordSchema, notices: list[Notice]) -> Splits:
    """Splits whose validation and test records are no longer than training's; the others are counted, never cut."""
    from difflm.records.text_codec import usable_held_out

    validation, test = (
        usable_held_out(getattr(splits, name), schema, name=name, report=notices.append) for name in SPLITS[1:]
    )
    return replace(splits, validation=validation, test=test)


def _ending(path: Path) -> str:
    """What the name says about how to read the file: the same bytes are another table under another ending."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix + (".gz" if name.endswith(".gz") else "")


def describe(source: FileSource | PackagedSource) -> str:
    """A source in the words of its configuration."""
    return source.path if isinstance(source, FileSource) else f"{source.package}/{source.resource}"


def _write(splits: Splits, schema: RecordSchema, notices: list[Notice], rows_read: int, folder: Path) -> None:
    import pyarrow.parquet as pq

    for name in SPLITS:
        pq.write_table(getattr(splits, name), folder / f"{name}.parquet")
    write_bytes_atomic(folder / "schema.json", schema.to_json().encode())
    report: dict[str, JSON] = {
        "rows_read": rows_read,
        "rows": {name: getattr(splits, name).num_rows for name in SPLITS},
        "notices": [notice.model_dump(mode="json") for notice in notices],
    }
    write_json_atomic(folder / "report.json", report)
