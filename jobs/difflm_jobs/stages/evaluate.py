"""Stage `evaluate`: score the synthetic table against the real splits, and write the report; also for any two files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from difflm.artifacts import Artifact
from difflm.artifacts.manifest import REPORT_KIND
from difflm.config import apply_overrides, validate
from difflm.errors import ConfigError, DataError
from difflm.privacy.statement import promised_in
from difflm.records.databases.urls import shown_source
from difflm.records.notices import Notice
from difflm.records.schema import RecordSchema, read_schema
from difflm.telemetry import JSON, read_events
from difflm_jobs.inputs.given_tables import PRIVATE_ROWS as ROWS
from difflm_jobs.inputs.models import language_sources, text_scorer
from difflm_jobs.inputs.places import refuse_others
from difflm_jobs.inputs.record_files import read_records
from difflm_jobs.inputs.record_kinds import Kind, Scoring, record_kind
from difflm_jobs.pipeline.runlog import HEADLINES, describe_environment
from difflm_jobs.pipeline.stage import StageContext, StageOutcome, apart
from difflm_jobs.pipeline.training import EVENTS
from difflm_jobs.stages.map_latents import report_latents
from difflm_jobs.stages.prepare import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.records.files.reading import ReadConfig
    from difflm_evaluators.evaluation import EvaluationConfig, RealSplits
    from difflm_evaluators.report.report import Report
    from difflm_evaluators.scores.projection import Latents
    from difflm_evaluators.scores.validity import SynthesisAccount
    from difflm_evaluators.texts.language import LanguageConfig
    from difflm_evaluators.texts.text_scores import CopiesConfig
    from difflm_jobs.config import EvaluationSettings, PublishedConfig


ACCOUNT = "account.json"
SHARDS = "shards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Writes report.json, report.md, report.html and pictures/, with the curves and times of all stages before.

    `maps` says whether the models are compact, so that rows have latents to map. `shown` are the settings that the
    report shows; `runtime`, the environment and the times in it are those of the run that wrote it. `against` is
    another prepared table, whose splits are the real ones: where training rows are partly synthetic. `private` says
    that what is prepared are no real rows.
    """

    title: str
    kind: Kind
    evaluation: EvaluationConfig
    copies: CopiesConfig
    language: LanguageConfig
    maps: bool
    published: tuple[PublishedConfig, ...]
    shown: Mapping[str, JSON]
    against: Artifact | None = field(default=None, metadata=apart())
    private: bool = field(default=False, metadata=apart())
    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 13
    output: ClassVar[str] = REPORT_KIND

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the stages that it reads; with differential privacy the real rows are apart from what is prepared."""
        stages = ("prepare", "fit-decoder", "train-autoencoder", "encode", "train-diffusion", "assemble", "synthesize")
        return (ROWS, *stages) if self.private else stages

    def sources(self) -> Mapping[str, str]:
        against = {} if self.against is None else {"real": self.against.identity}
        return against if record_kind(self.kind).tabular else {**against, **language_sources(self.language)}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.records.kinds.columns import conform_table
        from difflm.records.protection.masking import masked
        from difflm_evaluators.evaluation import RealSplits
        from difflm_evaluators.report.layout import PublishedScore, ReportContext
        from difflm_evaluators.report.report import write_report

        context.report(0, None, "reading tables")
        prepared = context.input("prepare") if self.against is None else self.against.path
        schema = read_schema(prepared)
        folder = context.input(ROWS) if self.private and self.against is None else prepared
        paths = {name: folder / f"{name}.parquet" for name in SPLITS}
        real = {name: _parquet(path) for name, path in paths.items() if path.is_file()}
        told = {name: masked(conform_table(part, schema), schema, private=self.private) for name, part in real.items()}
        splits = RealSplits(**told)

        def progress(part: str, done: int, total: int) -> None:
            context.report(done, total, part)

        synthetic = _parquet(context.input("synthesize") / SHARDS)
        scoring = Scoring(
            evaluation=self.evaluation,
            copies=self.copies,
            language=self.language,
            scorer=None if record_kind(self.kind).tabular else text_scorer(self.language, self.shown),
            account=_account(context.input("synthesize") / ACCOUNT),
            latents=self._latents(context, synthetic, schema),
            progress=progress,
        )
        report = record_kind(self.kind).evaluate(synthetic, splits, schema, scoring)
        about = ReportContext(
            title=self.title,
            settings={
                **self.shown,
                "runtime": context.runtime.model_dump(mode="json"),
                "chosen_precision": _precisions(context.inputs),
                **promised_in(context.input("fit-decoder")),
            },
            environment=describe_environment(),
            loss_curves=_curves(context.inputs),
            timings={name: artifact.manifest.seconds for name, artifact in context.inputs.items()},
            published=[PublishedScore(**row.model_dump()) for row in self.published],
        )
        write_report(report, context.output, context=about)
        return StageOutcome(facts={HEADLINES: list[JSON](headlines(report))})

    def _latents(self, context: StageContext, synthetic: pa.Table, schema: RecordSchema) -> Latents | None:
        """Encode rows of both tables where a map is wanted, and where the real rows are those that were trained on."""
        wanted = self.evaluation.projection
        if wanted is None or not self.maps or self.private or self.against is not None:
            return None
        folders = {name: artifact.path for name, artifact in context.inputs.items()}
        return report_latents(wanted, folders, synthetic, schema)


def evaluate_files(
    records: Path | str,
    *,
    train: Path | str,
    test: Path | str | None,
    target: str | None,
    out: Path,
    judge: Path | None = None,
    overrides: Sequence[str],
    kind: Kind = "table",
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Score records in any readable file or table of a database; the schema of a table is that of ``train``, and the
    report goes to ``out``.

    ``judge`` is a folder that `difflm judge` wrote, whose scores the report shows as well; ``tell`` gets a line for
    everything that is not taken as the files have it.

    Raises:
        DataError: a file is missing or does not have the columns of the training table, or there is no judge's report.
        ConfigError: an override is no key of the settings, records other than tables are given a target, or ``out``
            has a report of something else.
    """
    from difflm_evaluators.judge.report import read_judgement
    from difflm_evaluators.report.layout import ReportContext
    from difflm_evaluators.report.report import write_report
    from difflm_jobs.config import EvaluationSettings

    refuse_others(out, "report")  # before any work
    settings = validate(EvaluationSettings, apply_overrides({}, overrides), "--set", overrides)
    judged = read_judgement(judge) if judge is not None else None
    about = ReportContext(
        title=f"{shown_source(records)} against {shown_source(train)}", environment=describe_environment(), judge=judged
    )
    files = _Files(records=records, train=train, test=test)
    what = record_kind(kind)
    if what.tabular:
        report = _evaluate_table_files(files, target, settings, tell)
    else:
        if target is not None:
            raise ConfigError(f"--target {target}: records of {kind} have none; leave it out, or give --kind table")
        made, splits = files.read(kind, settings.data.read, tell)
        scoring = Scoring(
            evaluation=settings.evaluation,
            copies=settings.copies,
            language=settings.language,
            scorer=text_scorer(settings.language),
        )
        report = what.evaluate(made, splits, None, scoring)
    write_report(report, out, context=about)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files of an evaluation; `test` may be missing."""

    records: Path | str
    train: Path | str
    test: Path | str | None

    def read(self, kind: Kind, read: ReadConfig, tell: Callable[[str], None]) -> tuple[pa.Table, RealSplits]:
        """Read the records, and the real splits."""
        from difflm_evaluators.evaluation import RealSplits

        def load(path: Path | str) -> pa.Table:
            def report(notice: Notice) -> None:
                if notice.code in _TOLD:
                    tell(
                        f"{shown_source(path)}: "
                        + (f"column {notice.column!r}: " if notice.column else "")
                        + notice.message
                    )

            return read_records(path, kind, read, report)

        made, train = load(self.records), load(self.train)
        return made, RealSplits(train=train, test=None if self.test is None else load(self.test))


_TOLD = ("renamed", "not_finite", "unreadable", "mixed", "nested", "delimiter", "no_api")
"""Kinds of notices of reading that change what is scored."""


def _evaluate_table_files(
    files: _Files, target: str | None, settings: EvaluationSettings, tell: Callable[[str], None]
) -> Report:
    from difflm_evaluators.api import NamedTable, evaluate_named

    made, real = files.read("table", settings.data.read, tell)
    test = None if real.test is None else NamedTable(name=shown_source(files.test), table=real.test)
    try:
        return evaluate_named(
            NamedTable(name=shown_source(files.records), table=made),
            NamedTable(name=shown_source(files.train), table=real.train),
            test,
            target=target,
            inference=settings.schema_,
            config=settings.evaluation,
            tell=tell,
        )
    except DataError as error:
        options = {"drop_all_missing": "--set schema.drop_all_missing=true", "as the target": "--target"}
        option = next((option for words, option in options.items() if words in str(error)), None)
        raise type(error)(f"{error} ({option})" if option else str(error)) from error


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _account(path: Path) -> SynthesisAccount:
    from difflm_evaluators.scores.validity import SynthesisAccount

    data: Mapping[str, Any] = json.loads(path.read_bytes())
    return SynthesisAccount(**{key: data[key] for key in ("rows_asked", "rows_emitted", "attempts", "rejections")})


def _curves(inputs: Mapping[str, Artifact]) -> dict[str, list[dict[str, JSON]]]:
    events = {name: read_events(artifact.path / EVENTS) for name, artifact in inputs.items()}
    return {
        name: [event for event in curve if event.get("loss") is not None] for name, curve in events.items() if curve
    }


def _precisions(inputs: Mapping[str, Artifact]) -> dict[str, JSON]:
    """Return what every stage computed in, which a setting of `auto` leaves to the processor."""
    facts = {name: artifact.manifest.facts for name, artifact in inputs.items()}
    return {name: some["precision"] for name, some in facts.items() if some.get("precision") is not None}


def headlines(report: Report) -> list[dict[str, Any]]:
    keys = [
        *("name", "title", "value", "undefined_because", "unit", "direction"),
        *("ideal", "standard_error", "baseline", "warning"),
    ]
    return [{key: asdict(score)[key] for key in keys} for score in report.scores]
