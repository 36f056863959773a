"""Streaming evaluators beside SDMetrics, and how the search for the closest record grows with the training rows.

    python tests/benchmarks/streaming.py --rows 1000000

shape and trend     the real and the synthetic table as Parquet; ours reads them in batches and is timed with reading,
                    SDMetrics' QualityReport gets data frames that are in memory already (thresholds 0, no
                    subsampling). Each side has a process of its own, pinned to one core; `peak_mib` is its largest
                    resident memory. Two cases: Adult's training split as the real table, and one as long as the
                    synthetic one.
dcr                 nearest and second nearest training row of every query, all processors; queries are rows of which
                    no training row need be a copy. `largest_difference` compares 200 of them with brute force.

The tables are Adult's training file resampled: the real one as it is, the synthetic one with older people more often
and a tenth of each column's cells shuffled, so that both errors are far from 0. Numbers of repeated rows are jittered.
"""

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from provenance import provenance

RESULT = Path(__file__).parent / "results" / "streaming.json"
BATCH_ROWS = 65_536
CHECKED = 200


def adult() -> pd.DataFrame:
    """Adult's training file as it is."""
    data = Path(os.environ.get("DIFFLM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    return pd.read_csv(data / "adult" / "train.csv.gz")


def resampled(frame: pd.DataFrame, rows: int, seed: int, *, tilt: float, shuffled: float) -> pd.DataFrame:
    """Rows drawn with weights exp(tilt * age), `shuffled` of each column's cells exchanged among themselves."""
    random = np.random.default_rng(seed)
    weights = np.exp(tilt * frame["age"].to_numpy())
    drawn = frame.iloc[random.choice(len(frame), rows, p=weights / weights.sum())].reset_index(drop=True)
    for name in drawn.columns:
        values = drawn[name].to_numpy().copy()
        moved = np.flatnonzero(random.random(rows) < shuffled)
        values[moved] = values[random.permutation(moved)]
        if name == "fnlwgt":  # the one column whose values hardly repeat
            values = values + random.integers(-500, 500, rows)
        drawn[name] = values
    return drawn


def pinned() -> None:
    """One core for this process and every library in it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def ours(real: Path, synthetic: Path) -> dict[str, Any]:
    """Shape and trend error by the streaming evaluators, batch by batch."""
    from difflm.records.kinds.inference import infer_schema
    from difflm_evaluators.columns.columns import read_columns
    from difflm_evaluators.columns.streaming import StreamingSuite
    from difflm_evaluators.scores.marginals import StreamingMarginals
    from difflm_evaluators.scores.pairs import StreamingPairs

    pinned()
    before = peak_mib()
    texts = [field.name for field in pq.read_schema(real) if pa.types.is_string(field.type)]
    schema = infer_schema(_head(real))
    started = time.perf_counter()
    train = read_columns(pq.read_table(real, read_dictionary=texts, use_threads=False), schema, "real")
    suite = StreamingSuite(schema, [StreamingMarginals.fit(train, None), StreamingPairs.fit(train, None)])
    del train
    fitted = time.perf_counter()
    for batch in pq.ParquetFile(synthetic, read_dictionary=texts).iter_batches(BATCH_ROWS, use_threads=False):
        suite.update(batch)
    marginals, pairs = suite.results()
    done = time.perf_counter()
    return {
        "shape_error": marginals.score("shape_error").value,
        "trend_error": pairs.score("trend_error").value,
        "seconds": round(done - started, 3),
        "seconds_fit": round(fitted - started, 3),
        "peak_mib": peak_mib(),
        "peak_mib_before": before,
    }


def _head(path: Path) -> pa.Table:
    """Rows enough to know each column's kind."""
    return pa.Table.from_batches([next(pq.ParquetFile(path).iter_batches(30_000))])


def theirs(real: Path, synthetic: Path) -> dict[str, Any]:
    """The same by SDMetrics' QualityReport."""
    import warnings

    from sdmetrics.reports.single_table import QualityReport

    pinned()
    frames = [pd.read_parquet(path) for path in (real, synthetic)]
    kinds = {
        name: {"sdtype": "numerical" if pd.api.types.is_numeric_dtype(frames[0][name]) else "categorical"}
        for name in frames[0].columns
    }
    report = QualityReport()
    report.real_correlation_threshold = 0
    report.real_association_threshold = 0
    report.num_rows_subsample = None
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report.generate(*frames, {"columns": kinds}, verbose=False)
    seconds = time.perf_counter() - started
    scores = report.get_properties().set_index("Property")["Score"]
    return {
        "shape_error": 100 * (1 - float(scores["Column Shapes"])),
        "trend_error": 100 * (1 - float(scores["Column Pair Trends"])),
        "seconds": round(seconds, 3),
        "peak_mib": peak_mib(),
    }


def apart(work: Any, *given: Any) -> dict[str, Any]:
    """What `work` returns, run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        figures: dict[str, Any] = pool.submit(work, *given).result()
        return figures


def quality_case(rows: int, real_rows: int | None) -> dict[str, Any]:
    """Both sides on one pair of tables."""
    frame = adult()
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "real.parquet", Path(folder) / "synthetic.parquet"
        real = frame if real_rows is None else resampled(frame, real_rows, 1, tilt=0.0, shuffled=0.0)
        synthetic = resampled(frame, rows, 2, tilt=0.01, shuffled=0.1)
        for path, table in zip(paths, (real, synthetic), strict=True):
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=BATCH_ROWS)
        sides = {"ours": apart(ours, *paths), "sdmetrics": apart(theirs, *paths)}
    mine, other = sides["ours"], sides["sdmetrics"]
    return {
        "real_rows": len(real),
        "synthetic_rows": len(synthetic),
        "columns": synthetic.shape[1],
        **sides,
        "times_faster": round(other["seconds"] / mine["seconds"], 1),
        "difference_points": {name: round(abs(mine[name] - other[name]), 6) for name in ("shape_error", "trend_error")},
    }


def dcr_case(reference_rows: int, queries: int) -> dict[str, Any]:
    """Two nearest training rows of every query."""
    from difflm.records.kinds.inference import infer_schema
    from difflm_evaluators.columns.columns import read_columns
    from difflm_evaluators.columns.mixed_rows import mixed_rows
    from difflm_evaluators.privacy.neighbours import NearestRows

    frame, threads = adult(), len(os.sched_getaffinity(0))
    real = frame.iloc[:reference_rows] if reference_rows <= len(frame) else None
    real = resampled(frame, reference_rows, 1, tilt=0.0, shuffled=0.02) if real is None else real
    synthetic = resampled(frame, queries, 2, tilt=0.01, shuffled=0.02)
    tables = [pa.Table.from_pandas(one, preserve_index=False) for one in (real, synthetic)]
    schema = infer_schema(tables[0].slice(0, 30_000), target="income")
    started = time.perf_counter()
    columns = [read_columns(table, schema, "t") for table in tables]
    reference, rows = mixed_rows(columns[0], columns[1:])
    index = NearestRows(reference, threads=threads)
    built = time.perf_counter()
    found_N2 = index.search(rows, 2)
    searched = time.perf_counter()
    some = np.random.default_rng(0).choice(queries, min(queries, CHECKED), replace=False)
    vectors = rows.take(some).embed(0, CHECKED)
    nearest_N = np.full(len(some), np.inf)
    for start in range(0, len(reference), 500):
        blocked = np.abs(vectors[:, None] - reference.embed(start, start + 500)[None]).sum(axis=2)
        nearest_N = np.minimum(nearest_N, blocked.min(axis=1))
    return {
        "reference_rows": reference_rows,
        "queries": queries,
        "threads": threads,
        "seconds_index": round(built - started, 3),
        "seconds_search": round(searched - built, 3),
        "seconds": round(searched - started, 3),
        "peak_mib": peak_mib(),
        "median": float(np.median(found_N2[:, 0])),
        "largest_difference": float(np.abs(nearest_N - found_N2[some, 0]).max()),
    }


def main(
    rows: Annotated[int, typer.Option(help="synthetic rows of shape and trend")] = 1_000_000,
    queries: Annotated[int, typer.Option(help="rows whose closest record is looked for")] = 30_000,
    reference: Annotated[list[int], typer.Option(help="training rows to look among")] = [  # noqa: B006
        *(3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
    ],
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULT,
) -> None:
    """Measure both and write the record."""
    record: dict[str, Any] = {
        "command": "python tests/benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **provenance(),
        "quality": [],
        "dcr": [],
    }
    for real_rows in (None, rows):
        record["quality"].append(quality_case(rows, real_rows))
        print(json.dumps(record["quality"][-1]), flush=True)
    for size in reference:
        record["dcr"].append(apart(dcr_case, size, queries))
        print(json.dumps(record["dcr"][-1]), flush=True)
    out.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
