"""Preference by people: a page with pairs of records whose sides are hidden, and what the raters' answers say.

Source: Zhou et al. (arXiv 2411.03250), human evaluation of tools: which of two records of a category is better, or
neither. The page is one file that needs no network. Which record is whose stands in a key file that raters do not get.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from difflm.artifacts.atomic import write_bytes_atomic
from difflm.config import Config
from difflm.errors import DataError
from difflm.telemetry import JSON
from difflm_evaluators.base import Direction, Evaluation, Score
from difflm_evaluators.judge.preference import Pair
from difflm_evaluators.judge.questions import Record
from difflm_evaluators.judge.statistics import agreement, share_estimate
from difflm_evaluators.report.rendering import html_templates

FORMAT_VERSION: Literal[1] = 1
QUESTION = "Which of the two is the better record of its kind? If neither is, say so."
MAX_ANSWERS_BYTES = 16 << 20

ConfigT = TypeVar("ConfigT", bound=Config)
Choice = Literal["left", "right", "equal"]
_CHOICES: tuple[Choice, ...] = ("left", "right", "equal")
Verdict = Literal["A", "B", "equal"]
_CODES: Mapping[Verdict, float] = {"A": 0.0, "B": 1.0, "equal": 2.0}


class ShownPair(Config):
    """Where the records of one pair stood, and of which category they are."""

    id: str
    category: str
    left: Literal["A", "B"]


class PairsKey(Config):
    """Which side is whose: what is needed to read the answers."""

    format_version: Literal[1] = FORMAT_VERSION
    page: str = Field(description="hash of the pairs, which the page's answers carry too")
    a: str
    b: str
    pairs: tuple[ShownPair, ...]


class PairAnswers(Config):
    """The answers of one rater, as the page saves them: the choice for every pair that was looked at, by its id."""

    model_config = ConfigDict(extra="ignore")

    format_version: Literal[1]
    page: str
    rater: str = Field(min_length=1, max_length=200)
    answers: dict[str, Choice]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsPage:
    """The page for raters and its key."""

    html: str
    key: PairsKey


def make_page(pairs: Sequence[Pair], *, a: str, b: str, seed: int, question: str) -> PairsPage:
    """Lay out pairs, one record of each side, in random order and with random sides.

    `a` and `b` name the two sides in the key; the page says neither.
    """
    generator = random.Random(f"{seed}/sides")
    order = list(pairs)
    generator.shuffle(order)
    shown: list[dict[str, JSON]] = []
    key: list[ShownPair] = []
    for number, pair in enumerate(order, start=1):
        left: Literal["A", "B"] = generator.choice(("A", "B"))
        records = {"A": pair.a[0], "B": pair.b[0]}
        sides = (records[left], records["B" if left == "A" else "A"])
        name = f"pair-{number:04d}"
        shown.append({"id": name, "category": pair.category, "records": [_rows(record) for record in sides]})
        key.append(ShownPair(id=name, category=pair.category, left=left))
    page = hashlib.sha256(json.dumps([seed, shown], sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    data = json.dumps({"format_version": FORMAT_VERSION, "page": page, "pairs": shown}, ensure_ascii=False)
    text = html_templates().get_template("pairs.html.j2").render(question=question, data=_in_script(data))
    return PairsPage(html=text, key=PairsKey(page=page, a=a, b=b, pairs=tuple(key)))


def _rows(record: Record) -> list[JSON]:
    """Return names and texts of a record's fields; nothing says which row it was."""
    return [
        [name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)]
        for name, value in record.fields.items()
        if value is not None
    ]


def _in_script(data: str) -> str:
    """Escape JSON so that nothing in it ends the script element or starts a comment."""
    return (
        data.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )


def read_key(path: Path) -> PairsKey:
    """Read a key file.

    Raises:
        DataError: the file is none, naming what is wrong.
    """
    return _read(path, PairsKey, "a key that difflm judge export-pairs wrote")


def read_answers(path: Path, key: PairsKey) -> PairAnswers:
    """Read the answers that a page saved.

    Raises:
        DataError: the file is none, or belongs to another page, naming what is wrong.
    """
    found = _read(path, PairAnswers, "answers that the page saved")
    if found.page != key.page:
        raise DataError(
            f"{path}: answers to the page {found.page}, and the key is that of {key.page}; give the key that was "
            "written beside the page the raters had"
        )
    unknown = sorted(found.answers.keys() - {pair.id for pair in key.pairs})
    if unknown:
        raise DataError(f"{path}: answers a pair {unknown[0]!r} that the page does not have; was the file edited?")
    return found


def _read(path: Path, kind: type[ConfigT], what: str) -> ConfigT:
    try:
        if path.stat().st_size > MAX_ANSWERS_BYTES:
            raise DataError(f"{path}: more than {MAX_ANSWERS_BYTES >> 20} MiB; give {what}")
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give {what}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']}; give {what}") from error


def evaluate_answers(key: PairsKey, raters: Sequence[PairAnswers]) -> Evaluation:
    """Score which side people prefer: shares of all answers with 95 % intervals, and how far raters agree.

    Raises:
        DataError: nobody answered anything, or two files are of one rater.
    """
    names = Counter(rater.rater for rater in raters)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(f"two files hold the answers of {twice[0]!r}; give one file per rater")
    sides = {pair.id: pair for pair in key.pairs}
    votes = {pair.id: [_meant(rater.answers.get(pair.id), pair) for rater in raters] for pair in key.pairs}
    given = [vote for row in votes.values() for vote in row if vote is not None]
    if not given:
        raise DataError("none of the files holds an answer; were the pages saved after the last pair?")
    counts = Counter(given)
    lefts = Counter(choice for rater in raters for choice in rater.answers.values())
    together = agreement(
        [[None if vote is None else _CODES[vote] for vote in row] for row in votes.values()], "nominal"
    )
    skipped = len(votes) * len(raters) - len(given)
    warning = f"{skipped:,} of {len(votes) * len(raters):,} answers are missing" if skipped else None
    details: dict[str, JSON] = {
        "a": key.a,
        "b": key.b,
        "raters": [{"rater": rater.rater, "answers": len(rater.answers), **_tally(rater, sides)} for rater in raters],
        "agreement": {"choice": together.to_json()},
        "sides": {choice: lefts[choice] for choice in _CHOICES},
        "pairs": [
            {"pair": name, "category": sides[name].category, "votes": list[JSON](row)} for name, row in votes.items()
        ],
    }
    scores = [
        _share("people_prefer_a", f"People: prefer {key.a}", "answers", "higher", counts["A"], len(given), warning),
        _share("people_equal", "People: equal", "answers without a preference", "target", counts["equal"], len(given)),
        _share("people_prefer_b", f"People: prefer {key.b}", "answers", "lower", counts["B"], len(given)),
        Score(
            name="people_agreement",
            title="People: agreement",
            meaning="Krippendorff's alpha of the raters: 1 is perfect, 0 what chance would give",
            value=together.alpha,
            direction="higher",
            bounds=(-1.0, 1.0),
            ideal=1.0,
            undefined_because=together.undefined_because,
        ),
    ]
    return Evaluation(name="people_preference", scores=tuple(scores), details=details)


def _meant(choice: Choice | None, pair: ShownPair) -> Verdict | None:
    if choice is None or choice == "equal":
        return choice
    return pair.left if choice == "left" else ("B" if pair.left == "A" else "A")


def _tally(rater: PairAnswers, sides: Mapping[str, ShownPair]) -> dict[str, JSON]:
    counts = Counter(_meant(choice, sides[name]) for name, choice in rater.answers.items())
    return {"prefers_a": counts["A"], "equal": counts["equal"], "prefers_b": counts["B"]}


def _share(
    name: str, title: str, meaning: str, direction: Direction, hits: int, count: int, warning: str | None = None
) -> Score:
    estimate = share_estimate(hits, count)
    return Score(
        name=name,
        title=title,
        meaning=meaning,
        value=estimate.value,
        direction=direction,
        unit="%",
        bounds=(0.0, 100.0),
        standard_error=estimate.standard_error,
        interval=estimate.interval,
        warning=warning,
    )


def write_page(page: PairsPage, path: Path) -> Path:
    """Write the page and, beside it, its key; return the key's path.

    Raises:
        DataError: the key of another page is there, whose raters' answers could be read no more.
    """
    key = path.with_name(f"{path.stem}.key.json")
    if key.exists() and read_key(key).page != page.key.page:
        raise DataError(f"{key}: is the key of another page, which raters may have; give another --out, or remove it")
    write_bytes_atomic(path, page.html.encode("utf-8", "replace"))
    write_bytes_atomic(key, page.key.model_dump_json(indent=1).encode())
    return key
