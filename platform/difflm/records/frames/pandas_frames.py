"""What Arrow does not keep of a pandas frame: labels that are no text, Arrow's own dtypes, objects, sparse columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from datetime import timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from difflm.errors import DataError
from difflm.records.limits import refuse_wide

if TYPE_CHECKING:
    import pandas as pd

_FACTS = b"difflm"


def arrow_of_pandas(frame: pd.DataFrame, name: str) -> pa.Table:
    """Convert a frame to Arrow, its index left out.

    Raises:
        DataError: two columns share a name, or one mixes types or holds what no table file has; the message begins with
            ``name``.
    """
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"{name}: two columns are called {str(repeated[0])!r}; rename one of them")
    refuse_wide(len(frame.columns), name)
    for label in frame.columns:
        if (shown := str(label)).encode(errors="replace").decode() != shown:  # half a surrogate pair
            raise DataError(f"{name}: a column is called {shown!r}, which is no Unicode; rename it")
    columns, names = [], []
    for label, series in zip(frame.columns, storable(frame), strict=True):
        try:
            columns.append(pa.chunked_array([pa.Array.from_pandas(series)]))
        except UnicodeEncodeError as error:
            raise DataError(
                f"{name}: column {str(label)!r} has a text that is no Unicode ({error.reason}): {error.object[:60]!r}; "
                "correct it"
            ) from error
        except (pa.ArrowException, OverflowError, TypeError) as error:  # the last of an infinite decimal
            kinds = sorted({type(value).__name__ for value in series.dropna()})
            raise DataError(
                f"{name}: column {str(label)!r} holds values of several types ({', '.join(kinds[:5])}), or of one that "
                f"no table file has; give one type, such as frame[{label!r}].astype(str)"
            ) from error
        names.append(str(label))
    return pa.Table.from_arrays(columns, names=names)


def storable(frame: pd.DataFrame) -> list[pd.Series[Any]]:
    """Return the columns of a frame, sparse ones made dense and intervals as text, which Arrow both lacks."""
    return [_storable(frame.iloc[:, place]) for place in range(frame.shape[1])]


def _storable(series: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        return series.astype(dtype.subtype)
    if isinstance(dtype, pd.IntervalDtype):
        return series.astype(object).map(str, na_action="ignore")
    if isinstance(dtype, pd.CategoricalDtype) and isinstance(dtype.categories.dtype, pd.IntervalDtype):
        return series.cat.rename_categories(str)
    return series


def empty_table(frame: pd.DataFrame) -> pa.Table:
    """Return a table without rows that remembers the labels and dtypes of a frame; its columns are named by the labels
    as text.
    """
    import pandas as pd

    columns = storable(frame)
    empty = pd.concat([column.iloc[:0] for column in columns], axis=1).reset_index(drop=True)
    empty.columns = pd.Index([str(label) for label in frame.columns])
    empty.attrs = {}  # what somebody noted about the rows
    arrow = {place: dtype for place, dtype in enumerate(frame.dtypes) if isinstance(dtype, pd.ArrowDtype)}
    for place in arrow:  # whose names, such as list<item: int8>[pyarrow], pandas cannot read again
        empty[empty.columns[place]] = empty.iloc[:, place].astype(object)
    table = pa.Table.from_pandas(empty, preserve_index=False)
    for place, dtype in arrow.items():
        kind = dtype.pyarrow_dtype
        table = table.set_column(place, table.schema.field(place).with_type(kind), [pa.array([], kind)])
    for place, column in enumerate(columns):
        if column.dtype == object and (kind := _kind_of_objects(column)) is not None:
            table = table.set_column(place, table.schema.field(place).with_type(kind), [pa.array([], kind)])
    facts = {
        "arrow": list(arrow),
        "string": {
            place: [dtype.storage, dtype.na_value is pd.NA]
            for place, dtype in enumerate(frame.dtypes)
            if isinstance(dtype, pd.StringDtype)
        },
        "offset": {
            place: dtype.tz.utcoffset(None).total_seconds()  # Arrow gives fixed offsets back as another class
            for place, dtype in enumerate(frame.dtypes)
            if isinstance(dtype, pd.DatetimeTZDtype) and type(dtype.tz) is timezone
        },
        "interval": {
            place: [kind.closed, str(kind.subtype)]
            for place, dtype in enumerate(frame.dtypes)
            if isinstance(kind := _of_categories(dtype), pd.IntervalDtype)
        },
        "python": [place for place, column in enumerate(columns) if _is_python(column)],
        "names": list(frame.columns.names),
        "labels": list(frame.columns),
    }
    try:
        text = json.dumps(facts)
    except TypeError:  # labels such as dates, which come back as text
        text = json.dumps({**facts, "labels": None, "names": None})
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _FACTS: text.encode()})


def _of_categories(dtype: Any) -> Any:
    """Return the dtype of a dtype's categories, or the dtype itself where it has none."""
    return getattr(getattr(dtype, "categories", None), "dtype", dtype)


def _kind_of_objects(column: pd.Series[Any]) -> pa.DataType | None:
    """Return the Arrow type of Python objects that numbers or text would replace: dates, bytes, lists, texts, ..."""
    kind = pa.Array.from_pandas(column).type
    is_one = (pa.types.is_temporal, pa.types.is_decimal, pa.types.is_binary, pa.types.is_nested, pa.types.is_string)
    return kind if any(holds(kind) for holds in is_one) else None


def _is_python(column: pd.Series[Any]) -> bool:
    """Tell whether a column holds lists, dicts, numbers or truth values of Python, which come back as others."""
    some = column.dropna().iloc[:1] if column.dtype == object else ()
    return any(isinstance(value, (list, dict, int, float)) for value in some)


def known_categories(column: pa.ChunkedArray, listed: Collection[str]) -> pa.Array:
    """Return a column without rows, of the type of a column that has categories, with those of them that are listed."""
    kind, categories = column.type, pa.array([], column.type.value_type)
    if column.num_chunks:
        categories = column.chunk(0).dictionary
        categories = categories.filter(pa.array([str(value) in listed for value in categories.to_pylist()], pa.bool_()))
    nothing = pa.array([], kind.index_type)
    return pa.DictionaryArray.from_arrays(nothing, categories, ordered=kind.ordered)


def frame_like(empty: pa.Table, typed: pa.Table) -> pd.DataFrame:
    """Return rows as a frame with the labels and dtypes that `empty_table` remembered; unknown columns as they are."""
    import pandas as pd

    facts = json.loads((empty.schema.metadata or {}).get(_FACTS, b"{}"))
    arrow = {empty.schema.names[place] for place in facts.get("arrow", ())}
    template = empty.select([name for name in empty.schema.names if name not in arrow]).to_pandas()
    stored = {empty.schema.names[int(place)]: storage for place, storage in facts.get("string", {}).items()}
    offsets = {empty.schema.names[int(place)]: seconds for place, seconds in facts.get("offset", {}).items()}
    made: pd.DataFrame = typed.to_pandas(date_as_object=True)
    intervals = {empty.schema.names[int(place)]: kind for place, kind in facts.get("interval", {}).items()}
    python = {empty.schema.names[place] for place in facts.get("python", ())}
    for name in made.columns:
        if name in arrow and typed.column(name).type == empty.schema.field(name).type:
            made[name] = pd.arrays.ArrowExtensionArray(typed.column(name))
        elif name in python:
            made[name] = pd.Series(typed.column(name).to_pylist(), index=made.index, dtype=object)
        elif name in stored:
            storage, missing_is_na = stored[name]
            made[name] = made[name].astype(
                pd.StringDtype(storage) if missing_is_na else pd.StringDtype(storage, na_value=float("nan"))
            )
        elif name in template and not _alike(made[name].dtype, template[name].dtype):
            made[name] = _astype(made[name], _with_all(template[name].dtype, made[name]))
        if name in intervals:
            made[name] = _as_intervals(made[name], *intervals[name])
        if name in offsets and isinstance(made[name].dtype, pd.DatetimeTZDtype):
            made[name] = made[name].dt.tz_convert(timezone(timedelta(seconds=offsets[name])))
    labels = facts.get("labels")
    if labels is not None:
        made.columns = _labels(made.columns, dict(zip(empty.schema.names, labels, strict=True)), facts["names"])
    return made


def _alike(made: Any, wanted: Any) -> bool:
    """Whether a dtype is another; to pandas two are that list the same categories in another order."""
    return bool(made == wanted) and list(getattr(made, "categories", ())) == list(getattr(wanted, "categories", ()))


def _labels(names: pd.Index[Any], known: dict[str, Any], headings: list[str | None]) -> pd.Index[Any]:
    import pandas as pd

    labels = [known.get(name, name) for name in names]
    if len(headings) > 1 and all(isinstance(label, list) for label in labels):
        return pd.MultiIndex.from_tuples(map(tuple, labels), names=headings)
    plain = [tuple(label) if isinstance(label, list) else label for label in labels]
    found: pd.Index[Any] = pd.Index(plain, tupleize_cols=False)
    return found.rename(headings[0]) if len(headings) == 1 else found


def _with_all(dtype: Any, series: pd.Series[Any]) -> Any:
    """Return a dtype that has, where it lists its categories, those of the series as well, behind its own."""
    import pandas as pd

    if not isinstance(dtype, pd.CategoricalDtype):
        return dtype
    found = pd.Index(series.dropna().unique())
    if isinstance(found.dtype, pd.CategoricalDtype):
        found = pd.Index(found.astype(found.categories.dtype))
    others = found[~found.isin(dtype.categories)].sort_values()
    return pd.CategoricalDtype(dtype.categories.append(others) if len(others) else dtype.categories, dtype.ordered)


def _as_intervals(series: pd.Series[Any], closed: Any, subtype: str) -> pd.Series[Any]:
    """Return intervals where `_storable` made texts of them; the texts where one of them is none."""
    import pandas as pd

    given = isinstance(series.dtype, pd.CategoricalDtype)
    texts = pd.Series(series.cat.categories if given else series, dtype=object)
    ends = texts.str.extract(r"^[\[(](.+), (.+)[\])]$")
    read: Callable[[Any], Any] = (
        partial(pd.to_datetime, format="ISO8601") if subtype.startswith("datetime") else pd.to_numeric
    )
    try:
        left, right = (pd.Index(read(ends[side])).astype(subtype) for side in (0, 1))
        found: Any = pd.arrays.IntervalArray.from_arrays(left, right, closed=closed)
    except (TypeError, ValueError):
        return series
    if (found.isna() & texts.notna().to_numpy()).any():
        return series
    if not given:
        return pd.Series(found, index=series.index)
    categories: Any = pd.IntervalIndex(found)
    return series.cat.rename_categories(categories)


def _astype(series: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
    """Cast to the source frame's dtype, unless it cannot hold the synthetic values, such as a missing whole number."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype) and series.dtype == dtype:  # so that `astype` changes nothing
        return series.cat.reorder_categories(dtype.categories)
    try:
        return series.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return series
