"""Numbers of cells: plain ones, those in a dress, and dates as seconds; a fault is an error with its place."""

from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.columns import parse_decimals
from difflm.records.kinds.dress import read_cell
from difflm.records.kinds.literals import dictionary_of
from difflm.records.kinds.moments import COMPACT, field_moment
from difflm.records.schema import DatetimeField, DecimalField, IntegerField

FloatArray = npt.NDArray[np.float64]


def read_numbers(array: pa.ChunkedArray, where: str) -> FloatArray:
    """Return numbers as float64; text is accepted where every value is a number."""
    if pa.types.is_boolean(array.type) or pa.types.is_temporal(array.type):
        raise DataError(f"{where} has type {array.type} but the schema says numbers; convert it")
    try:
        cast = _parsed(array) if is_text(array) else pc.cast(array, pa.float64(), safe=False)
        numbers: FloatArray = cast.to_numpy(zero_copy_only=False).astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{where} should hold numbers but has type {array.type}: {one_line(error)}; mend it") from error
    mask_N = array.is_null().to_numpy(zero_copy_only=False).astype(bool)
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        first = int(np.argmax(np.isinf(numbers))) + 1
        counted = f"{infinite} infinite numbers, the first in record {first}"
        raise DataError(f"{where} has {counted}; leave those cells empty or drop the rows")
    numbers[mask_N] = np.nan
    return numbers


def _parsed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read texts as float64; ArrowInvalid naming the first that is no number, and its place."""
    texts = pc.cast(texts, pa.string())
    numbers = parse_decimals(texts)
    if numbers.null_count > texts.null_count:
        wrong_N = pc.and_(pc.is_valid(texts), pc.is_null(numbers))
        count, first = pc.sum(wrong_N).as_py(), pc.index(wrong_N, True).as_py()
        raise pa.ArrowInvalid(
            f"{count} values are no numbers, the first {texts[first].as_py()!r} in record {first + 1}"
        )
    return numbers


def read_dressed(array: pa.ChunkedArray, field: IntegerField | DecimalField, where: str) -> FloatArray:
    """Return the numbers of cells in a dress, NaN for words and where missing; each distinct cell is read once."""
    places, texts = dictionary_of(array.cast(pa.string()))
    numbers = [np.nan] * len(texts)
    for code, text in enumerate(texts):
        value = read_cell(field, str(text))
        if value is None:
            shown = f"{str(text)[:60]!r} in record {places.index(code) + 1}"
            raise DataError(f"{where} should hold numbers but has {shown}; mend it")
        numbers[code] = np.nan if isinstance(value, str) else float(value)
    return np.array([np.nan if place is None else numbers[place] for place in places], dtype=np.float64)


def is_text(array: pa.ChunkedArray) -> bool:
    """Return whether a column holds texts."""
    return bool(pa.types.is_string(array.type) or pa.types.is_large_string(array.type))


def read_seconds(array: pa.ChunkedArray, field: DatetimeField, where: str) -> FloatArray:
    """Return date and time as seconds since 1970-01-01; each distinct value is parsed once."""
    text_format = " or ".join(field.formats)
    if pa.types.is_integer(array.type) and field.format in COMPACT:
        array = array.cast(pa.string())  # dates without separators are whole numbers in typed sources
    if not (pa.types.is_temporal(array.type) or is_text(array) or pa.types.is_null(array.type)):
        raise DataError(f"{where} has type {array.type} but the schema says date or time ({text_format}); convert it")
    values = array.to_pylist()
    seconds: dict[object, float] = dict.fromkeys((None, *field.words), np.nan)
    for value in dict.fromkeys(values):  # in their order, so that the first at fault is named
        if value in seconds:
            continue
        moment = field_moment(field, value) if isinstance(value, str) else value
        if moment is None:
            place = f"{value!r} in record {values.index(value) + 1}"
            raise DataError(f"{where} has {place}, which is not of the form {text_format}; mend it")
        seconds[value] = timestamp(moment, where)
    return np.array([seconds[value] for value in values], dtype=np.float64)


def timestamp(moment: object, where: str) -> float:
    """Return seconds since 1970-01-01 of a date or time, UTC where it names no zone; DataError for anything else."""
    if isinstance(moment, datetime):
        zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return (zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    if isinstance(moment, date):
        return float((moment - date(1970, 1, 1)).days * 86_400)
    raise DataError(f"{where} holds {type(moment).__name__} values, which are no date or time; convert it")


def one_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).splitlines()[0]
