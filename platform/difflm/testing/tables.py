"""Odd tables: the shapes and values that people's tables have, as doubles for tests; text as a file spells it."""

import numpy as np
import pyarrow as pa

_WORDS = ("quiet", "river", "stone", "amber", "cloud", "seven", "night", "green", "paper", "tower", "glass", "field")


def mixed_table(rows: int = 200, *, seed: int = 0) -> pa.Table:
    """Return a table of one column of every kind, with dependencies; all text, the target is `label` (yes/no)."""
    random = np.random.default_rng(seed)
    age = random.integers(17, 90, rows)
    wage = np.round(random.gamma(3.0, 9.0, rows) + age / 4, 2)
    city = np.array(["Lyon", "Oslo", "Łódź", "São Paulo"])[random.integers(0, 4, rows)]
    label = np.where(wage + random.normal(0, 3, rows) > 40, "yes", "no")
    days = np.datetime64("2020-01-01") + random.integers(0, 900, rows)
    notes = [" ".join(random.choice(_WORDS, 4)) + f' "{index}"\n' for index in range(rows)]
    gaps = random.random(rows) < 0.1
    return pa.table(
        {
            "age": pa.array([str(value) for value in age]),
            "wage": pa.array([f"{value:.2f}" for value in wage]),
            "city": pa.array([None if gap else str(value) for value, gap in zip(city, gaps, strict=True)]),
            "day": pa.array([str(value) for value in days]),
            "member": pa.array(["TRUE" if value else "FALSE" for value in random.random(rows) < 0.3]),
            "note": pa.array(notes),
            "unit": pa.array(["kg"] * rows),
            "label": pa.array([str(value) for value in label]),
        }
    )


def small_table(rows: int, *, seed: int = 0) -> pa.Table:
    """Return five columns (integer, decimal, two categories, boolean) with dependencies; the target is `label`.

    Rows of another seed are fresh rows of the same population, so that copying can be told from learning.
    """
    random = np.random.default_rng(seed)
    age = random.integers(18, 80, rows)
    city = random.integers(0, 4, rows)
    income = np.round(age * 0.7 + city * 5 + random.normal(0, 6, rows), 1)
    member = random.random(rows) < 0.2 + 0.15 * city
    label = np.where(income + random.normal(0, 4, rows) > 42, "high", "low")
    return pa.table(
        {
            "age": [str(value) for value in age],
            "city": [("Lyon", "Oslo", "Riga", "Bern")[value] for value in city],
            "income": [f"{value:.1f}" for value in income],
            "member": ["true" if value else "false" for value in member],
            "label": [str(value) for value in label],
        }
    )


def odd_tables() -> dict[str, pa.Table]:
    """Return tables that must be readable without metadata, by what is odd about them."""
    return {
        "all_numeric": _numeric(),
        "all_categorical": _categorical(),
        "two_hundred_columns": _wide(),
        "thirty_rows": mixed_table(30, seed=3),
        "one_row": mixed_table(1, seed=4),
        "missing_everywhere": _gaps(),
        "odd_names": _odd_names(),
        "booleans": _booleans(),
        "free_text": _free_text(),
        "wild_floats": _wild_floats(),
        "big_integers": _big_integers(),
        "codes": _codes(),
        "dates": _dates(),
        "mixed_types": _mixed_types(),
        "typed": _typed(),
        "dressed": _dressed(),
    }


def _numeric() -> pa.Table:
    random = np.random.default_rng(1)
    return pa.table(
        {
            "negative": [str(value) for value in random.integers(-50, 50, 60)],
            "price": [f"{value:.2f}" for value in random.lognormal(3, 1, 60)],
            "signed": [f"{value:.3f}" for value in random.normal(0, 0.001, 60)],
            "row": [str(value) for value in range(60)],
        }
    )


def _categorical() -> pa.Table:
    random = np.random.default_rng(2)
    return pa.table({name: random.choice(["a", "b", "ç", 'd"', "e\\f", "true"], 80) for name in ("x", "y", "z")})


def _wide() -> pa.Table:
    random = np.random.default_rng(5)
    columns = {f"n{index}": [str(value) for value in random.integers(0, 9, 40)] for index in range(100)}
    columns |= {f"c{index}": [str(value) for value in random.choice(["u", "v"], 40)] for index in range(100)}
    return pa.table(columns)


def _gaps() -> pa.Table:
    random = np.random.default_rng(6)
    table = mixed_table(120, seed=7)
    holed = [pa.array(column.to_pylist(), pa.string(), mask=random.random(120) < 0.5) for column in table.columns]
    return pa.Table.from_arrays(holed, names=table.column_names)


def _odd_names() -> pa.Table:
    names = ["a b", '"quoted"', "back\\slash", "日本語", "🙂", "100%", "{x}", "default.payment", "a: b, c", "null"]
    return pa.table({name: ["1", "2", "x", "2"] * 5 for name in names})


def _booleans() -> pa.Table:
    pairs = [("TRUE", "FALSE"), ("yes", "no"), ("t", "f"), ("Y", "N"), ("on", "off"), ("True", "False")]
    columns: dict[str, pa.Array] = {true: pa.array([true, false, false] * 8) for true, false in pairs}
    columns["gaps"] = pa.array(["true", None, "false"] * 8)
    columns["typed"] = pa.array([True, None, False] * 8)
    columns["always"] = pa.array([True] * 24)
    columns["digits"] = pa.array(["0", "1", "1"] * 8)
    columns["spelled both ways"] = pa.array(["True", "TRUE", "no"] * 8)
    return pa.table(columns)


def _free_text() -> pa.Table:
    texts = [
        "two\nlines", 'says "hi"', "emoji 👩‍👩‍👧 and é", "tab\there", "back\\slash \\n", '{"json": [1, 2]}', "null",
        "\u2028separator\u2029", "\x01control\x7f", "trailing ", " leading", "%s and {braces}", "ß" * 300, "مرحبا",
        "a, b; c", "'",
    ]  # fmt: skip
    numbered = [f"{text} #{index}" for index, text in enumerate(texts * 3)]
    return pa.table({"text": numbered, "short": [text[:12] for text in texts] * 3})


def _wild_floats() -> pa.Table:
    random = np.random.default_rng(8)
    powers = random.integers(-300, 300, 50)
    return pa.table(
        {
            "wild": [f"{value:.5f}e{power}" for value, power in zip(random.uniform(-9, 9, 50), powers, strict=True)],
            "tiny": [repr(float(value)) for value in random.uniform(1e-20, 9e-20, 50)],
            "huge": [repr(float(value)) for value in random.uniform(1e20, 9e20, 50)],
            "long": [repr(float(value)) for value in random.normal(0, 1, 50)],
            "offset": [repr(1.7e9 + float(value)) for value in random.uniform(0, 1, 50)],
            "infinite": ["inf", "-inf", "1e999", *[str(value) for value in random.normal(0, 1, 47).round(3)]],
            "plus": [f"+{value:.1f}" for value in random.uniform(0, 9, 50)],
            "bare point": [f".{value}" for value in range(10, 60)],
            "zero": ["-0.0", "0.0", "-0.001", "0.5", "-0.004"] * 10,
        }
    )


def _big_integers() -> pa.Table:
    return pa.table(
        {
            "beyond_double": [str(2**53 + index) for index in range(25)],
            "edges": [str(2**63 - 1), str(-(2**63)), "0", "-1", "5"] * 5,
            "beyond_int64": [str(2**64 + index % 4) for index in range(25)],
        }
    )


def _codes() -> pa.Table:
    return pa.table(
        {
            "zip": [f"{value:05d}" for value in (7, 1234, 90210, 501, 2139)] * 8,
            "phone": [f"+49 30 {value:06d}" for value in range(40)],
            "version": ["1.2.3", "1.10.0", "2.0.0", "1.2.3"] * 10,
            "thousands": ["1,234", "12", "3,456,789", "7"] * 10,
            "percent": ["12%", "7%", "3.5%", "0%"] * 10,
        }
    )


def _dates() -> pa.Table:
    days = np.datetime64("2019-12-25") + np.arange(40)
    seconds = np.datetime64("2021-03-01T00:00:00") + np.arange(40) * 4000
    return pa.table(
        {
            "iso": [str(day) for day in days],
            "german": [f"{str(day)[8:]}.{str(day)[5:7]}.{str(day)[:4]}" for day in days],
            "american": [f"{int(str(day)[5:7])}/{int(str(day)[8:])}/{str(day)[:4]}" for day in days],
            "seconds": [str(second).replace("T", " ") for second in seconds],
            "zulu": [f"{second}Z" for second in seconds],
            "clock": [str(second)[11:16] for second in seconds],
            "typed": pa.array(days.astype("datetime64[ms]")),
        }
    )


def _mixed_types() -> pa.Table:
    return pa.table(
        {
            "mostly_numbers": [*[str(value) for value in range(38)], "unknown", "n.v."],
            "numbers_and_decimals": ["1", "2.5", "3", "-4.25"] * 10,
            "scientific": ["1e+05", "20000", "3", "4E3"] * 10,
            "whole_decimals": ["1.0", "2.0", "3.0", "3.0"] * 10,
        }
    )


def _typed() -> pa.Table:
    return pa.table(
        {
            "int8": pa.array([1, None, -3] * 10, pa.int8()),
            "float32": pa.array([0.1, 2.5, None] * 10, pa.float32()),
            "nan": pa.array([float("nan"), 1.25, float("inf")] * 10, pa.float64()),
            "dictionary": pa.array(["x", "y", None] * 10).dictionary_encode(),
            "large": pa.array(["p", "q", "r"] * 10, pa.large_string()),
            "decimal": pa.array(["1.50", "2.25", "0.00"] * 10).cast(pa.decimal128(9, 2)),
        }
    )


def _dressed() -> pa.Table:
    random = np.random.default_rng(9)
    cents = random.integers(0, 200_000, 60).tolist()
    days = [str(np.datetime64("2021-03-01") + day) for day in random.integers(0, 900, 60).tolist()]
    return pa.table(
        {
            "price": [f"${cent / 100:,.2f}" for cent in cents],
            "preis": [f"{cent // 100},{cent % 100:02d} \u20ac" for cent in cents],
            "weight": ["n/d", "n/d", *[f"{cent % 90} kg" for cent in cents[2:]]],
            "censored": ["<0.5", 'say "no"', "<0.5", *[f"{cent % 90 / 10:.1f}" for cent in cents[3:]]],
            "worked": [f"{cent % 40:02d}:{cent % 60:02d}:00" for cent in cents],
            "until": ["9999-12-31", None, "9999-12-31", *days[3:]],
            "entered": ["unknown", *[f"{day[8:]}/{day[5:7]}/{day[:4]}" for day in days[1:30]], *days[30:]],
            "compact": [day.replace("-", "") for day in days],
            "level": ["-999", "-999", *[str(cent % 30) for cent in cents[2:]]],
            "phone": [f"+{cent % 9 + 40}{cent:0{7 + cent % 2}d}" for cent in [*cents[:40], *cents[:20]]],
        }
    )
