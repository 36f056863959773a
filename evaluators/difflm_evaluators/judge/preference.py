"""Preference between two data sets, category by category: A, B or equal, asked in both orders.

Source: Zhou et al. (arXiv 2411.03250), evaluation of tool generation. The paper's code asks each category once, in an
order drawn at random; here both orders are asked, and a side has a category only when it wins in both.

Pairs for a preference judge: records of two data sets side by side, by a category or drawn at random.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from difflm.errors import DataError
from difflm.telemetry import JSON
from difflm_evaluators.base import Direction, Evaluation, Score
from difflm_evaluators.judge.answers import Answers
from difflm_evaluators.judge.questions import SYSTEM, Question, Record, form, shown
from difflm_evaluators.judge.statistics import SampleMean, agreement, mean_estimate, share_estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The records that both sides have of one category."""

    category: str
    a: Sequence[Record]
    b: Sequence[Record]


def pairs_by_column(
    a: Sequence[Record], b: Sequence[Record], column: str, *, most: int, seed: int
) -> tuple[list[Pair], dict[str, list[str]]]:
    """Pairs of the categories in `column`, at most `most` records drawn of each side; and categories one side lacks.

    Raises:
        DataError: no category is on both sides.
    """
    grouped = [_grouped(records, column) for records in (a, b)]
    shared = [category for category in grouped[0] if category in grouped[1]]
    if not shared:
        raise DataError(f"no value of the column {column!r} is in both files; give another column with --category")
    pairs = []
    for category in shared:
        in_a, in_b = (side[category] for side in grouped)
        drawn = (_draw(in_a, most, f"{seed}/A/{category}"), _draw(in_b, most, f"{seed}/B/{category}"))
        pairs.append(Pair(category=category, a=drawn[0], b=drawn[1]))
    left_out = {
        "only in A": [category for category in grouped[0] if category not in grouped[1]],
        "only in B": [category for category in grouped[1] if category not in grouped[0]],
    }
    return pairs, left_out


def pairs_at_random(a: Sequence[Record], b: Sequence[Record], *, groups: int, most: int, seed: int) -> list[Pair]:
    """Draw `groups` pairs of at most `most` records each, for records without categories; no record is shown twice.

    Raises:
        DataError: a side has fewer records than groups.
    """
    for name, records in (("A", a), ("B", b)):
        if len(records) < groups:
            raise DataError(f"{name} has {len(records):,} records, too few for {groups:,} groups; give fewer --groups")
    size = min(most, len(a) // groups, len(b) // groups)
    drawn = [_draw(records, groups * size, f"{seed}/{name}") for records, name in ((a, "A"), (b, "B"))]
    return [
        Pair(
            category=f"group {index + 1}",
            a=drawn[0][index * size : (index + 1) * size],
            b=drawn[1][index * size : (index + 1) * size],
        )
        for index in range(groups)
    ]


def single_pairs(a: Sequence[Record], b: Sequence[Record], column: str, *, most: int, seed: int) -> list[Pair]:
    """Draw at most `most` pairs of one record each, of categories that both sides have; no record is shown twice.

    Raises:
        DataError: no category is on both sides.
    """
    whole, _ = pairs_by_column(a, b, column, most=max(len(a), len(b)), seed=seed)
    singles = [
        Pair(category=pair.category, a=[one], b=[other])
        for pair in whole
        for one, other in zip(pair.a, pair.b, strict=False)
    ]
    return random.Random(f"{seed}/pairs").sample(singles, min(most, len(singles)))


def _grouped(records: Sequence[Record], column: str) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        category = record.fields.get(column)
        if category is not None:
            groups.setdefault(str(category), []).append(record)
    return groups


def _draw(records: Sequence[Record], most: int, seed: str) -> list[Record]:
    return random.Random(seed).sample(list(records), min(most, len(records)))


Verdict = Literal["A", "B", "equal"]
A_FIRST, B_FIRST = "A first", "B first"
_CODES: Mapping[Verdict, float] = {"A": 0.0, "B": 1.0, "equal": 2.0}


class Preferred(BaseModel):
    """The reply: which of the two sets is better, by the order they are shown in."""

    reason: str
    better: Literal["first", "second", "equal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceProtocol:
    """Which side is better, in how many categories. `left_out` are categories that one side lacks, by that side."""

    pairs: Sequence[Pair]
    left_out: Mapping[str, Sequence[str]]
    name: str = "preference"

    @property
    def answer_model(self) -> type[BaseModel]:
        """Reason and choice."""
        return Preferred

    def questions(self, repeats: int) -> list[Question]:
        """Ask two per pair and repeat."""
        return [
            Question(
                item=pair.category,
                variant=order,
                repeat=repeat,
                system=SYSTEM,
                user=_prompt(pair.category, *((pair.a, pair.b) if order == A_FIRST else (pair.b, pair.a))),
            )
            for repeat in range(repeats)
            for pair in self.pairs
            for order in (A_FIRST, B_FIRST)
        ]

    def evaluate(self, answers: Answers, repeats: int) -> Evaluation:
        """Score the shares of the categories that were answered in both orders, and what the order did."""
        votes = {pair.category: _votes(pair.category, answers, repeats) for pair in self.pairs}
        verdicts = {category: verdict for category, both in votes.items() if (verdict := _verdict(both)) is not None}
        estimates = _estimates(list(verdicts.values()), [votes[category] for category in verdicts])
        ratings = [
            [None if vote is None else _CODES[vote] for vote in order] for both in votes.values() for order in both
        ]
        details: dict[str, JSON] = {
            "estimates": {name: estimate.to_json() for name, estimate in estimates.items()},
            "agreement": {"choice": agreement(ratings, "nominal").to_json()},
            "votes": dict(Counter(v for both in votes.values() for order in both for v in order if v is not None)),
            "categories": [{"category": name, "verdict": verdicts.get(name)} for name in votes],
            "left_out": {side: list(names) for side, names in self.left_out.items()},
        }
        scores = tuple(self._score(meaning, estimates.get(meaning.name), len(verdicts)) for meaning in _MEANINGS)
        return Evaluation(name="judge_preference", scores=scores, details=details)

    def _score(self, meaning: _Meaning, estimate: SampleMean | None, answered: int) -> Score:
        missing = len(self.pairs) - answered
        warning = f"{missing:,} of {len(self.pairs):,} categories have no readable answer in both orders"
        return Score(
            name=meaning.name,
            title=meaning.title,
            meaning=meaning.meaning,
            value=None if estimate is None else estimate.value,
            direction=meaning.direction,
            unit="%",
            bounds=(meaning.low, 100.0),
            ideal=meaning.ideal,
            standard_error=None if estimate is None else estimate.standard_error,
            undefined_because=None if estimate else "no category has a readable answer in both orders",
            warning=warning if missing and estimate is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """What a score of this protocol says, whatever its value."""

    name: str
    title: str
    meaning: str
    direction: Direction
    low: float = 0.0
    ideal: float | None = None


_MEANINGS = (
    _Meaning(
        name="judge_prefers_a",
        title="Judge: prefers A",
        meaning="categories in which A is better in both orders",
        direction="higher",
    ),
    _Meaning(
        name="judge_equal",
        title="Judge: equal",
        meaning="categories without a side that is better in both orders",
        direction="target",
    ),
    _Meaning(
        name="judge_prefers_b",
        title="Judge: prefers B",
        meaning="categories in which B is better in both orders",
        direction="lower",
    ),
    _Meaning(
        name="judge_position_bias",
        title="Judge: position bias",
        meaning="how much more often the set shown first is preferred than the one shown second",
        direction="target",
        low=-100.0,
        ideal=0.0,
    ),
    _Meaning(
        name="judge_consistency",
        title="Judge: consistency",
        meaning="categories with the same verdict in both orders",
        direction="higher",
        ideal=100.0,
    ),
)

_Votes = tuple[list[Verdict | None], list[Verdict | None]]
"""The repeats with A first, and those with B first."""


def _prompt(category: str, first: Sequence[Record], second: Sequence[Record]) -> str:
    return "\n".join(
        [
            "Two sets of tools, or of other records, are meant for the same category. Say which set serves it better.",
            "Weigh: how much of what the category needs a set covers; how clear and correct its descriptions are; how",
            "easily its members can be used, given the inputs they ask for; and the quality of the whole. The order of",
            "the sets means nothing, nor does mere length.",
            "",
            shown("category", category),
            shown("first", [dict(record.fields) for record in first]),
            shown("second", [dict(record.fields) for record in second]),
            "",
            form(
                [
                    ("reason", "what decides it, in at most three sentences"),
                    ("better", '"first", "second", or "equal" if neither is clearly better'),
                ]
            ),
        ]
    )


def _votes(category: str, answers: Answers, repeats: int) -> _Votes:
    meant: tuple[dict[str, Verdict], dict[str, Verdict]] = (
        {"first": "A", "second": "B", "equal": "equal"},
        {"first": "B", "second": "A", "equal": "equal"},
    )
    found: list[list[Verdict | None]] = []
    for order, sides in zip((A_FIRST, B_FIRST), meant, strict=True):
        values = [answers.values(category, order, repeat) for repeat in range(repeats)]
        found.append([None if value is None else sides[value["better"]] for value in values])
    return found[0], found[1]


def _majority(votes: Sequence[Verdict | None]) -> Verdict | None:
    """Return what most repeats answer, `equal` when two are level, None without any."""
    ranked = Counter(vote for vote in votes if vote is not None).most_common(2)
    if not ranked:
        return None
    return "equal" if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _verdict(orders: _Votes) -> Verdict | None:
    first, second = _majority(orders[0]), _majority(orders[1])
    if first is None or second is None:
        return None
    return first if first == second else "equal"


def _bias(orders: _Votes) -> float:
    """100 when the first set always wins, -100 when the second does; both orders weigh the same."""
    shares = []
    for votes, first, second in ((orders[0], "A", "B"), (orders[1], "B", "A")):
        given = [vote for vote in votes if vote is not None]
        shares.append((given.count(first) - given.count(second)) / len(given))  # type: ignore[arg-type]
    return 100 * sum(shares) / len(shares)


def _estimates(verdicts: Sequence[Verdict], votes: Sequence[_Votes]) -> dict[str, SampleMean]:
    """By the names of scores; empty without a single verdict."""
    count = len(verdicts)
    if not count:
        return {}
    same = sum(_majority(orders[0]) == _majority(orders[1]) for orders in votes)
    return {
        "judge_prefers_a": share_estimate(verdicts.count("A"), count),
        "judge_equal": share_estimate(verdicts.count("equal"), count),
        "judge_prefers_b": share_estimate(verdicts.count("B"), count),
        "judge_position_bias": mean_estimate([_bias(orders) for orders in votes], -100, 100),
        "judge_consistency": share_estimate(same, count),
    }
