"""The evaluation of one synthetic table: every score, against the real splits, in one report."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from difflm.errors import DataError
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import Columns, read_columns
from difflm_evaluators.columns.row_keys import printed_columns, table_digest
from difflm_evaluators.privacy.attacks import AttacksConfig, evaluate_attacks
from difflm_evaluators.privacy.membership import MembershipConfig, evaluate_membership
from difflm_evaluators.privacy.privacy import PrivacyConfig, evaluate_nearest, evaluate_privacy
from difflm_evaluators.report.report import Report
from difflm_evaluators.scores.breakdown import evaluate_associations, evaluate_breakdown
from difflm_evaluators.scores.detection import DetectionConfig, evaluate_detection
from difflm_evaluators.scores.diversity import evaluate_diversity
from difflm_evaluators.scores.fidelity import FidelityConfig, evaluate_fidelity
from difflm_evaluators.scores.marginals import evaluate_marginals
from difflm_evaluators.scores.pairs import evaluate_pairs
from difflm_evaluators.scores.projection import Latents, ProjectionConfig, evaluate_projection
from difflm_evaluators.scores.utility import UtilityConfig, evaluate_utility
from difflm_evaluators.scores.validity import SynthesisAccount, evaluate_validity

Progress = Callable[[str, int, int], None]
Part = tuple[str, Callable[[Mapping[str, Evaluation]], Evaluation]]


class EvaluationConfig(BaseModel):
    """What to evaluate; a part set to None is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    detection: DetectionConfig | None = DetectionConfig()
    fidelity: FidelityConfig | None = FidelityConfig()
    utility: UtilityConfig | None = UtilityConfig()
    privacy: PrivacyConfig | None = PrivacyConfig()
    membership: MembershipConfig | None = MembershipConfig()
    attacks: AttacksConfig | None = AttacksConfig()
    projection: ProjectionConfig | None = ProjectionConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class RealSplits:
    """The real tables. Without a `test` split what needs unseen rows is undefined; `validation` is a reference only."""

    train: pa.Table
    test: pa.Table | None = None
    validation: pa.Table | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Real:
    """The real tables as the evaluators see them."""

    train: Columns
    test: Columns | None
    validation: Columns | None


def evaluate_table(
    synthetic: pa.Table,
    splits: RealSplits,
    schema: RecordSchema,
    config: EvaluationConfig,
    *,
    account: SynthesisAccount | None = None,
    latents: Latents | None = None,
    progress: Progress | None = None,
) -> Report:
    """Score `synthetic` against the real splits.

    Decimals are rounded to what their schema field prints in every table alike, so that digits nobody prints tell
    nothing apart; only whether rows fit the schema is asked of the synthetic values as they came. `latents` are the
    generator's, for the map of rows. `progress(name, done, total)` is called before each part and at the end.

    Raises:
        DataError: a table without rows, a column set that is not the schema's, or values that are not of the schema's
            kind; the message names the table and the column.
    """
    for role, table in (("synthetic", synthetic), ("real training", splits.train)):
        if table.num_rows == 0:
            raise DataError(f"{role} table has no rows; there is nothing to evaluate")
    given = read_columns(synthetic, schema, "synthetic")
    train = printed_columns(read_columns(splits.train, schema, "real training"), schema)
    test, validation = (
        printed_columns(read_columns(table, schema, f"real {name}"), schema)
        if table is not None and table.num_rows > 0
        else None
        for name, table in (("test", splits.test), ("validation", splits.validation))
    )
    printed = printed_columns(given, schema)
    parts: list[Part] = [
        ("validity", lambda _: evaluate_validity(given, test, schema, account)),
        *_parts(printed, _Real(train=train, test=test, validation=validation), schema, config),
        *_shown_rows((synthetic, splits.train), (printed, train), schema, config, latents),
    ]
    evaluations, seconds = _run(parts, progress)
    tables = {"train": splits.train, "validation": splits.validation, "test": splits.test, "synthetic": synthetic}
    return Report(
        evaluations=tuple(evaluations),
        rows={name: table.num_rows if table is not None else 0 for name, table in tables.items()},
        real={
            name: table_digest(columns, schema) if columns is not None else None
            for name, columns in (("train", train), ("validation", validation), ("test", test))
        },
        columns={field.name: field.kind for field in schema.fields},
        target=schema.target,
        task=schema.task,
        config=config.model_dump(mode="json"),
        seconds=seconds,
    )


def _parts(synthetic: Columns, real: _Real, schema: RecordSchema, config: EvaluationConfig) -> list[Part]:
    """List what to compute, in the order of the report; each part is given those before it."""
    train, test = real.train, real.test
    detection, fidelity, membership = config.detection, config.fidelity, config.membership
    utility, privacy, attacks = config.utility, config.privacy, config.attacks
    parts: list[Part] = [
        ("marginals", lambda _: evaluate_marginals(synthetic, train, test)),
        ("pairs", lambda _: evaluate_pairs(synthetic, train, test)),
        ("associations", lambda _: evaluate_associations(synthetic, train)),
        ("diversity", lambda _: evaluate_diversity(synthetic, train, test, schema)),
    ]
    if detection is not None:
        parts.append(("detection", lambda _: evaluate_detection(synthetic, train, test, detection)))
    if fidelity is not None:
        parts.append(("fidelity", lambda _: evaluate_fidelity(synthetic, train, test, fidelity)))
    if utility is not None:
        parts.append(("utility", lambda _: evaluate_utility(synthetic, train, test, schema, utility)))
    if privacy is not None:
        parts.append(("privacy", lambda _: evaluate_privacy(synthetic, train, test, schema, privacy)))
    if membership is not None:
        parts.append(("membership", lambda _: evaluate_membership(synthetic, train, test, real.validation, membership)))
    if attacks is not None:
        parts.append(("attacks", lambda _: evaluate_attacks(synthetic, train, test, attacks)))
    parts.append(("breakdown", lambda done: _breakdown(synthetic, train, done)))
    return parts


def _shown_rows(
    tables: tuple[pa.Table, pa.Table],
    columns: tuple[Columns, Columns],
    schema: RecordSchema,
    config: EvaluationConfig,
    latents: Latents | None,
) -> list[Part]:
    """List what shows rows and scores nothing; synthetic rows come first, then training rows."""
    privacy, projection = config.privacy, config.projection
    parts: list[Part] = []
    if privacy is not None and privacy.show_nearest:
        parts.append(("nearest", lambda _: evaluate_nearest(tables, columns, privacy)))
    if projection is not None:
        parts.append(("projection", lambda _: evaluate_projection(*columns, schema.target, latents, projection)))
    return parts


def _breakdown(synthetic: Columns, train: Columns, done: Mapping[str, Evaluation]) -> Evaluation:
    return evaluate_breakdown(synthetic, train, done["marginals"], done["pairs"], done.get("detection"))


def _run(parts: list[Part], progress: Progress | None) -> tuple[list[Evaluation], dict[str, float]]:
    evaluations: dict[str, Evaluation] = {}
    seconds: dict[str, float] = {}
    for done, (name, evaluate) in enumerate(parts):
        if progress is not None:
            progress(name, done, len(parts))
        started = time.perf_counter()
        evaluations[name] = evaluate(evaluations)
        seconds[name] = round(time.perf_counter() - started, 3)
    if progress is not None:
        progress("done", len(parts), len(parts))
    return list(evaluations.values()), seconds
