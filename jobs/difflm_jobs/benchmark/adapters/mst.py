"""MST (McKenna, Miklau and Sheldon 2021): noisy counts of columns and of pairs along a tree, and a graphical model.

The graphical model is the package mbi; measuring and choosing follow the paper, a third of rho for each of its steps.
Lists of categories, ranges and decimals of numbers are taken to be public, as there: this is to MST's advantage.
"""

import itertools
import math
from typing import Any

TAKES_MISSING = False
UNIT_BINS = 128


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Measure and fit; returns the model and what turns codes back into values."""
    import mbi
    import numpy as np
    from mbi.estimation import MirrorDescent

    settings, random = job["settings"], np.random.default_rng()
    rho, names = rho_of(settings["epsilon"], settings["delta"]), [column["name"] for column in job["columns"]]
    values: dict[str, Any] = {
        column["name"]: coded(train[column["name"]], column, settings["bins"]) for column in job["columns"]
    }
    deviation, singles = math.sqrt(len(names) / (2 * rho / 3)), {}
    codes: dict[str, Any] = {}
    for name in names:
        code, known = values[name]
        noisy = np.bincount(code, minlength=len(known)) + random.normal(0, deviation, len(known))
        code, known, noisy = merged(code, known, noisy, 3 * deviation)
        codes[name], values[name], singles[name] = code, known, noisy
    domain = mbi.Domain(names, [len(singles[name]) for name in names])
    measured = [mbi.LinearMeasurement(singles[name], (name,), stddev=deviation) for name in names]
    pairs = chosen(codes, singles, names, rho / 3, random)
    deviation = math.sqrt(max(1, len(pairs)) / (2 * rho / 3))
    for first, second in pairs:
        counts = joint(codes, singles, first, second)
        measured.append(
            mbi.LinearMeasurement(
                counts.ravel() + random.normal(0, deviation, counts.size), (first, second), stddev=deviation
            )
        )
    model = MirrorDescent().estimate(domain, measured, iters=settings["iterations"])
    return model, values


def sample(model: Any, rows: int, job: dict[str, Any]) -> Any:
    """Draw rows; of a bin any number in it, of merged categories any."""
    import numpy as np
    import pandas as pd
    from mbi.extensions.synthetic_data import synthetic_data

    fitted, values = model
    random = np.random.default_rng(job["seed"])
    drawn = synthetic_data(fitted, rows, seed=job["seed"]).to_dict()
    made = {}
    for column in job["columns"]:
        known, codes = values[column["name"]], np.asarray(drawn[column["name"]])
        if column["kind"] == "category":
            made[column["name"]] = [known[code][random.integers(len(known[code]))] for code in codes]
        else:
            spans = [known[code][random.integers(len(known[code]))] for code in codes]
            made[column["name"]] = [low + random.random() * (high - low) for low, high in spans]
    return pd.DataFrame(made)


def coded(column: Any, described: dict[str, Any], bins: int) -> tuple[Any, list[list[Any]]]:
    """Return a code of every row, and what each code stands for: categories, or bins of numbers.

    Whole numbers have a bin each where there are at most `UNIT_BINS` between the ends; others have bins of equal width
    behind one for the lowest number alone, which is often a zero that most rows have.
    """
    import numpy as np

    if described["kind"] == "category":
        known, code = np.unique(column.to_numpy().astype(str), return_inverse=True)
        return code, [[value] for value in known]
    numbers = column.to_numpy().astype(float)
    low, high = float(numbers.min()), float(numbers.max())
    if described["whole"] and high - low < UNIT_BINS:
        return (numbers - low).astype(int), [[(low + step, low + step)] for step in range(int(high - low) + 1)]
    edges = np.linspace(low, high, bins + 1)
    code = np.clip(np.searchsorted(edges, numbers, side="right"), 1, bins)
    return np.where(numbers == low, 0, code), [[(low, low)], *([pair] for pair in itertools.pairwise(edges))]


def merged(code: Any, known: list[list[Any]], noisy: Any, least: float) -> tuple[Any, list[list[Any]], Any]:
    """Put what is below `least` into one code, the last."""
    import numpy as np

    rare = noisy < least
    if rare.sum() < 2:
        return code, known, noisy
    place = np.where(rare, (~rare).sum(), np.cumsum(~rare) - 1)
    together = [each for each, one in zip(known, rare, strict=True) if not one]
    together.append([value for each, one in zip(known, rare, strict=True) if one for value in each])
    return place[code], together, np.append(noisy[~rare], noisy[rare].sum())


def joint(codes: Any, singles: Any, first: str, second: str) -> Any:
    """Count pairs of codes."""
    import numpy as np

    shape = (len(singles[first]), len(singles[second]))
    flat = np.ravel_multi_index((codes[first], codes[second]), shape)
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def chosen(codes: Any, singles: Any, names: list[str], rho: float, random: Any) -> list[tuple[str, str]]:
    """Choose a spanning tree by the exponential mechanism: pairs far from what independent columns would have."""
    import numpy as np

    weights = {}
    for place, first in enumerate(names):
        for second in names[:place]:
            left, right = np.maximum(singles[first], 0), np.maximum(singles[second], 0)
            expected = np.outer(left, right) / max(left.sum(), 1.0)
            weights[first, second] = float(np.abs(joint(codes, singles, first, second) - expected).sum())
    epsilon = math.sqrt(8 * rho / max(1, len(names) - 1))
    part, tree = {name: name for name in names}, list[tuple[str, str]]()
    while len(tree) < len(names) - 1:
        apart = [pair for pair in weights if part[pair[0]] != part[pair[1]]]
        scores = [weights[pair] * epsilon / 2 + random.gumbel() for pair in apart]
        first, second = apart[int(np.argmax(scores))]
        tree.append((first, second))
        old, new = part[first], part[second]
        part = {name: new if each == old else each for name, each in part.items()}
    return tree


def rho_of(epsilon: float, delta: float) -> float:
    """Return the largest rho of zCDP that is (epsilon, delta) private (Canonne, Kamath and Steinke 2020)."""
    orders = [1 + 10 ** (step / 100) for step in range(-300, 400)]

    def spent(rho: float) -> float:
        return min(
            math.exp(min(700.0, (a - 1) * (a * rho - epsilon) + a * math.log1p(-1 / a))) / (a - 1) for a in orders
        )

    low, high = 0.0, epsilon + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) <= delta else (low, middle)
    return low
