"""Stage `prepare`: read the table, split it, and infer the schema from the training split alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.errors import DataError
from difflm.records.files.paths import ending_of
from difflm.records.files.source import SOURCE_NAME, SourceForm
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import Notice
from difflm.records.relations.constraints import asked_relations
from difflm.records.relations.mining import mine_relations
from difflm.records.relations.model import Relations
from difflm.records.relations.values import TableValues
from difflm.records.relations.words import columns_in
from difflm.records.relations.words import describe as describe_relations
from difflm.records.schema import RecordSchema, SchemaConfig
from difflm.records.splits import GivenSplit, HashSplit, Splits, split_table
from difflm.telemetry import JSON
from difflm_jobs.inputs.relations import AUTO, RelationsConfig, asked_of
from difflm_jobs.inputs.sources import DataConfig, FileSource, PackagedSource, hash_source, locate
from difflm_jobs.pipeline.runlog import NOTICES
from difflm_jobs.pipeline.stage import StageContext, StageOutcome, apart

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Writes train, validation and test as Parquet, schema.json, source.json and report.json (what was found odd)."""

    data: DataConfig = field(metadata=apart("train", "test"))
    schema: SchemaConfig
    seed: int
    relations: RelationsConfig = AUTO
    name: ClassVar[str] = "prepare"
    version: ClassVar[int] = 3
    output: ClassVar[str] = "table"
    inputs: ClassVar[tuple[str, ...]] = ()

    def sources(self) -> Mapping[str, str]:
        paths = {key: self._locate(source, key) for key, source in self._files().items()}
        return {key: f"{described_ending(path)} {hash_source(path)}" for key, path in paths.items()}

    def _locate(self, source: FileSource | PackagedSource, key: str) -> Path:
        return locate(source, key, folders=self.data.record_kind.folders)

    def _read(self, path: Path, work: Path, notices: list[Notice]) -> pa.Table:
        data, kind = self.data, self.data.record_kind
        records = kind.read(path, data.read, notices.append, work)
        return kind.usable(records, longest=data.longest, report=notices.append)

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
        schema = self._infer(splits.train, tables["data.train"])
        context.report(3, 4, "looking for relations between columns")
        schema = self._related(schema, tables["data.train"], splits)
        notices += [*splits.notices, *schema.notices]
        splits = self.data.record_kind.held_out(splits, schema, notices.append)
        form = SourceForm.of(tables["data.train"])
        if form is not None:
            write_bytes_atomic(context.output / SOURCE_NAME, form.kept(schema, notices.append).dumped())
        _write(splits, schema, notices, tables["data.train"].num_rows, context.output)
        facts: dict[str, JSON] = {f"{name} rows": getattr(splits, name).num_rows for name in SPLITS}
        facts["columns"] = len(schema.fields)
        if shown := [*self.data.record_kind.shown(notices), *_shown(schema.relations)]:
            facts[NOTICES] = list[JSON](shown)
        return StageOutcome(facts=facts)

    def _infer(self, train: pa.Table, whole: pa.Table) -> RecordSchema:
        config = self.data.record_kind.schema_config(self.schema, longest=self.data.longest)
        try:
            return infer_schema(train, target=self.data.target, config=config)
        except DataError as refused:
            error = refused
            if "schema.kinds." in str(refused):  # it names a row: that of the file, not that of a split
                try:
                    infer_schema(whole, target=self.data.target, config=config)
                except DataError as named:
                    error = named
            remedy = " (--set schema.drop_all_missing=true)" if "drop_all_missing" in str(error) else ""
            raise type(error)(f"{describe(self.data.train)}: {error}{remedy}") from None

    def _related(self, schema: RecordSchema, table: pa.Table, splits: Splits) -> RecordSchema:
        """Return the schema with the relations that were asked for and those that were found."""
        if not self.data.record_kind.tabular:
            return schema
        texts, mined = asked_of(self.relations)
        asked = asked_relations(
            texts,
            table=TableValues(table, schema),
            train=TableValues(splits.train, schema),
            source=describe(self.data.train),
        )
        notices, kept = list(schema.notices), list(asked)
        if mined:
            stated = {frozenset(columns_in(relation, schema)) for relation in asked}
            found = mine_relations(splits.train, splits.validation, schema)
            kept += [each for each in found.relations.kept if frozenset(columns_in(each, schema)) not in stated]
            notices += found.notices
        return schema.model_copy(update={"relations": Relations(kept=tuple(kept)), "notices": tuple(notices)})

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


def _shown(relations: Relations) -> list[str]:
    """Say which relations every synthetic row keeps; of many, the first."""
    sentences = describe_relations(relations)
    more = [f"and {len(sentences) - _SHOWN:,} more relations (schema.json)"] if len(sentences) > _SHOWN else []
    return [*(f"kept in every synthetic row: {sentence}" for sentence in sentences[:_SHOWN]), *more]


def described_ending(path: Path) -> str:
    """Return what the name says about how to read the file: the same bytes are another table under another ending."""
    ending, last = ending_of(path), path.suffix.lower()
    return ending if last == ending else ending + last


def describe(source: FileSource | PackagedSource) -> str:
    """Name a source in the words of its configuration."""
    return source.path if isinstance(source, FileSource) else f"{source.package}/{source.resource}"


def _write(splits: Splits, schema: RecordSchema, notices: list[Notice], rows_read: int, folder: Path) -> None:
    import pyarrow.parquet as pq

    for name in SPLITS:
        pq.write_table(getattr(splits, name).replace_schema_metadata(None), folder / f"{name}.parquet")
    write_bytes_atomic(folder / "schema.json", schema.to_json().encode())
    report: dict[str, JSON] = {
        "rows_read": rows_read,
        "rows": {name: getattr(splits, name).num_rows for name in SPLITS},
        "notices": [notice.model_dump(mode="json") for notice in notices],
    }
    write_json_atomic(folder / "report.json", report)
