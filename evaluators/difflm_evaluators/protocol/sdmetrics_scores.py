"""Shape, trend and detection by SDMetrics itself, on frames like those that the published code hands it.

- Shape and trend are `QualityReport`'s, all rows and all pairs: since 0.27 SDMetrics leaves out of the trend the pairs
  that go weakly together in the real table, and samples 50,000 rows. The published figures know neither, so both are
  switched off. It drops missing values from shape, and bins numbers by each table's own range.
- Detection is `LogisticDetection`, and the same harness with xgboost's default XGBClassifier. A score s is the AUC
  1 - s / 2; each fold's AUC counts as no less than 0.5, so that two equal tables are a little above 0.5. What decides
  how a column enters is how pandas would read it, not its kind: categories that are whole numbers enter as numbers,
  as in the published code; text one-hot.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from difflm.errors import ConfigError
from difflm_evaluators.columns.columns import Column, Columns, FloatArray
from difflm_evaluators.columns.labels import Labels

if TYPE_CHECKING:
    import pandas as pd


def require_sdmetrics() -> tuple[Any, Any, Any]:
    """Return SDMetrics' QualityReport, LogisticDetection and the base class of such detectors.

    Raises:
        ConfigError: SDMetrics is not installed; the message has the line that installs it.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # later versions announce that reports move
            from sdmetrics.reports.single_table import QualityReport
            from sdmetrics.single_table import LogisticDetection
            from sdmetrics.single_table.detection.sklearn import ScikitLearnClassifierDetectionMetric
    except ImportError as error:
        raise ConfigError(
            f"the published protocol is computed by sdmetrics, which cannot be imported ({error}); "
            "pip install 'difflm[protocol]'"
        ) from error
    return QualityReport, LogisticDetection, ScikitLearnClassifierDetectionMetric


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which SDMetrics draws its folds from, and keep its libraries' warnings away."""
    import warnings

    state = np.random.get_state()
    np.random.seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)


def quality(synthetic: Columns, train: Columns) -> tuple[dict[str, float | None], list[str]]:
    """Return the errors of shape and trend in percent, None where undefined, and what was left out of their means."""
    report = require_sdmetrics()[0]()
    report.num_rows_subsample = None
    report.real_correlation_threshold = report.real_association_threshold = 0
    with _quiet(0):
        report.generate(_frame(train), _frame(synthetic), _metadata(train), verbose=False)
    properties = report.get_properties().set_index("Property")["Score"]
    left_out = []
    for part, names in (("Column Shapes", ["Column"]), ("Column Pair Trends", ["Column 1", "Column 2"])):
        details = report.get_details(part)
        undefined = details[details["Score"].isna()][names].to_numpy().tolist()
        left_out += [f"{part.lower()} of {' and '.join(map(repr, pair))} undefined, left out" for pair in undefined]
    errors = {"shape_error": properties["Column Shapes"], "trend_error": properties["Column Pair Trends"]}
    return {name: None if np.isnan(one) else 100 * (1 - float(one)) for name, one in errors.items()}, left_out


def detection(synthetic: Columns, train: Columns, *, detector: str, seed: int) -> float:
    """Return the AUC of `detector` ("logistic" or "xgboost") telling `synthetic` from `train`, three folds.

    All on one thread: threads that wait for each other cost more than they bring in fits of this size, on busy cores
    far more.

    Raises:
        UnknownCategoryError: a column of text holds a category that no row of `train` has.
    """
    from threadpoolctl import threadpool_limits

    _, logistic, base = require_sdmetrics()
    metric: Any = logistic if detector == "logistic" else _xgboost_detection(base)
    coded = {name: _codes(column) for name, column in train.items() if column.kind == "category"}
    frames = [_typed_frame(table, train, coded) for table in (train, synthetic)]
    with _quiet(seed), threadpool_limits(limits=1):
        score = metric.compute(*frames, metadata=_metadata(train))
    return 1 - float(score) / 2


class UnknownCategoryError(ValueError):
    """The synthetic table has a category that the real one lacks, which SDMetrics' one-hot encoder refuses."""


def _xgboost_detection(base: Any) -> Any:
    """Build the detector of TabPC: SDMetrics' harness around XGBClassifier with its defaults."""
    from xgboost import XGBClassifier

    def classifier() -> Any:
        return XGBClassifier(random_state=0, n_jobs=1)

    return type("XGBoostDetection", (base,), {"_get_classifier": staticmethod(classifier)})


def _metadata(train: Columns) -> dict[str, Any]:
    kinds = {"numeric": "numerical", "category": "categorical"}
    return {"columns": {name: {"sdtype": kinds[column.kind]} for name, column in train.items()}}


def _frame(table: Columns) -> "pd.DataFrame":
    """Give numbers as numbers, categories as text, both NaN where missing."""
    import pandas as pd

    return pd.DataFrame({name: _texts(column) if column.kind == "category" else column.numbers_N
                         for name, column in table.items()})  # fmt: skip


def _texts(column: Column) -> Any:
    labels = Labels.of(column.labels_N)
    return np.array([*labels.values, np.nan], dtype=object)[labels.codes_N]


def _codes(train: Column) -> bool:
    """Tell whether pandas would read the texts of a column as numbers or as true and false."""
    labels = Labels.of(train.labels_N)
    used = [labels.values[code] for code in np.unique(labels.codes_N).tolist() if code >= 0]
    return _as_numbers(used) is not None


def _as_numbers(texts: Sequence[str]) -> list[float] | None:
    truth: Mapping[str, float] = {"true": 1.0, "false": 0.0}
    if all(text.lower() in truth for text in texts):
        return [truth[text.lower()] for text in texts]
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _typed_frame(table: Columns, train: Columns, coded: Mapping[str, bool]) -> "pd.DataFrame":
    """Make the frame that pandas would make of the table's file."""
    import pandas as pd

    cells: dict[str, Any] = {}
    for name, column in table.items():
        if column.kind != "category":
            cells[name] = column.numbers_N
        elif coded[name]:
            cells[name] = _coded(column)
        else:
            _refuse_unknown(column, train[name])
            cells[name] = _texts(column)
    return pd.DataFrame(cells)


def _coded(column: Column) -> FloatArray:
    labels = Labels.of(column.labels_N)
    numbers = [_as_numbers([text]) for text in labels.values]
    wrong = [text for text, number in zip(labels.values, numbers, strict=True) if number is None]
    if wrong:
        raise UnknownCategoryError(f"column {column.name!r} holds {wrong[0]!r}, but numbers in every training row")
    values = np.array([*(number[0] for number in numbers if number is not None), np.nan])
    coded_N: FloatArray = values[labels.codes_N]
    return coded_N


def _refuse_unknown(column: Column, train: Column) -> None:
    labels, real = Labels.of(column.labels_N), Labels.of(train.labels_N)
    known = {real.values[code] if code >= 0 else None for code in np.unique(real.codes_N).tolist()}
    for row in np.unique(labels.codes_N, return_index=True)[1].tolist():
        if labels[row] not in known:
            what = "a missing value" if labels[row] is None else repr(labels[row])
            raise UnknownCategoryError(
                f"column {column.name!r} holds {what} (record {row + 1}), which no training row has and SDMetrics' "
                "one-hot encoder refuses; drop such rows to get this score"
            )
