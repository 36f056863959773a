"""The noise floor: what every score says of real rows that no training saw, for each of the five tables.

    PYTHONPATH=platform:evaluators python tests/benchmarks/noise_floor.py [TABLE ...] > noise_floor.json

The validation split stands in for the synthetic table ("validation"), and the test split is what scores give as their
baseline ("test"; for usefulness that of the model taught by the training split). No generator can be expected to do
better than real rows of the same number: what is left is sampling noise, which grows as the rows get fewer. The
usefulness of the validation split is that of its few rows.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.splits import GivenSplit, HashSplit, Splits, split_table
from difflm.telemetry import JSON
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.scores.utility import UtilityConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One public table: its file, target, columns that only number the rows, and its own test file if it has one."""

    path: str
    target: str
    numbering: tuple[str, ...] = ()
    test_path: str | None = None
    strip_suffix: Mapping[str, str] = field(default_factory=dict)
    utility: UtilityConfig = field(default_factory=UtilityConfig)


SOURCES: Mapping[str, Source] = {
    "adult": Source(
        path="adult/train.csv.gz",
        target="income",
        test_path="adult/test.csv.gz",
        strip_suffix={"income": "."},
    ),
    "beijing": Source(
        path="beijing/PRSA_data_2010.1.1-2014.12.31.csv.gz",
        target="pm2.5",
        numbering=("No",),
        utility=UtilityConfig(regression_transform="log_clip"),
    ),
    "default": Source(path="default/UCI_Credit_Card.csv.gz", target="default.payment.next.month", numbering=("ID",)),
    "magic": Source(path="magic/magic04.csv.gz", target="class"),
    "shoppers": Source(path="shoppers/online_shoppers_intention.csv.gz", target="Revenue"),
}


def load(source: Source, data: Path) -> Splits:
    """The splits of one table: its own test file, or 80 / 10 / 10."""
    config = ReadConfig(drop=source.numbering, strip_suffix=dict(source.strip_suffix))
    table = read_table(data / source.path, config)
    if source.test_path is None:
        return split_table(table, HashSplit(), target=source.target)
    test = read_table(data / source.test_path, config)
    return split_table(table, GivenSplit(), target=source.target, test=test)


def noise_floor(source: Source, data: Path) -> dict[str, JSON]:
    """Every score of both real splits that the training split does not hold."""
    started = time.perf_counter()
    splits = load(source, data)
    schema = infer_schema(splits.train, target=source.target)
    train, validation, test = (conform_table(part, schema) for part in (splits.train, splits.validation, splits.test))
    real = RealSplits(train=train, test=test)  # the validation split cannot be the reference of an attack on itself
    report = evaluate_table(validation, real, schema, EvaluationConfig(utility=source.utility))
    scores: dict[str, JSON] = {
        score.name: {"validation": score.value, "standard_error": score.standard_error, "test": score.baseline}
        for score in report.scores
    }
    seconds = {**report.seconds, "all": round(time.perf_counter() - started, 1)}
    return {"rows": {**report.rows, "validation": validation.num_rows}, "scores": scores, "seconds": seconds}


def main(names: Sequence[str]) -> None:
    """Print one JSON object: per table its rows, scores and seconds."""
    data = Path(os.environ.get("DIFFLM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    results = {name: noise_floor(SOURCES[name], data) for name in names or SOURCES}
    print(json.dumps(results, indent=2, allow_nan=False))


if __name__ == "__main__":
    main(sys.argv[1:])
