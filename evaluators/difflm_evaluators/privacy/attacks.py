"""Singling out, linkability and attribute inference: what somebody does with synthetic rows and parts of real ones.

The attacks are those of Anonymeter (Giomi et al. 2023, arXiv 2211.10459). Its package needs an older numpy and pyarrow,
so they are written here, and `tests/benchmarks/anonymeter.py` makes both on the same rows. Each is made on training
rows and, as its control, on real rows that nobody learned from:

- singling out: predicates that are true of exactly one synthetic row hit where they are true of exactly one real row;
- linkability: of a real row the attacker has two halves of the columns, apart from each other, and takes them for one
  person's where both have the same nearest synthetic row;
- attribute inference: of a real row all columns but one are known, and the nearest synthetic row tells that one; right
  is the same category, or a number within 5 %, but no farther than 5 % of the width of the column: of years every guess
  is within 5 %. Each column in turn is the one.

What is scored is the risk, the share of what the control leaves to be found (`risks`). Nearest is by Gower's distance:
numbers by the range of the synthetic rows, at most 1, and 1 for another category. Free text has none.

Shapes: A attacked rows, B of them at once, R synthetic rows, C columns, S secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.columns.columns import Columns, FloatArray, IntArray, draw_rows, row_count
from difflm_evaluators.privacy.membership import NORMAL_95
from difflm_evaluators.privacy.risks import MOST_CONTROL, AttackedColumn, Rate, Risk, attacked_columns
from difflm_evaluators.privacy.singling_out import singling_out

FEWEST: Final = 50
NEAR_ENOUGH: Final = 0.05
"""A number that is guessed is right within this share of itself, and of the middle 95 % of its column."""
_MAX_CELLS: Final = 2**19
"""Synthetic rows times columns: there are fewer rows to be near to where there are very many columns."""
_BLOCK_CELLS: Final = 2**22

ABOUT: Final = {
    "singling_out": (
        "Singling out",
        "How much more often what is true of one synthetic row is true of one training row than of one unseen row.",
    ),
    "linkability": (
        "Linkability",
        "How much more often the synthetic rows join two halves of a training row than two halves of an unseen row.",
    ),
    "attribute_inference": (
        "Attribute inference",
        "How much more often the synthetic rows tell a value of a training row than a value of an unseen row.",
    ),
}


class AttacksConfig(BaseModel):
    """So many rows of each side are attacked, with at most `max_rows` synthetic rows, drawn with `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: NonNegativeInt = 0
    attacks: Annotated[int, Field(ge=FEWEST)] = 1000
    max_rows: PositiveInt = 20_000
    max_real_rows: PositiveInt = 50_000
    max_secrets: PositiveInt = 20


def evaluate_attacks(synthetic: Columns, train: Columns, test: Columns | None, config: AttacksConfig) -> Evaluation:
    """Make the three attacks on training rows and on test rows; undefined without enough of either."""
    if test is None:
        return _evaluation({}, dict.fromkeys(ABOUT, "there is no control: the test split is missing or empty"))
    fewest = min(row_count(table) for table in (synthetic, train, test))
    if fewest < FEWEST:
        reason = f"there are {fewest} synthetic, training or test rows; an attack takes {FEWEST} of each"
        return _evaluation({}, dict.fromkeys(ABOUT, reason))
    random, reasons = np.random.default_rng(config.seed), dict[str, str]()
    columns = attacked_columns(draw_rows(synthetic, config.max_rows, random), train, test)
    near = [column for column in columns if column.distance]
    risks: dict[str, Risk] = {}
    easy = (
        f"the control is right in more than {100 * MOST_CONTROL:.0f} of 100 cases, which leaves too little to be found"
    )
    details: dict[str, JSON] = {}
    if columns:
        risk, predicates = singling_out(columns, config.attacks, config.max_real_rows, random)
        if predicates >= FEWEST:
            risks["singling_out"] = risk
        reasons["singling_out"] = f"only {predicates} predicates single out a synthetic row; it takes {FEWEST}"
    if len(near) >= 2:
        risks["linkability"], risks["attribute_inference"], secrets = by_neighbours(near, config)
        details = {"secrets": {name: found.to_json() for name, found in secrets.items()}}
        details |= {"worst": _worst(secrets)} if secrets else {}
    few = "it takes two columns that have a distance and are not the same in all rows"
    reasons |= {name: easy for name, risk in risks.items() if not risk.measured}
    risks = {name: risk for name, risk in risks.items() if risk.measured}
    return _evaluation(risks, {name: reasons.get(name, few) for name in ABOUT}, details)


def _worst(secrets: dict[str, Risk]) -> dict[str, JSON]:
    """Name the column that is surely told most; of many columns one is so by chance, and intervals are wider."""
    width = NormalDist().inv_cdf(1 - 0.025 / len(secrets)) / NORMAL_95
    name = max(secrets, key=lambda each: secrets[each].interval(width)[0])
    low, high = secrets[name].interval(width)
    return {"column": name, "risk": secrets[name].value, "interval": [low, high]}


def by_neighbours(columns: Sequence[AttackedColumn], config: AttacksConfig) -> tuple[Risk, Risk, dict[str, Risk]]:
    """Return the risks of linkability, of attribute inference, and that of every secret whose risk is measured."""
    random = np.random.default_rng((config.seed, 1))
    rows = len(columns[0].synthetic_R)
    kept_R = np.sort(random.permutation(rows)[: max(1, min(rows, _MAX_CELLS // len(columns)))])
    secrets = np.sort(random.permutation(len(columns))[: config.max_secrets])
    sides = []
    for side in ("train_N", "test_M"):
        values_CN = np.stack([getattr(column, side) for column in columns])
        chosen = np.sort(random.permutation(values_CN.shape[1])[: config.attacks])
        sides.append(_attacked(columns, kept_R, values_CN[:, chosen], secrets, np.random.default_rng((config.seed, 2))))
    linked, told = zip(*sides, strict=True)
    joined = [Rate.of(float(hit_A.sum()), len(hit_A)) for hit_A in linked]
    whole = [Rate.of_rows(hit_AS.mean(axis=1), hit_AS.shape[1]) for hit_AS in told]
    single = {
        columns[secret].name: Risk(
            attack=Rate.of(float(told[0][:, place].sum()), len(told[0])),
            control=Rate.of(float(told[1][:, place].sum()), len(told[1])),
        )
        for place, secret in enumerate(secrets.tolist())
    }
    measured = {name: risk for name, risk in single.items() if risk.measured}
    return Risk(attack=joined[0], control=joined[1]), Risk(attack=whole[0], control=whole[1]), measured


def _attacked(
    columns: Sequence[AttackedColumn],
    kept_R: IntArray,
    attacked_CA: FloatArray,
    secrets: IntArray,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which rows are linked, (A,), and which secrets of theirs are told, (A, S)."""
    distances = [_distance(column, column.synthetic_R[kept_R]) for column in columns]
    count = attacked_CA.shape[1]
    linked_A, told_AS = np.zeros(count, dtype=np.bool_), np.zeros((count, len(secrets)), dtype=np.bool_)
    step = max(1, _BLOCK_CELLS // (len(kept_R) * len(columns)))
    for first in range(0, count, step):
        block = slice(first, first + step)
        apart_CBR = np.stack([distance(attacked_CA[place, block]) for place, distance in enumerate(distances)])
        whole_BR = apart_CBR.sum(axis=0)
        half = random.permutation(len(columns))[: len(columns) // 2]
        half_BR = apart_CBR[half].sum(axis=0)
        linked_A[block] = half_BR.argmin(axis=1) == (whole_BR - half_BR).argmin(axis=1)
        for place, secret in enumerate(secrets.tolist()):
            nearest_B = (whole_BR - apart_CBR[secret]).argmin(axis=1)
            guess_B = columns[secret].synthetic_R[kept_R][nearest_B]
            told_AS[block, place] = _right(guess_B, attacked_CA[secret, block], columns[secret])
    return linked_A, told_AS


def _distance(column: AttackedColumn, synthetic_R: FloatArray) -> Callable[[FloatArray], npt.NDArray[np.float32]]:
    """Return what measures how far values (B,) are from those of the synthetic rows, (B, R)."""
    if not column.numeric:
        return lambda values_B: (values_B[:, None] != synthetic_R).astype(np.float32)
    present = synthetic_R[~np.isnan(synthetic_R)]
    low, span = (float(present.min()), float(np.ptp(present)) or 1.0) if len(present) else (0.0, 1.0)
    scaled_R = ((synthetic_R - low) / span).astype(np.float32)
    missing_R = np.isnan(scaled_R)

    def apart(values_B: FloatArray) -> npt.NDArray[np.float32]:
        scaled_B1 = ((values_B - low) / span).astype(np.float32)[:, None]
        found_BR: npt.NDArray[np.float32] = np.minimum(np.abs(scaled_B1 - scaled_R), np.float32(1))
        if missing_R.any() or np.isnan(scaled_B1).any():
            found_BR = np.where(np.isnan(scaled_B1) & missing_R, np.float32(0), np.nan_to_num(found_BR, nan=1.0))
        return found_BR

    return apart


def _right(guess_B: FloatArray, value_B: FloatArray, column: AttackedColumn) -> npt.NDArray[np.bool_]:
    right_B: npt.NDArray[np.bool_] = guess_B == value_B
    if column.numeric:
        right_B |= np.abs(guess_B - value_B) <= NEAR_ENOUGH * np.minimum(np.abs(value_B), column.width)
        right_B |= np.isnan(guess_B) & np.isnan(value_B)
    return right_B


def _evaluation(risks: dict[str, Risk], reasons: dict[str, str], details: dict[str, JSON] | None = None) -> Evaluation:
    scores = tuple(_score(name, risks.get(name), reasons[name]) for name in ABOUT)
    rates: dict[str, JSON] = {name: risk.to_json() for name, risk in risks.items()}
    return Evaluation(name="attacks", scores=scores, details={**(details or {}), **rates})


def _score(name: str, risk: Risk | None, reason: str) -> Score:
    title, meaning = ABOUT[name]
    return Score(
        name=name,
        title=title,
        meaning=f"{meaning} 0 is none.",
        value=risk.value if risk is not None else None,
        direction="lower",
        bounds=(0.0, 1.0),
        ideal=0.0,
        standard_error=risk.error / NORMAL_95 if risk is not None else None,
        interval=risk.interval() if risk is not None else None,
        undefined_because=reason if risk is None else None,
    )
