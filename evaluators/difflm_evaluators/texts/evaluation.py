"""Evaluation of code and of tools: their scores in a report like that of a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

import pyarrow as pa

from difflm.errors import DataError
from difflm.records.tool_codec import KEYS
from difflm_evaluators.base import Evaluation
from difflm_evaluators.evaluation import RealSplits
from difflm_evaluators.report.report import Report
from difflm_evaluators.scores.validity import SynthesisAccount, draws_score
from difflm_evaluators.texts.language import LanguageConfig, TextScorer
from difflm_evaluators.texts.source_code import evaluate_source_code
from difflm_evaluators.texts.text_scores import CopiesConfig
from difflm_evaluators.texts.tools import evaluate_tools, read_record

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScoring:
    """How texts are scored: copies, language, the model that measures fluency, and the account of the synthesis."""

    copies: CopiesConfig = field(default_factory=CopiesConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    scorer: TextScorer | None = None
    account: SynthesisAccount | None = None


def evaluate_code_table(synthetic: pa.Table, splits: RealSplits, scoring: TextScoring) -> Report:
    """Score the column `code` of tables; DataError for one without rows."""
    return _evaluated(_texts, evaluate_source_code, synthetic, splits, scoring)


def evaluate_tool_table(synthetic: pa.Table, splits: RealSplits, scoring: TextScoring) -> Report:
    """Score tables of tool records, `parameters` as their text; DataError for one without rows."""
    return _evaluated(_records, evaluate_tools, synthetic, splits, scoring)


def _evaluated(
    read: Callable[[pa.Table | None], list[Record]],
    score: Callable[..., Sequence[Evaluation]],
    synthetic: pa.Table,
    splits: RealSplits,
    scoring: TextScoring,
) -> Report:
    started = time.perf_counter()
    records, train, test = (read(table) for table in (synthetic, splits.train, splits.test))
    _need_rows(len(records), len(train))
    evaluations = score(records, train, test or None, scoring.copies, language=scoring.language, scorer=scoring.scorer)
    return _report(evaluations, synthetic, splits, scoring, time.perf_counter() - started)


def _texts(table: pa.Table | None) -> list[str]:
    return [] if table is None else [text or "" for text in table.column("code").to_pylist()]


def _records(table: pa.Table | None) -> list[dict[str, object]]:
    if table is None:
        return []
    rows = table.select(list(KEYS)).to_pylist()
    return [read_record(row, f"record {place}") for place, row in enumerate(rows, start=1)]


def _need_rows(synthetic: int, train: int) -> None:
    if not synthetic or not train:
        raise DataError(f"{synthetic} synthetic and {train} training records; at least one of each is needed")


def _digest(table: pa.Table | None) -> str | None:
    """Digest the records, whatever their order."""
    if table is None:
        return None
    records = sorted(json.dumps(row, sort_keys=True, default=str) for row in table.to_pylist())
    return blake2b("\n".join(records).encode(), digest_size=16).hexdigest()


def _report(
    evaluations: Sequence[Evaluation],
    synthetic: pa.Table,
    splits: RealSplits,
    scoring: TextScoring,
    seconds: float,
) -> Report:
    tables = {"train": splits.train, "validation": splits.validation, "test": splits.test, "synthetic": synthetic}
    draws = [] if scoring.account is None else [Evaluation(name="draws", scores=(draws_score(scoring.account),))]
    return Report(
        evaluations=(*evaluations, *draws),
        rows={name: table.num_rows if table is not None else 0 for name, table in tables.items()},
        real={
            name: None if tables[name] is None else _digest(tables[name]) for name in ("train", "validation", "test")
        },
        columns={},
        target=None,
        task=None,
        config={**scoring.copies.model_dump(mode="json"), "language": scoring.language.model_dump(mode="json")},
        seconds={"records": round(seconds, 3)},
    )
