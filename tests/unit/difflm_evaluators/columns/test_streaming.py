"""Streaming evaluators: any split and any merging is one pass, bad batches, memory, pickles."""

import json
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.errors import DataError, EvaluationError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.streaming import StreamingSuite
from difflm_evaluators.privacy.distances import StreamingDistances
from difflm_evaluators.privacy.privacy import PrivacyConfig, StreamingCopies, StreamingPrivacy, evaluate_privacy
from difflm_evaluators.scores.diversity import StreamingDiversity
from difflm_evaluators.scores.marginals import StreamingMarginals, evaluate_marginals
from difflm_evaluators.scores.pairs import StreamingPairs, evaluate_pairs
from difflm_evaluators.scores.validity import StreamingValidity, evaluate_validity

Split = tuple[list[int], list[tuple[int, int]]]


def _suite(train: pa.Table, test: pa.Table | None, schema: RecordSchema) -> StreamingSuite:
    real = read_columns(train, schema, "train")
    holdout = read_columns(test, schema, "test") if test is not None else None
    return StreamingSuite(
        schema,
        [
            StreamingValidity.fit(schema, holdout),
            StreamingMarginals.fit(real, holdout),
            StreamingPairs.fit(real, holdout),
            StreamingDiversity.fit(real, holdout, schema),
            StreamingPrivacy.fit(real, holdout, schema, PrivacyConfig(threads=1)),
        ],
    )


def _odd_table(rows: int, seed: int) -> pa.Table:
    """Columns that counts and moments find hard: huge, tiny, constant, mostly missing, and rows that repeat."""
    random = np.random.default_rng(seed)
    huge = random.normal(0, 1, rows) * 1e200
    values: dict[str, Any] = {
        "huge": pa.array(huge),
        "far": pa.array(1e9 + random.normal(0, 1e-3, rows) + huge * 1e-203),
        "tiny": pa.array(random.normal(0, 1, rows) * 1e-200),
        "same": pa.array([7] * rows),
        "sparse": pa.array([int(v) if v < 4 else None for v in random.integers(0, 12, rows)]),
        "few": pa.array(random.choice(["a", "b", "c"], rows, p=[0.8, 0.15, 0.05]).tolist()),
    }
    return pa.table(values)


@pytest.fixture(scope="module", params=["mixed", "odd"])
def fitted(request: pytest.FixtureRequest, make_table: Callable[..., pa.Table]) -> tuple[StreamingSuite, pa.Table]:
    """A suite on real tables, and rows for it: good ones, unknown categories, numbers missing where they never were."""
    if request.param == "odd":
        train, test, rows = (_odd_table(size, seed) for size, seed in ((150, 1), (60, 2), (90, 3)))
        return _suite(train, test, infer_schema(train)), pa.concat_tables([rows, train.slice(0, 10), rows.slice(0, 5)])
    train, test = make_table(150, 1, missing=True), make_table(60, 2, missing=True)
    rows = make_table(90, 3, missing=True)
    cities, ages = rows.column("city").to_pylist(), rows.column("age").to_pylist()
    cities[3], ages[7], ages[50] = "Atlantis", None, None
    rows = rows.set_column(2, "city", pa.array(cities)).set_column(0, "age", pa.array(ages, pa.int64()))
    return _suite(train, test, infer_schema(train)), pa.concat_tables([rows, train.slice(0, 10), rows.slice(0, 5)])


def splits(rows: int) -> st.SearchStrategy[Split]:
    """Where the rows are cut, and which two of the parts left are merged next."""
    cuts = st.lists(st.integers(0, rows), max_size=6).map(sorted)
    return st.tuples(cuts, st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=7, max_size=7))


def _close(one: Any, other: Any, path: str = "") -> None:
    """Equal in all but the last digits of floats."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            _close(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for place, pair in enumerate(zip(one, other, strict=True)):
            _close(*pair, f"{path}[{place}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert one == pytest.approx(other, rel=1e-12, abs=1e-12), path
    else:
        assert one == other, path


@settings(max_examples=25)  # each of them looks up every row again
@given(split=splits(105), order=st.randoms(use_true_random=False))
def test_any_split_and_any_merging_is_one_pass(
    fitted: tuple[StreamingSuite, pa.Table], split: Split, order: Any
) -> None:
    suite, rows = fitted
    whole = suite.fresh()
    whole.update(rows)
    cuts, merges = split
    bounds = [0, *cuts, rows.num_rows]
    parts = [rows.slice(start, stop - start) for start, stop in pairwise(bounds)]
    order.shuffle(parts)
    streams = []
    for place, part in enumerate(parts):
        stream = suite.fresh() if place % 3 or not streams else streams[-1]  # some take several batches
        stream.update(part)
        if not streams or stream is not streams[-1]:
            streams.append(stream)
    for first, second in merges:
        if len(streams) > 1:
            taken = streams.pop(first % len(streams))
            streams[second % len(streams)].merge(taken)
    while len(streams) > 1:
        streams[0].merge(streams.pop())
    assert streams[0].rows == whole.rows == 105
    for one, other in zip(streams[0].results(), whole.results(), strict=True):
        _close(one.to_json(), other.to_json(), one.name)


def test_the_one_pass_evaluators_are_the_streaming_ones(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    suite = _suite(train, test, schema)
    rows = make_table(200, 5, missing=True)
    for batch in rows.to_batches(max_chunksize=70):
        suite.update(batch)
    synthetic, real, holdout = (read_columns(table, schema, "t") for table in (rows, train, test))
    found = {evaluation.name: evaluation for evaluation in suite.results()}
    whole = [
        evaluate_validity(synthetic, holdout, schema, None),
        evaluate_marginals(synthetic, real, holdout),
        evaluate_pairs(synthetic, real, holdout),
        evaluate_privacy(synthetic, real, holdout, schema, PrivacyConfig(threads=1)),
    ]
    for evaluation in whole:
        expected = evaluation.to_json()
        if evaluation.name == "privacy":  # rare values take all rows at once
            expected["scores"] = [score for score in expected["scores"] if not score["name"].startswith("rare_")]
            expected["details"].pop("rare")
        _close(found[evaluation.name].to_json(), expected, evaluation.name)


def test_pickles_go_on_where_they_were(fitted: tuple[StreamingSuite, pa.Table]) -> None:
    suite, rows = fitted
    stream = suite.fresh()
    stream.update(rows.slice(0, 40))
    again: StreamingSuite = pickle.loads(pickle.dumps(stream))
    again.update(rows.slice(40))
    other: StreamingSuite = pickle.loads(pickle.dumps(suite.fresh()))
    other.merge(again)
    whole = suite.fresh()
    whole.update(rows)
    for one, expected in zip(other.results(), whole.results(), strict=True):
        _close(one.to_json(), expected.to_json(), one.name)


def test_what_comes_from_another_process_can_be_merged(fitted: tuple[StreamingSuite, pa.Table]) -> None:
    """Ray hands objects over in shared memory: their arrays are read-only."""
    suite, table = fitted
    whole, parts = suite.fresh(), [suite.fresh() for _ in range(2)]
    for part, rows in zip(parts, (table.slice(0, 30), table.slice(30)), strict=True):
        part.update(rows)
        whole.update(rows)
    merged = suite.fresh()
    for part in parts:
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(part, protocol=5, buffer_callback=buffers.append)
        merged.merge(pickle.loads(content, buffers=[bytes(buffer) for buffer in buffers]))
    for one, expected in zip(merged.results(), whole.results(), strict=True):
        _close(one.to_json(), expected.to_json(), one.name)


def test_state_does_not_grow_with_the_rows(fitted: tuple[StreamingSuite, pa.Table]) -> None:
    suite, rows = fitted
    stream = suite.fresh()
    stream.update(rows)
    once = len(pickle.dumps(stream))
    for _ in range(20):
        stream.update(rows)
    assert len(pickle.dumps(stream)) <= once + 100  # numbers get longer, nothing else


def test_no_rows_is_undefined_with_the_reason(fitted: tuple[StreamingSuite, pa.Table]) -> None:
    suite, rows = fitted
    empty = suite.fresh()
    empty.update(rows.slice(0, 0))
    for stream in (suite.fresh(), empty):
        for evaluation in stream.results():
            json.dumps(evaluation.to_json(), allow_nan=False)
            for score in evaluation.scores:
                assert score.value is None
                assert score.undefined_because == "no synthetic row has been seen", score.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["city"]), "synthetic table lacks column 'city'"),
        (lambda t: t.append_column("zip", pa.array([1] * t.num_rows)), "unknown column 'zip'"),
        (lambda t: t.set_column(0, "age", pa.array(["old"] * t.num_rows)), "column 'age' should hold numbers"),
        (lambda t: t.set_column(1, "income", pa.array([np.inf] * t.num_rows)), "infinite numbers"),
    ],
)
def test_a_batch_that_does_not_fit_counts_nowhere(  # type: ignore[no-untyped-def]
    train: pa.Table, schema: RecordSchema, change, message
) -> None:
    suite = _suite(train, None, schema)
    suite.update(train.slice(0, 50))
    before = [evaluation.to_json() for evaluation in suite.results()]
    with pytest.raises(DataError, match=message):
        suite.update(change(train.slice(50, 50)))
    assert [evaluation.to_json() for evaluation in suite.results()] == before


@pytest.mark.parametrize(
    "rows",
    [
        {"x": [1.5], "c": ["a"]},
        {"x": [None] * 3, "c": [None] * 3},
        {"x": [1e308, -1e308, 0.0], "c": ["new", "newer", None]},
        {"x": [2.0] * 10, "c": ["a"] * 10},
    ],
)
@pytest.mark.parametrize("real", [{"x": [1.0, 2.5, 4.0], "c": ["a", "b", None]}, {"x": [1.0], "c": ["a"]}])
def test_every_score_is_a_number_or_says_why(rows: dict[str, Any], real: dict[str, Any]) -> None:
    types = pa.schema([("x", pa.float64()), ("c", pa.string())])
    table, train = (pa.Table.from_pydict(columns, types) for columns in (rows, real))
    schema = infer_schema(pa.table({"x": [1.0, 2.5, 4.0], "c": ["a", "b", None]}))
    suite = _suite(train, None, schema)
    suite.update(table)
    for evaluation in suite.results():
        json.dumps(evaluation.to_json(), allow_nan=False)


def _fits(train: pa.Table, schema: RecordSchema) -> list[Any]:
    real = read_columns(train, schema, "train")
    return [
        StreamingMarginals.fit(real, None),
        StreamingPairs.fit(real, None),
        StreamingDiversity.fit(real, None, schema),
        StreamingCopies.fit(real, None, schema),
        StreamingDistances.fit(real, None, seed=0, threads=1, max_test_rows=10),
    ]


def test_what_was_fitted_to_other_tables_is_not_merged(train: pa.Table, schema: RecordSchema) -> None:
    again, other = _fits(train, schema), _fits(train.slice(0, 500), schema)
    for mine, same, another in zip(_fits(train, schema), again, other, strict=True):
        mine.merge(same)
        with pytest.raises(EvaluationError, match="different real tables"):
            mine.merge(another)
    suite = _suite(train, None, schema)
    with pytest.raises(EvaluationError, match="give both the same ones"):
        suite.merge(StreamingSuite(schema, suite.evaluators[:2]))


def test_the_suite_reads_each_batch_once_for_all(train: pa.Table, schema: RecordSchema) -> None:
    suite = _suite(train, None, schema)
    suite.update(train.to_batches()[0])
    assert suite.rows == 600
    assert [evaluator.rows for evaluator in suite.evaluators] == [600] * 5
    names: list[str] = [evaluation.name for evaluation in suite.results()]
    assert names == ["validity", "marginals", "pairs", "diversity", "privacy"]
    assert all(isinstance(evaluation, Evaluation) for evaluation in suite.results())
