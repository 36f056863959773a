"""The ruler's check: published generators (library `ctgan`) trained on a public table and scored by our evaluators.

    pip install -c constraints.txt -e '.[bench]'
    PYTHONPATH=platform:evaluators python tests/benchmarks/ruler.py [--table adult] [--epochs 300] [--most-minutes M]

If the evaluators measure what papers measure, TVAE and CTGAN land near their published figures, which the record holds
beside ours with their sources. Both are trained with the library's own settings (300 epochs) on the training split of
the table's preset, and give as many rows as they were taught. Missing categories are a category of their own while they
train, as in the data that papers used; rows with a missing number are left out of training, and counted.
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import torch
import typer
from ctgan import CTGAN, TVAE
from noise_floor import SOURCES, load
from provenance import provenance

from difflm.config import load_yaml
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.columns import kind_of
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).with_name("results") / "ruler.json"
MODELS = {"TVAE": TVAE, "CTGAN": CTGAN}
MISSING = "?"
TRIED = 5  # epochs; what comes before them is counted too, so that time is rather over- than underestimated


def training_frame(train: pa.Table, schema: RecordSchema) -> tuple[pd.DataFrame, list[str]]:
    """The rows without missing numbers as a frame, and the names of its categorical columns."""
    frame = train.to_pandas()
    numeric = [field.name for field in schema.fields if kind_of(field.kind) == "numeric"]
    categories = [name for name in frame.columns if name not in numeric]
    frame[categories] = frame[categories].astype(object).where(frame[categories].notna(), MISSING).astype(str)
    return frame.dropna(subset=numeric).reset_index(drop=True), categories


def table_of(frame: pd.DataFrame, train: pa.Table, categories: list[str]) -> pa.Table:
    """Drawn rows as a table with the training table's types; what stood for a missing category is missing again."""
    frame = frame[train.column_names].copy()
    frame[categories] = frame[categories].astype(object).where(frame[categories] != MISSING, None)
    columns = {}
    for field in train.schema:
        values = frame[field.name]
        if pa.types.is_boolean(field.type):
            values = values.map({"True": True, "False": False, None: None})
        elif pa.types.is_integer(field.type) and field.name not in categories:
            values = values.round()
        columns[field.name] = pa.array(values, type=field.type, from_pandas=True, safe=False)
    return pa.table(columns)


def fit(name: str, frame: pd.DataFrame, categories: list[str], epochs: int, seed: int) -> tuple[Any, float]:
    """A fitted model and the seconds it took."""
    model = MODELS[name](epochs=epochs, enable_gpu=False)
    model.set_random_state(seed)
    started = time.perf_counter()
    model.fit(frame, categories)
    return model, time.perf_counter() - started


def affordable(name: str, frame: pd.DataFrame, categories: list[str], epochs: int, max_minutes: float | None) -> int:
    """At most `epochs`, fewer where a trial of a few says that these would take longer than `max_minutes`."""
    if max_minutes is None:
        return epochs
    _, seconds = fit(name, frame, categories, TRIED, 0)
    return max(1, min(epochs, int(60 * max_minutes / (seconds / TRIED))))


def published(table: str, method: str) -> list[dict[str, Any]]:
    """The preset's published figures of a method."""
    rows = load_yaml(ROOT / "jobs" / "difflm_jobs" / "presets" / f"{table}.yaml")["published"]
    return [row for row in rows if row["method"] == method]


def measured(out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The models of a record that were measured with these options; each can be measured on its own."""
    models = json.loads(out.read_text())["models"] if out.exists() else {}
    return {name: model for name, model in models.items() if model["options"] == options}


def main(
    table: Annotated[str, typer.Option(help="One of the five public tables.")] = "adult",
    epochs: Annotated[int, typer.Option(help="300 is the library's default, and what papers used.")] = 300,
    max_minutes: Annotated[float | None, typer.Option(help="Of training, for each model.")] = None,
    models: Annotated[str, typer.Option(help="Names with commas.")] = ",".join(MODELS),
    rows: Annotated[int | None, typer.Option(help="Train on so many rows only, to try the script.")] = None,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="The record.")] = RESULT,
) -> None:
    """Train, draw, score, and write the record."""
    data = Path(os.environ.get("DIFFLM_DATA", ROOT.parent / "shared" / "data"))
    source = SOURCES[table]
    splits = load(source, data)
    schema = infer_schema(splits.train, target=source.target)
    train, validation, test = (conform_table(part, schema) for part in (splits.train, splits.validation, splits.test))
    frame, categories = training_frame(train.slice(0, rows), schema)
    options = {"table": table, "epochs": epochs, "max_minutes": max_minutes, "rows": rows, "seed": seed}
    made = {**provenance(), "torch": torch.__version__, "options": options}
    record: dict[str, Any] = {
        "rows_left_out": train.slice(0, rows).num_rows - len(frame),
        "models": measured(out, options),
    }
    for name in models.split(","):
        taken = affordable(name, frame, categories, epochs, max_minutes)
        model, seconds = fit(name, frame, categories, taken, seed)
        drawn = table_of(model.sample(len(frame)), train, categories)
        real = RealSplits(train=train, validation=validation, test=test)
        report = evaluate_table(drawn, real, schema, EvaluationConfig(utility=source.utility, projection=None))
        record["models"][name] = {
            **made,
            "epochs": taken,
            "training_seconds": round(seconds, 1),
            "seconds_an_epoch": round(seconds / taken, 2),
            "rows": dict(report.rows),
            "scores": {
                score.name: {
                    "value": score.value,
                    "standard_error": score.standard_error,
                    "real_data": score.baseline,
                    "undefined_because": score.undefined_because,
                }
                for score in report.scores
            },
            "published": published(table, name),
        }
        out.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        print(f"{name}: {taken} epochs, {seconds:,.1f} s; {out}")


if __name__ == "__main__":
    typer.run(main)
