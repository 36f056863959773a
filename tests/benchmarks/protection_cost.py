"""What protection alone costs: protected training rows in the place of synthetic ones, and no generator at all.

    python tests/benchmarks/protection_cost.py [--table adult ...] [--taught 6000]
    python tests/benchmarks/protection_cost.py --fitted fast [--table adult ...] [--runs FOLDER]

Every table is prepared as `difflm run` does it. The rows that a model would learn, in which rare values are others and
ends are cut, are scored as if a generator had made them: a perfect one of protected rows. Shape and trend are of all
rows, against the training rows as they are (0 without protection). Usefulness is XGBoost taught by the protected rows
beside the same taught by the same rows unprotected, both scored on the test split; --taught rows are drawn for it.

--fitted also fits every table twice, with protection and without, in this process and with that --quality, and scores
as many rows of both as were learned, or --times as many: what chance does to shape and trend is less then. Two fits of
the same settings differ by some tenths of a point as well.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from provenance import provenance

import difflm
from difflm.records.kinds.columns import conform_table
from difflm.records.schema import read_schema
from difflm.records.splits import prepared_file
from difflm_evaluators.columns.columns import Columns, read_columns, take_rows
from difflm_evaluators.columns.row_keys import printed_columns
from difflm_evaluators.scores.marginals import evaluate_marginals
from difflm_evaluators.scores.pairs import evaluate_pairs
from difflm_evaluators.scores.utility import UtilityConfig, evaluate_utility
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.stage import StageContext
from difflm_jobs.stages.stages import build_stages, this_process

RESULT = Path(__file__).parent / "results" / "protection_cost.json"
TABLES = ("adult", "shoppers", "magic", "default", "beijing")


def main(
    table: Annotated[list[str] | None, typer.Option(help="presets; by default the five")] = None,
    taught: Annotated[int, typer.Option(help="rows that XGBoost learns from")] = 6000,
    fitted: Annotated[str | None, typer.Option(help="fit each table twice, with this quality")] = None,
    times: Annotated[int, typer.Option(help="rows of the fits that are scored, over those learned")] = 1,
    runs: Annotated[Path, typer.Option(help="folder of the fits")] = Path("runs/protection"),
    out: Annotated[Path, typer.Option(help="where the record goes; what it has of other tables stays")] = RESULT,
) -> None:
    """Measure every table and write the record after each."""
    record: dict[str, Any] = {"command": " ".join(sys.argv), **provenance(), "tables": {}}
    record["tables"] = json.loads(out.read_text())["tables"] if out.is_file() else {}
    for name in table or TABLES:
        found = {**record["tables"].get(name, {}), **cost(name, taught), "taught": taught}
        if fitted is not None:
            scored = None if times == 1 else times * found["rows"]
            found["fitted"] = {"quality": fitted, "times": times, **cost_of_fits(name, fitted, runs, scored)}
        record["tables"][name] = found
        print(name, json.dumps(found), flush=True)
        out.write_text(json.dumps(record, indent=1) + "\n")


def cost(name: str, taught: int) -> dict[str, Any]:
    """Prepare a table and score its protected rows."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        prepare(name, output)
        schema = read_schema(output)
        paths = (prepared_file(output, "train"), output / "train.parquet", output / "test.parquet")
        protected, real, test = (
            printed_columns(read_columns(conform_table(pq.read_table(path), schema), schema, path.stem), schema)
            for path in paths
        )
    rows = len(next(iter(real.values())))
    shape = evaluate_marginals(protected, real, test).score("shape_error")
    trend = evaluate_pairs(protected, real, test).score("trend_error")
    kept = np.sort(np.random.default_rng(0).permutation(rows)[:taught])
    both = [take_rows(columns, kept) for columns in (protected, real)]
    useful = evaluate_utility(both[0], both[1], test, schema, UtilityConfig(seeds=(0,), threads=1)).scores[0]
    assert useful.value is not None
    assert useful.baseline is not None
    lost = (useful.baseline - useful.value) / useful.baseline
    return {
        "rows": rows,
        "rows_changed": round(float(changed(protected, real)), 4),
        "shape_points": shape.value,
        "trend_points": trend.value,
        "score": useful.name,
        "protected": useful.value,
        "unprotected": useful.baseline,
        "lost_percent": 100 * (lost if useful.name == "mle_auc" else -lost),
    }


def cost_of_fits(name: str, quality: str, runs: Path, rows: int | None) -> dict[str, Any]:
    """Fit a table with protection and without, and score rows of both: as many as were learned by default."""
    skipped = dict.fromkeys(["detection", "fidelity", "membership", "projection", "attacks"])
    scores = {}
    for protect in ("on", "off"):
        config = {"protect": protect, "rows": rows, "evaluation": {**skipped, "utility": {"seeds": [0], "threads": 1}}}
        report = difflm.fit(name, config=config, out=runs / f"{name}-{protect}", quality=quality).report
        scores[protect] = {score.name: score.value for score in report.scores}
    useful = next(score for score in ("mle_auc", "mle_rmse") if score in scores["on"])
    on, off = scores["on"], scores["off"]
    better = 1 if useful == "mle_auc" else -1
    return {
        protect: {score: scores[protect][score] for score in ("shape_error", "trend_error", useful)}
        for protect in scores
    } | {
        "shape_points": on["shape_error"] - off["shape_error"],
        "trend_points": on["trend_error"] - off["trend_error"],
        "lost_percent": 100 * better * (off[useful] - on[useful]) / off[useful],
    }


def prepare(name: str, output: Path) -> None:
    """Write the prepared table of a preset."""
    experiment = load_experiment(name)
    with this_process() as compute:
        build_stages(experiment)[0].run(
            StageContext(
                inputs={},
                output=output,
                work=output / "work",
                report=lambda done, total, text: None,
                runtime=experiment.runtime,
                start_cluster=lambda: compute,
            )
        )


def changed(protected: Columns, real: Columns) -> float:
    """Return the share of rows of which protection changed a value."""
    different_N = np.zeros(len(next(iter(real.values()))), dtype=np.bool_)
    for name, column in real.items():
        other = protected[name]
        if column.kind == "numeric":
            different_N |= ~np.isclose(column.numbers_N, other.numbers_N, equal_nan=True)
        else:
            different_N |= np.array(list(column.labels_N), dtype=object) != np.array(list(other.labels_N), dtype=object)
    return float(different_N.mean())


if __name__ == "__main__":
    typer.run(main)
