"""Stage `prepare`: read the table, split it, and infer the schema from the training split alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.errors import DataError
from difflm.records.files.missing_words import MISSING
from difflm.records.files.paths import ending_of
from difflm.records.files.source import SOURCE_NAME, SourceForm
from difflm.records.kinds.inference import infer_schema
from difflm.records.large.rows import Rows
from difflm.records.notices import Notice
from difflm.records.protection.protect import (
    ProtectedRows,
    check_protection,
    protect_rows,
    protected_schema,
    protection_summary,
)
from difflm.records.protection.related import breaking_rows, common_relations, public_words, without_quotes
from difflm.records.protection.settings import UNPROTECTED, ProtectConfig
from difflm.records.relations.constraints import ANYWAY, asked_relations
from difflm.records.relations.mining import mine_relations
from difflm.records.relations.model import Relations
from difflm.records.relations.values import TableValues
from difflm.records.relations.words import columns_in
from difflm.records.relations.words import describe as describe_relations
from difflm.records.schema import RecordSchema, SchemaConfig
from difflm.records.splits import FITTED, GivenSplit, HashSplit, Splits, split_table
from difflm.telemetry import JSON
from difflm_jobs.inputs.relations import AUTO, RelationsConfig, asked_of
from difflm_jobs.inputs.sources import DataConfig, FileSource, PackagedSource, hash_source, locate
from difflm_jobs.pipeline.runlog import NOTICES
from difflm_jobs.pipeline.stage import StageContext, StageOutcome, apart

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
_SHOWN = 20
_ROUNDS = 10
_PLACE = re.compile(r"\b(?:line|row|object) \d")
"""In errors about what stands somewhere in a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """The training rows as they were read, those that models see where they differ, and their schema."""

    train: pa.Table
    fitted: pa.Table | None
    schema: RecordSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Writes train, validation and test as Parquet, schema.json, source.json and report.json (what was found odd).

    With `protect`, the schema is that of fitted.parquet: the training rows without values that few of them have, which
    is all that models get to see (see `records.protection`). The other files hold real rows, for evaluation.
    """

    data: DataConfig = field(metadata=apart("train", "test", "read.max_unpacked_mib"))
    schema: SchemaConfig
    seed: int
    relations: RelationsConfig = AUTO
    protect: ProtectConfig = UNPROTECTED
    name: ClassVar[str] = "prepare"
    version: ClassVar[int] = 4
    output: ClassVar[str] = "table"
    inputs: ClassVar[tuple[str, ...]] = ()

    def sources(self) -> Mapping[str, str]:
        paths = {key: self._locate(source, key) for key, source in self._files().items()}
        return {key: f"{described_ending(path)} {hash_source(path)}" for key, path in paths.items()}

    def _locate(self, source: FileSource | PackagedSource, key: str) -> Path:
        return locate(source, key, folders=self.data.record_kind.folders)

    def _read(self, path: Path, work: Path, notices: list[Notice]) -> pa.Table:
        data, kind = self.data, self.data.record_kind
        records = kind.read(path, data.read, notices.append, work, encoded=True)
        return kind.usable(records, longest=data.longest, report=notices.append)

    def _files(self) -> dict[str, FileSource | PackagedSource]:
        given = {"data.train": self.data.train, "data.test": self.data.test}
        return {key: source for key, source in given.items() if source is not None}

    def run(self, context: StageContext) -> StageOutcome:
        notices: list[Notice] = []
        tables: dict[str, pa.Table] = {}
        for done, (key, source) in enumerate(self._files().items()):
            context.report(done, 4, f"reading {key}")
            try:
                tables[key] = self._read(self._locate(source, key), context.work, notices)
            except DataError as error:
                if _PLACE.search(str(error)) is None:
                    raise
                raise self._hidden(error, ()) from None
        context.report(2, 4, "splitting")
        splits = self._split(tables["data.train"], tables.get("data.test"))
        context.report(3, 4, "inferring the schema")
        known = {*tables["data.train"].column_names, *self._typed(), *MISSING}
        try:
            learned = self._learned(splits, tables["data.train"], context)
            known |= {*public_words(learned.schema)}
        except DataError as error:
            raise self._hidden(error, known) from None
        schema, splits = learned.schema, replace(splits, train=learned.train)
        notices += [*splits.notices, *schema.notices]
        splits = self.data.record_kind.held_out(splits, schema, notices.append)
        form = SourceForm.of(tables["data.train"])
        if form is not None:
            form = form.kept(schema, notices.append, columns=tables["data.train"].column_names)
            write_bytes_atomic(context.output / SOURCE_NAME, form.dumped())
        notices = [self._public(notice, known) for notice in notices]
        schema = schema.model_copy(update={"notices": tuple(self._public(one, known) for one in schema.notices)})
        _write(splits, learned.fitted, schema, notices, tables["data.train"].num_rows, context.output)
        facts: dict[str, JSON] = {f"{name} rows": getattr(splits, name).num_rows for name in SPLITS}
        facts["columns"] = len(schema.fields)
        facts[NOTICES] = list[JSON](
            [
                protection_summary(schema.notices, self.protect),
                *self.data.record_kind.shown(notices),
                *_shown(schema.relations),
            ]
        )
        return StageOutcome(facts=facts)

    def _typed(self) -> Iterator[str]:
        """Yield what somebody asked for, and what errors advise to ask for in its place: no row says that."""
        for text in asked_of(self.relations)[0]:
            yield from (text, f"{ANYWAY} {text}")
        yield from self.schema.kinds

    def _hidden(self, error: DataError, known: Collection[str]) -> DataError:
        """Return the error without the values that it quotes: the row and the column that it names are enough."""
        return type(error)(without_quotes(str(error), known)) if self.protect.enabled else error

    def _public(self, notice: Notice, known: Collection[str]) -> Notice:
        if not self.protect.enabled:
            return notice
        return notice.model_copy(update={"message": without_quotes(notice.message, known)})

    def _learned(self, splits: Splits, table: pa.Table, context: StageContext) -> _Learned:
        """Infer the schema and the relations of the training rows, protected where that is asked for."""
        schema, config = self._infer(splits.train, table), self.protect
        asked = {*self.data.record_kind.schema_config(self.schema, longest=self.data.longest).kinds}
        try:
            check_protection(splits.train, schema, config, asked=asked)
        except DataError as error:
            raise DataError(f"{describe(self.data.train)}: {error}") from None
        context.report(3, 4, "looking for relations between columns")
        if not config.enabled:
            return _Learned(train=splits.train, fitted=None, schema=self._related(schema, table, splits))
        whole = splits.train
        related: RecordSchema | None = None
        for _ in range(_ROUNDS):  # rows that are left out may leave others with a value of few
            rows = self._protect(whole, schema)
            unchanged = rows.whole.filter(~rows.changed_N)
            if related is None:
                related = self._related(schema, table, replace(splits, train=unchanged))
            relations = common_relations(related.relations, unchanged, schema, config.threshold)
            broken_N = breaking_rows(relations, rows.fitted, schema)
            if not broken_N.any():
                break
            whole = rows.whole.filter(~broken_N)
        assert related is not None, "there is a first round"
        config_of_schema = self.data.record_kind.schema_config(self.schema, longest=self.data.longest)
        protected = protected_schema(rows, schema, config, inference=config_of_schema)
        found = related.notices[len(schema.notices) :]
        update = {"relations": relations, "notices": (*protected.notices, *found)}
        fitted = rows.fitted if rows.differs else None
        return _Learned(train=rows.whole, fitted=fitted, schema=protected.model_copy(update=update))

    def _protect(self, train: pa.Table, schema: RecordSchema) -> ProtectedRows:
        try:
            return protect_rows(train, schema, self.protect, seed=self.seed, texts=self.data.record_kind.tabular)
        except DataError as error:
            raise DataError(f"{describe(self.data.train)}: {error}") from None

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
            remedy = (
                "; give another name with --target, or data.target in a file" if "target column" in str(error) else ""
            )
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


def _write(
    splits: Splits,
    fitted: pa.Table | None,
    schema: RecordSchema,
    notices: list[Notice],
    rows_read: int,
    folder: Path,
) -> None:
    import pyarrow.parquet as pq

    parts = {name: getattr(splits, name) for name in SPLITS} | ({} if fitted is None else {FITTED: fitted})
    for name, table in parts.items():
        if isinstance(table, Rows):
            table.write(folder / f"{name}.parquet")
        else:
            pq.write_table(table.replace_schema_metadata(None), folder / f"{name}.parquet")
    write_bytes_atomic(folder / "schema.json", schema.to_json().encode())
    report: dict[str, JSON] = {
        "rows_read": rows_read,
        "rows": {name: getattr(splits, name).num_rows for name in SPLITS},
        "notices": [notice.model_dump(mode="json") for notice in notices],
    }
    write_json_atomic(folder / "report.json", report)
