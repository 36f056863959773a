"""Condition draws: under every restriction that is shown, rows are uniform among those that satisfy it."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
import torch

from difflm.diffusion.conditional import ConditionBins
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.testing.tables import odd_tables
from difflm.training.condition_draws import ConditionDraws
from difflm.training.conditional_task import table_codes


def _two_columns() -> tuple[ConditionBins, np.ndarray]:  # type: ignore[type-arg]
    random = np.random.default_rng(0)
    number = random.choice(8, 600, p=np.array([30, 20, 15, 10, 9, 8, 5, 3]) / 100)
    letter = np.where(random.random(600) < 0.7, number // 3, random.integers(0, 3, 600))
    missing = random.random(600) < 0.1
    table = pa.table(
        {
            "number": [None if gone else str(value) for value, gone in zip(number, missing, strict=True)],
            "letter": ["abc"[value] for value in letter],
        }
    )
    schema = infer_schema(table)
    codes_NF = table_codes(JsonRecordCodec(schema).normalize_table(table).table, schema)
    return ConditionBins.fit(schema, codes_NF), codes_NF


def test_rows_are_uniform_among_those_that_satisfy() -> None:
    bins, codes_NF = _two_columns()
    numbers = bins.fields[0]
    assert numbers.ordered
    assert numbers.edges == (0, 1, 2, 3, 4, 5, 6, 7, 8)  # every value has rows enough for a bin of its own
    place_NF = np.where(np.isnan(codes_NF), numbers.count, codes_NF).astype(int)
    rows_B, features_BC = ConditionDraws(bins, codes_NF).draw(200_000, torch.Generator().manual_seed(1))
    groups: dict[bytes, Counter[tuple[int, int]]] = defaultdict(Counter)
    for features, place in zip(features_BC.numpy(), map(tuple, place_NF[rows_B].tolist()), strict=True):
        groups[features.tobytes()][place] += 1
    large = {key: group for key, group in groups.items() if group.total() >= 2000}
    assert len(large) > 10
    for key, group in large.items():
        excluded = np.frombuffer(key, np.float32)
        allowed = (excluded[: numbers.features] == 0, excluded[numbers.features :] == 0)
        satisfying = Counter(
            place for place in map(tuple, place_NF.tolist()) if allowed[0][place[0]] and allowed[1][place[1]]
        )
        assert set(group) <= set(satisfying)
        distance = sum(
            abs(group[place] / group.total() - count / satisfying.total()) for place, count in satisfying.items()
        )
        assert distance / 2 < 0.04, (excluded, group, satisfying)


def test_rare_values_are_shown_far_more_often_than_they_occur() -> None:
    bins, codes_NF = _two_columns()
    rows_B, features_BC = ConditionDraws(bins, codes_NF).draw(20_000, torch.Generator().manual_seed(2))
    rarest = int(np.argmin(np.bincount(codes_NF[:, 1].astype(int))))
    only = torch.ones(3)
    only[rarest] = 0
    shown = (features_BC[:, bins.fields[0].features :] == only).all(dim=1)
    assert (codes_NF[rows_B[shown].numpy(), 1] == rarest).all()
    assert shown.float().mean() > 0.1


@pytest.mark.parametrize("name", ["all_categorical", "big_integers", "dates", "missing_everywhere", "one_row", "typed"])
def test_any_table_gives_rows_that_satisfy_their_features(name: str) -> None:
    table = odd_tables()[name]
    schema = infer_schema(table)
    codes_NF = table_codes(JsonRecordCodec(schema).normalize_table(table).table, schema)
    bins = ConditionBins.fit(schema, codes_NF)
    rows_B, features_BC = ConditionDraws(bins, codes_NF).draw(300, torch.Generator().manual_seed(0))
    assert features_BC.shape == (300, bins.size)
    assert bool(((features_BC >= 0) & (features_BC <= 1)).all())
    start = 0
    for place, field in enumerate(bins.fields):
        if max(map(abs, field.edges)) > 2**53:  # codes are doubles in training; neighbours that far out are one
            start += field.features
            continue
        features = features_BC[:, start : start + field.features]
        codes = codes_NF[rows_B.numpy(), place]
        own = np.searchsorted(np.array(field.edges, dtype=np.float64), codes, side="right") - 1
        own = np.where(np.isnan(codes), field.count, np.minimum(own, field.count - 1))
        assert bool((features[torch.arange(300), torch.from_numpy(own)] < 1).all()), field.name
        start += field.features


def test_bins_survive_their_file_and_say_what_is_excluded() -> None:
    bins, _ = _two_columns()
    assert ConditionBins.from_json(bins.to_json()) == bins
    assert bool((bins.features({}) == 0).all())
