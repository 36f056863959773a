"""Draws of untrained models: whatever comes out is spelled as training spells it, and names its row once."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import difflm
from difflm.testing.bundles import untrained_stages

FORMS = {
    "uid": r"[0-9a-f]{8}-[0-9a-f]{4}",
    "price": r"\$(\d{1,3})(,\d{3})*\.\d\d",
    "weight": r"\d\d kg|n/d",
    "plate": r"B-[A-Z]{2} \d{4}",
    "day": r"20\d{6}",
    "until": r"9999-12-31|20\d\d-\d\d-\d\d",
    "paid": r"00\.00\.0000|\d\d\.\d\d\.20\d\d",
    "hired": r"20\d\d年[1-9]\d?月[1-9]\d?日",
    "stamp": r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z",
    "span": r"\d+ days [012]\d:[0-5]\d:[0-5]\d",
    "pressure": r"(9[5-9]|1[0-7]\d)/[5-9]\d",
    "ages": r"\d{1,2}–\d{1,2}",
    "rupees": r"₹\d{1,3}(,\d\d)*,\d{3}\.\d\d",
}


def _table(rows: int = 60) -> pa.Table:
    random = np.random.default_rng(0)
    days = [np.datetime64("2021-01-01") + int(step) for step in random.integers(0, 900, rows)]
    return pa.table(
        {
            "uid": [f"{value:08x}-{value % 65521:04x}" for value in (random.permutation(rows) + 1) * 71_000_003],
            "price": [f"${value:,.2f}" for value in random.lognormal(6, 1.5, rows)],
            "weight": ["n/d" if value < 45 else f"{value} kg" for value in random.integers(40, 90, rows).tolist()],
            "plate": [
                f"B-{chr(65 + value % 5)}{chr(65 + value % 7)} {value % 9000 + 1000}"
                for value in [0, *random.integers(0, 10**6, rows - 1).tolist()]
            ],
            "day": [str(day).replace("-", "") for day in days],
            "until": ["9999-12-31" if row % 9 == 0 else str(day) for row, day in enumerate(days)],
            "paid": ["00.00.0000" if row % 7 == 0 else f"{day.item():%d.%m.%Y}" for row, day in enumerate(days)],
            "hired": [f"{day.item().year}年{day.item().month}月{day.item().day}日" for day in days],
            "stamp": [f"{day}T10:{row % 60:02d}:05.{row * 10_000_019:09d}Z" for row, day in enumerate(days)],
            "span": [f"{row % 4} days {row % 24:02d}:03:{row % 60:02d}" for row in range(rows)],
            "pressure": [f"{95 + row * 7 % 85}/{50 + row * 11 % 50}" for row in range(rows)],
            "ages": [f"{row % 31}–{row % 31 + row % 23}" for row in range(rows)],
            "rupees": [f"₹{row % 9 + 1},{row % 90 + 10},{row % 900 + 100}.{row % 100:02d}" for row in range(rows)],
            "label": ["yes" if value > 0.5 else "no" for value in random.random(rows)],
        }
    )


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> difflm.Generator:
    folder: Path = tmp_path_factory.mktemp("spelled")
    return difflm.load(untrained_stages(folder, _table()).bundle)


def test_draws_are_spelled_as_in_training(generator: difflm.Generator) -> None:
    rows = generator.sample(24, seed=3)
    for column, form in FORMS.items():
        assert all(re.fullmatch(form, text) for text in rows[column]), rows[column].tolist()
    assert all(int(low) <= int(high) for low, high in (text.split("–") for text in rows["ages"]))
    assert rows["uid"].is_unique
    assert generator.sample(8, seed=4)["uid"].tolist() == rows["uid"].tolist()[:8]


def test_conditions_are_about_the_numbers_and_words(generator: difflm.Generator) -> None:
    rows = generator.sample(8, where='price >= 500 and weight == "n/d" and day >= "2022-01-01"')
    assert all(float(text.strip("$").replace(",", "")) >= 500 for text in rows["price"])
    assert set(rows["weight"]) == {"n/d"}
    assert all(text >= "20220101" for text in rows["day"])


def test_given_cells_stay_as_they_are(generator: difflm.Generator) -> None:
    gaps = _table().slice(0, 6).to_pylist()
    for row, record in enumerate(gaps):
        record["price" if row % 2 else "weight"] = None
    gaps[1]["uid"], gaps[0]["price"] = "00000abc-00ff", "$77.5"
    filled = generator.impute(pa.Table.from_pylist(gaps))
    for given, made in zip(gaps, filled.to_pylist(), strict=True):
        assert {key: value for key, value in given.items() if value is not None}.items() <= made.items()
        assert re.fullmatch(FORMS["price"], made["price"]) or made["price"] == "$77.5"
        assert re.fullmatch(FORMS["weight"], made["weight"])
