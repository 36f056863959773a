"""Tables whose columns are related in known ways, as doubles for tests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

CITIES = {"Kassel": "Hesse", "Fulda": "Hesse", "Munich": "Bavaria", "Nuremberg": "Bavaria", "Bremen": "Bremen"}
RELATIONS = (
    "nights == end - start",
    "total == n * unit",
    "determines(city, state)",
    "start <= end",
    "low <= high",
)


def related_table(rows: int, *, seed: int = 0) -> pa.Table:
    """Return stays: dates and their difference, a product, cities that decide their state, an order; all text."""
    random = np.random.default_rng(seed)
    start = np.datetime64("2019-01-01") + random.integers(0, 1800, rows)
    nights = random.integers(0, 15, rows)
    n, cents = random.integers(1, 9, rows), random.integers(100, 9000, rows)
    city = random.choice(list(CITIES), rows)
    low, high = np.sort(random.integers(0, 1000, (2, rows)), axis=0)
    return pa.table(
        {
            "start": [str(day) for day in start],
            "end": [str(day) for day in start + nights],
            "nights": [str(value) for value in nights],
            "n": [str(value) for value in n],
            "unit": [f"{value / 100:.2f}" for value in cents],
            "total": [f"{value / 100:.2f}" for value in n * cents],
            "state": [CITIES[value] for value in city],
            "city": [str(value) for value in city],
            "low": [str(value) for value in low],
            "high": [str(value) for value in high],
        }
    )


def faults(row: dict[str, str]) -> list[str]:
    """Return what a row of such a table breaks, worked out without the code under test."""
    days = (np.datetime64(row["end"]) - np.datetime64(row["start"])).astype(int)
    broken = {
        "nights == end - start": int(row["nights"]) != days,
        "total == n * unit": round(float(row["total"]) * 100) != round(int(row["n"]) * float(row["unit"]) * 100),
        "determines(city, state)": CITIES[row["city"]] != row["state"],
        "start <= end": days < 0,
        "low <= high": int(row["low"]) > int(row["high"]),
    }
    return [name for name, wrong in broken.items() if wrong]
