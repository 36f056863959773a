"""How good filled-in cells are: `difflm impute` beside simple fillings and beside gradient boosting per column.

    python tests/benchmarks/imputation.py BUNDLE TABLE --rows 2000 --draws 10

BUNDLE has a conditional prior (conditions.enabled=true), TABLE is the prepared table's artifact of the same run. One
cell in five of test rows is emptied at random. Every filling answers two questions:

- draws, one value per cell, meant to be distributed as the true values are: the first of DRAWS imputations, beside
  values of random training rows, and beside values drawn from boosting's class probabilities (categories only);
- guesses, one best value per cell: the commonest of the imputations (numbers: their median), beside the training
  split's mode or median, and beside boosting's best guess.

Boosting (XGBoost, 100 trees a column, trained for this one column on training rows with one cell in five emptied) is
the strong opponent: one model for every column, while the bundle is one model for all of them and gives whole rows.

Accuracy is of categories and booleans. Error is of numbers: mean absolute error over the training split's standard
deviation. Both are means over columns. Shape error compares filled-in with true cells, column by column (percent).
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import typer
import xgboost as xgb
from provenance import provenance

from difflm.records.schema import RecordSchema
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.training.record_data import read_split
from difflm_evaluators.columns.columns import Columns, category_codes, read_columns

RESULTS = Path(__file__).parent / "results" / "imputation.json"
EMPTIED = 0.2
SEED = 7
TREES = 100
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle with a conditional prior")],
    table: Annotated[Path, typer.Argument(help="the prepared table that it was trained on")],
    rows: Annotated[int, typer.Option(help="test rows")] = 2000,
    draws: Annotated[int, typer.Option(help="imputations of each row")] = 10,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS,
) -> None:
    """Empty cells, fill them in again in every way, and write the record."""
    config = SamplingConfig()
    loaded = load_bundle(bundle, solver=config.solver_settings, precision=config.dtype())
    schema = loaded.schema
    train, test = (read_split(table, split, schema) for split in ("train", "test"))
    test = test.slice(0, rows)
    random = np.random.default_rng(SEED)
    emptied_CN = {name: random.random(len(test)) < EMPTIED for name in schema.names}
    gaps = pa.table({name: emptied(test.column(name), emptied_CN[name]) for name in schema.names})
    started = time.perf_counter()
    plan = DrawPlans(loaded, text_tokens=config.text_tokens).imputed(gaps)
    records, _ = Synthesizer(loaded, config, plan=plan).draw_valid(range(draws * len(test)), seed=SEED)
    filled = loaded.codec.table_of(record for _, record in records)
    seconds = time.perf_counter() - started
    assert len(filled) == draws * len(test)
    matrices = as_matrices([train, test, filled], schema)
    sides = compare(matrices, emptied_CN, schema, draws)
    record: dict[str, Any] = {
        "command": f"python tests/benchmarks/imputation.py BUNDLE TABLE --rows {rows} --draws {draws}",
        **provenance(),
        "rows": len(test),
        "draws": draws,
        "cells_emptied": int(sum(mask_N.sum() for mask_N in emptied_CN.values())),
        "rows_per_second": round(len(filled) / seconds, 1),
        **sides,
    }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key != "columns"}, indent=2))


def emptied(column: pa.ChunkedArray, mask_N: BoolArray) -> pa.Array:
    """A column without the masked cells."""
    values = column.combine_chunks()
    return pa.array(
        [None if gone else value for value, gone in zip(values.to_pylist(), mask_N, strict=True)], column.type
    )


def as_matrices(tables: list[pa.Table], schema: RecordSchema) -> list[dict[str, FloatArray]]:
    """Every column as numbers: categories by code (missing is one), numbers as they are."""
    read: list[Columns] = [read_columns(table, schema, "table") for table in tables]
    matrices: list[dict[str, FloatArray]] = [{} for _ in tables]
    for name in schema.names:
        columns = [columns[name] for columns in read]
        if columns[0].kind == "category":
            parts = [codes.astype(np.float64) for codes in category_codes(*columns)[1]]
        else:
            parts = [column.numbers_N for column in columns]
        for matrix, part in zip(matrices, parts, strict=True):
            matrix[name] = part
    return matrices


def compare(
    matrices: list[dict[str, FloatArray]], emptied_CN: dict[str, BoolArray], schema: RecordSchema, draws: int
) -> dict[str, Any]:
    """Every filling of every column, and means over columns."""
    train, test, filled = matrices
    kinds = {field.name: field.kind for field in schema.fields}
    gone = np.random.default_rng(SEED + 1)
    train_gaps = {name: np.where(gone.random(len(v)) < EMPTIED, np.nan, v) for name, v in train.items()}
    test_gaps = {name: np.where(emptied_CN[name], np.nan, values) for name, values in test.items()}
    columns: dict[str, dict[str, Any]] = {}
    for name in schema.names:
        mask_N, categorical = emptied_CN[name], kinds[name] in ("categorical", "boolean")
        truth_M = test[name][mask_N]
        drawn_DM = filled[name].reshape(draws, -1)[:, mask_N]
        train_N = train[name]
        others = [other for other in schema.names if other != name]
        features = [
            np.stack([table[other] for other in others], axis=1)[rows]
            for table, rows in ((train_gaps, slice(None)), (test_gaps, mask_N))
        ]
        guess_M, sampled_M = boosted(features[0], train_N, features[1], categorical=categorical)
        donors_M = np.random.default_rng(SEED).choice(train_N, len(truth_M))
        common = most_common(train_N[None].T)[0] if categorical else np.nanmedian(train_N)
        fillings = {
            "draw, difflm": drawn_DM[0],
            "draw, random rows": donors_M,
            "draw, boosting": sampled_M,
            "guess, difflm": most_common(drawn_DM) if categorical else np.nanmedian(drawn_DM, axis=0),
            "guess, mode or median": np.full(len(truth_M), common),
            "guess, boosting": guess_M,
        }
        scale = float(np.nanstd(train_N))
        columns[name] = {
            "kind": kinds[name],
            "cells": len(truth_M),
            **{
                side: scores(truth_M, values_M, scale=None if categorical else scale)
                for side, values_M in fillings.items()
                if values_M is not None
            },
        }
        print(name, columns[name], flush=True)
    return {"means": means(columns), "columns": columns}


def most_common(values_DM: FloatArray) -> FloatArray:
    """The commonest value of each column of a matrix."""
    found = [np.unique(column, return_counts=True) for column in values_DM.T]
    return np.array([values[counts.argmax()] for values, counts in found])


def boosted(
    train_ND: FloatArray, target_N: FloatArray, rows_MD: FloatArray, *, categorical: bool
) -> tuple[FloatArray, FloatArray | None]:
    """XGBoost's best guess for each row, and for categories a draw from its probabilities."""
    known_N = ~np.isnan(target_N)
    if not categorical:
        model = xgb.XGBRegressor(n_estimators=TREES, objective="reg:absoluteerror", tree_method="hist", n_jobs=2)
        return model.fit(train_ND[known_N], target_N[known_N]).predict(rows_MD).astype(np.float64), None
    classes_K, codes_N = np.unique(target_N, return_inverse=True)
    model = xgb.XGBClassifier(n_estimators=TREES, tree_method="hist", n_jobs=2)
    shares_MK = model.fit(train_ND, codes_N).predict_proba(rows_MD)
    places_M = np.random.default_rng(SEED).random((len(rows_MD), 1)) > np.cumsum(shares_MK, axis=1)
    drawn_M = classes_K[np.minimum(places_M.sum(axis=1), len(classes_K) - 1)]
    return classes_K[shares_MK.argmax(axis=1)], drawn_M


def scores(truth_M: FloatArray, values_M: FloatArray, *, scale: float | None) -> dict[str, float]:
    """Accuracy, or error over `scale`; and how far the values are distributed from the true ones."""
    both_M = ~(np.isnan(truth_M) | np.isnan(values_M))
    truth_M, values_M = truth_M[both_M], values_M[both_M]
    places = np.unique(np.concatenate([truth_M, values_M]))
    if scale is None:
        shares = [np.array([(side == place).mean() for place in places]) for side in (truth_M, values_M)]
        shape = np.abs(shares[0] - shares[1]).sum() / 2
        return {"accuracy": round(float((truth_M == values_M).mean()), 4), "shape_error": round(100 * float(shape), 2)}
    ranks = [np.searchsorted(np.sort(side), places, side="right") / len(side) for side in (truth_M, values_M)]
    return {
        "error": round(float(np.abs(truth_M - values_M).mean()) / scale, 4),
        "shape_error": round(100 * float(np.abs(ranks[0] - ranks[1]).max()), 2),
    }


def means(columns: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each figure of each filling, averaged over the columns that have it."""
    found: dict[str, dict[str, list[float]]] = {}
    for column in columns.values():
        for side, figures in column.items():
            for figure, value in figures.items() if isinstance(figures, dict) else ():
                found.setdefault(side, {}).setdefault(figure, []).append(value)
    return {side: {k: round(float(np.mean(v)), 4) for k, v in figures.items()} for side, figures in found.items()}


if __name__ == "__main__":
    typer.run(main)
