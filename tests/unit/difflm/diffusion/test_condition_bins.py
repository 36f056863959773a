"""Condition bins: features of restrictions, whole, cut and missing."""

import numpy as np
import pytest

from difflm.diffusion.conditional import MAX_CATEGORIES, ROWS_PER_BIN, ConditionBins, FieldBins
from difflm.records.kinds.codes import Allowed, IntervalSet
from difflm.records.schema import CategoricalField, IntegerField, RecordSchema


def _allowed(*spans: tuple[int, int], null: bool = False) -> Allowed:
    return Allowed(codes=IntervalSet.of(spans), null=null)


def test_a_bin_is_free_cut_or_excluded() -> None:
    bins = FieldBins(name="n", edges=(0, 10, 20, 40), nullable=True, ordered=True)
    assert bins.excluded(_allowed((0, 39), null=True)) == [0.0, 0.0, 0.0, 0.0]
    assert bins.excluded(_allowed((10, 19))) == [1.0, 0.0, 1.0, 1.0]
    assert bins.excluded(_allowed((5, 24), null=True)) == [0.25, 0.0, 0.375, 0.0]
    assert bins.excluded(_allowed((39, 39))) == [1.0, 1.0, pytest.approx(0.475), 1.0]
    assert bins.excluded(_allowed((0, 1), (8, 11))) == [pytest.approx(0.3), pytest.approx(0.4), 1.0, 1.0]


def test_numbers_get_quantiles_and_bins_of_their_own_for_common_values() -> None:
    field = IntegerField(name="n", nullable=False, missing_share=0.0, minimum=0, maximum=10**6, median=0, distinct=900)
    random = np.random.default_rng(0)
    values = np.where(random.random(3000) < 0.6, 0, random.integers(0, 10**6, 3000)).astype(float)
    (bins,) = ConditionBins.fit(RecordSchema(fields=(field,), row_count=3000), values[:, None]).fields
    assert bins.edges[:2] == (0, 1)
    assert bins.edges[-1] == 10**6 + 1
    rows = np.histogram(values, bins=np.array(bins.edges, dtype=float))[0]
    assert (rows >= ROWS_PER_BIN).sum() >= bins.count - 1  # quantiles are that far apart; the common value cuts one
    assert bins.count > 10


def test_rare_categories_share_the_last_bin() -> None:
    count = MAX_CATEGORIES + 50
    field = CategoricalField(
        name="c", nullable=False, missing_share=0.0, values=tuple(map(str, range(count))), counts=(1,) * count
    )
    schema = RecordSchema(fields=(field,), row_count=count)
    bins = ConditionBins.fit(schema, np.arange(count, dtype=float)[:, None])
    assert bins.size == MAX_CATEGORIES
    features = bins.features({"c": _allowed((3, 3), (count - 1, count - 1))})
    assert features[3] == 0
    assert 0.4 < float(features[-1]) < 0.5
    assert float(features[:-1].sum()) == MAX_CATEGORIES - 2


@pytest.mark.parametrize("edges", [[], [1], [1, "x"], [1, [2]], [2, 1], [1, 1], [1.0, 2.0]])
def test_bins_that_are_none_are_refused_when_they_are_read(edges: list[object]) -> None:
    """Found out when gaps were filled in, in words of Python's own."""
    facts = {"name": "a", "edges": edges, "nullable": False, "ordered": True}
    with pytest.raises(ValueError, match="bins of 'a'"):
        ConditionBins.from_json([facts])
