"""Coded whole numbers: signs that a column's numbers are names of something, whose order says nothing.

Signs are all they are. Tried on the columns of whole numbers with at most 40 values of Adult, Default, Shoppers and
Beijing, values that are common and rare by turns tell 10 of 18 codes, and take one of 5 quantities for one; the share
of another column's spread that values explain beyond a straight line tells none (months and counts have the most). So
no kind is changed: `difflm inspect` says what it looks like.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.large.encoded import decoded
from difflm.records.schema import IntegerField

_FEW: Final = 20
_NAMES = re.compile(
    r"(?i)(?:^|[_\s.-])(?:code|status|type|kind|class|category|cat|region|zone|zip|zipcode|plz|postcode|postal_?code|"
    r"sex|gender|race|group|grp|cluster|label|state|country|browser)s?$|(?<=[a-z])(?:Code|Status|Type|Class|Category)$"
)


def coded(field: IntegerField, column: pa.ChunkedArray) -> str | None:
    """Return why whole numbers look like codes; None where they do not. `column` is as it was read."""
    if field.words or field.dress is not None:
        return None
    if field.distinct == 2:
        return "2 values"
    if _NAMES.search(field.name):
        return "by its name"
    if field.distinct > _FEW:
        return None
    counted = pc.value_counts(decoded(column).drop_null().cast(pa.int64(), safe=False).combine_chunks())
    order = np.argsort(values := counted.field("values").to_numpy())
    values, counts = values[order], counted.field("counts").to_numpy()[order]
    span = int(values[-1]) - int(values[0])  # of any size, where 64 bits may not hold it
    if len(values) > 2 and values[0] > 0 and _is_far_apart(values):
        return f"{len(values)} values of as many digits, far apart"
    if span < 2 * _FEW and _peaks(values, counts) > 1:
        return f"{len(values)} values, common and rare by turns"
    return None


def _is_far_apart(values: np.ndarray) -> bool:
    lengths = {len(str(value)) for value in values.tolist()}
    return len(lengths) == 1 and lengths.pop() > 2 and int(values[-1]) - int(values[0]) > 4 * len(values)


def _peaks(values: np.ndarray, counts: np.ndarray) -> int:
    """Count the values that are clearly more common than both neighbours."""
    tall = np.zeros(int(values[-1] - values[0]) + 3)
    tall[values - values[0] + 1] = counts
    rest = tall + np.maximum(0.2 * tall, 4 * np.sqrt(tall + 1)) + 5
    return int(np.sum((tall[1:-1] > rest[:-2]) & (tall[1:-1] > rest[2:])))
