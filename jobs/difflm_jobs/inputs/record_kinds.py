"""Kinds of records: how each is read, chosen, described, evaluated and gated; one object per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol, TypeAlias

from difflm.errors import ConfigError, DataError
from difflm.records.files.reading import ReadConfig
from difflm.records.notices import Notice, Reporter
from difflm.records.schema import GivenKind, SchemaConfig
from difflm.records.text_files import read_code_records, read_tools
from difflm_jobs.inputs.arff import read_source

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.records.schema import RecordSchema
    from difflm.records.splits import Splits
    from difflm_evaluators.evaluation import EvaluationConfig, Progress, RealSplits
    from difflm_evaluators.report.report import Report
    from difflm_evaluators.scores.projection import Latents
    from difflm_evaluators.scores.validity import SynthesisAccount
    from difflm_evaluators.texts.evaluation import TextScoring
    from difflm_evaluators.texts.language import LanguageConfig, TextScorer
    from difflm_evaluators.texts.text_scores import CopiesConfig

Kind: TypeAlias = Literal["table", "tools", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What records are evaluated with: the settings of tables and those of texts, and what is known beside the rows.

    ``scorer`` is the language model that measures the fluency of texts, ``account`` that of the synthesis, ``latents``
    are the generator's, ``progress`` gets each part's name.
    """

    evaluation: EvaluationConfig
    copies: CopiesConfig
    language: LanguageConfig
    scorer: TextScorer | None = None
    account: SynthesisAccount | None = None
    latents: Latents | None = None
    progress: Progress | None = None


class RecordKind(Protocol):
    """One kind of records.

    ``tabular``: rows whose columns are their own, inferred from them, with a target or without. ``folders``: a folder
    of files may be given. ``holds_json``: a column holds JSON, which only some engines can keep to its schema.
    """

    @property
    def name(self) -> Kind: ...

    @property
    def tabular(self) -> bool: ...

    @property
    def folders(self) -> bool: ...

    @property
    def holds_json(self) -> bool: ...

    def read(
        self, path: Path, config: ReadConfig, report: Reporter, work: Path | None = None, *, encoded: bool = False
    ) -> pa.Table:
        """Read all records of a file, in ``work`` where something has to be converted; nothing is left out silently.
        With ``encoded``, columns of a large table may be (see `records.large`).

        Raises:
            DataError: names the file and the place in it.
        """
        ...

    def usable(self, table: pa.Table, *, longest: int, report: Reporter) -> pa.Table:
        """Keep the records that can be learned; the others are counted.

        Raises:
            DataError: none is left.
        """
        ...

    def schema_config(self, given: SchemaConfig, *, longest: int) -> SchemaConfig:
        """Complete the configuration of the schema's inference by what the kind says of its columns."""
        ...

    def held_out(self, splits: Splits, schema: RecordSchema, report: Reporter) -> Splits:
        """Keep the validation and test records that a schema of the training records can describe."""
        ...

    def shown(self, notices: Sequence[Notice]) -> list[str]:
        """Choose what the summary of a run says of the notices of reading and splitting."""
        ...

    def gate_scores(self) -> tuple[str, ...]:
        """Return the scores that a gate may be on."""
        ...

    def evaluate(self, synthetic: pa.Table, real: RealSplits, schema: RecordSchema | None, scoring: Scoring) -> Report:
        """Score synthetic records against real ones; only tables need a schema."""
        ...


_QUIET: Final = ("constant", "delimiter", "protected", "trimmed", "whole_decimals")
"""Findings about tables that change nothing of what comes out; the report of the table has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableKind:
    """Rows of a table, whose values are cut or rounded by column."""

    name: ClassVar[Kind] = "table"
    tabular: ClassVar[bool] = True
    folders: ClassVar[bool] = False
    holds_json: ClassVar[bool] = False

    def read(
        self, path: Path, config: ReadConfig, report: Reporter, work: Path | None = None, *, encoded: bool = False
    ) -> pa.Table:
        return read_source(path, config, report, work, encoded=encoded)

    def usable(self, table: pa.Table, *, longest: int, report: Reporter) -> pa.Table:
        del longest, report
        return table

    def schema_config(self, given: SchemaConfig, *, longest: int) -> SchemaConfig:
        del longest
        return given

    def held_out(self, splits: Splits, schema: RecordSchema, report: Reporter) -> Splits:
        del schema, report
        return splits

    def shown(self, notices: Sequence[Notice]) -> list[str]:
        return [
            notice.message if notice.column is None else f"{notice.column!r}: {notice.message}"
            for notice in notices
            if notice.code not in _QUIET
        ]

    def gate_scores(self) -> tuple[str, ...]:
        from difflm_evaluators.live.gates import TABLE_SCORES

        return TABLE_SCORES

    def evaluate(self, synthetic: pa.Table, real: RealSplits, schema: RecordSchema | None, scoring: Scoring) -> Report:
        from difflm_evaluators.evaluation import evaluate_table

        assert schema is not None, "a table has a schema"
        return evaluate_table(
            synthetic,
            real,
            schema,
            scoring.evaluation,
            account=scoring.account,
            latents=scoring.latents,
            progress=scoring.progress,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextKind:
    """Records that are texts as a whole: known columns, and never cut, but left out where they are too long."""

    name: Kind
    folders: bool
    holds_json: bool
    columns: Mapping[str, GivenKind]
    reader: Callable[[Path, ReadConfig, Reporter], pa.Table]
    chooser: Callable[[pa.Table, int, Reporter], pa.Table]
    scores: Callable[[], tuple[str, ...]]
    evaluator: Callable[[pa.Table, RealSplits, TextScoring], Report]
    tabular: ClassVar[bool] = False

    def read(
        self, path: Path, config: ReadConfig, report: Reporter, work: Path | None = None, *, encoded: bool = False
    ) -> pa.Table:
        del work, encoded
        return self.reader(path, config, report)

    def usable(self, table: pa.Table, *, longest: int, report: Reporter) -> pa.Table:
        kept = self.chooser(table, longest, report)
        if kept.num_rows == 0:
            raise DataError(f"none of {table.num_rows} records can be used; raise data.longest, which is {longest}")
        return kept

    def schema_config(self, given: SchemaConfig, *, longest: int) -> SchemaConfig:
        kinds = {**self.columns, **given.kinds}
        return given.model_copy(update={"kinds": kinds, "text_max_characters": max(longest, given.text_max_characters)})

    def held_out(self, splits: Splits, schema: RecordSchema, report: Reporter) -> Splits:
        from difflm.records.text_codec import usable_held_out

        validation, test = (
            usable_held_out(part, schema, name=name, report=report)
            for name, part in (("validation", splits.validation), ("test", splits.test))
        )
        return replace(splits, validation=validation, test=test)

    def shown(self, notices: Sequence[Notice]) -> list[str]:
        return [
            notice.message if notice.column is None else f"{notice.column!r}: {notice.message}"
            for notice in notices
            if notice.code not in ("identifier", "protected")  # every text of its own is what such records are
        ]

    def gate_scores(self) -> tuple[str, ...]:
        return self.scores()

    def evaluate(self, synthetic: pa.Table, real: RealSplits, schema: RecordSchema | None, scoring: Scoring) -> Report:
        from difflm_evaluators.texts.evaluation import TextScoring

        del schema
        texts = TextScoring(
            copies=scoring.copies, language=scoring.language, scorer=scoring.scorer, account=scoring.account
        )
        return self.evaluator(synthetic, real, texts)


def _usable_code(table: pa.Table, longest: int, report: Reporter) -> pa.Table:
    from difflm.records.text_codec import usable_code

    return usable_code(table, longest=longest, report=report)


def _code_scores() -> tuple[str, ...]:
    from difflm_evaluators.live.gates import CODE_SCORES

    return CODE_SCORES


def _evaluate_code(synthetic: pa.Table, real: RealSplits, scoring: TextScoring) -> Report:
    from difflm_evaluators.texts.evaluation import evaluate_code_table

    return evaluate_code_table(synthetic, real, scoring)


def _usable_tools(table: pa.Table, longest: int, report: Reporter) -> pa.Table:
    from difflm.records.text_codec import usable_tools

    return usable_tools(table, longest=longest, report=report)


def _tool_scores() -> tuple[str, ...]:
    from difflm_evaluators.live.gates import TOOL_SCORES

    return TOOL_SCORES


def _evaluate_tools(synthetic: pa.Table, real: RealSplits, scoring: TextScoring) -> Report:
    from difflm_evaluators.texts.evaluation import evaluate_tool_table

    return evaluate_tool_table(synthetic, real, scoring)


TABLE: Final = TableKind()
TOOLS: Final = TextKind(
    name="tools",
    folders=False,
    holds_json=True,
    columns={
        "category": "categorical",
        "tool_name": "name",
        "tool_description": "text",
        "api_name": "name",
        "api_description": "text",
        "parameters": "tool_parameters",
    },
    reader=read_tools,
    chooser=_usable_tools,
    scores=_tool_scores,
    evaluator=_evaluate_tools,
)
CODE: Final = TextKind(
    name="code",
    folders=True,
    holds_json=False,
    columns={"code": "python"},
    reader=read_code_records,
    chooser=_usable_code,
    scores=_code_scores,
    evaluator=_evaluate_code,
)
_KINDS: Final[Mapping[str, RecordKind]] = {kind.name: kind for kind in (TABLE, TOOLS, CODE)}


def record_kind(name: str) -> RecordKind:
    """Look up a kind by its name.

    Raises:
        ConfigError: there is none of this name; lists them.
    """
    if name not in _KINDS:
        raise ConfigError(f"--kind {name}: unknown; give {', '.join(_KINDS)}")
    return _KINDS[name]
