"""What scores of texts have in common: shares in percent, and copies and near-copies within and against training.

Near-duplicate texts: MinHash finds candidates (Broder 1997, library datasketch), the exact Jaccard index decides.

Two texts are near-duplicates when their sets of `SHINGLE` successive words and signs have a Jaccard index of at least
the threshold. Candidates come from locality-sensitive hashing with 32 bands of 4 hashes, which misses a pair of Jaccard
index s with probability (1 - s^4)^32: 5e-8 at 0.8, 1 % at 0.6, 13 % at 0.5. What it finds is checked, so nothing is
called a near-duplicate that is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from difflm_evaluators.base import TEST_LABEL, Score

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 5
PERMUTATIONS = 128
BANDS = (32, 4)  # 32 bands of 4 hashes
_WORD = re.compile(r"\w+|[^\w\s]")


def shingles(text: str) -> frozenset[str]:
    """List every run of `SHINGLE` words and signs; a shorter text is one shingle. White space counts for nothing."""
    words = _WORD.findall(text)
    return frozenset(" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the size of the intersection over that of the union; 1 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


class NearDuplicates:
    """An index of texts that answers whether another text is nearly one of them. Memory grows with the texts."""

    def __init__(self, threshold: float = 0.8) -> None:
        if not 0.5 <= threshold <= 1.0:
            raise ValueError(f"threshold is {threshold}; give a number from 0.5 to 1")
        from datasketch import MinHashLSH  # slow to import

        self.threshold = threshold
        self._lsh = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
        self._sets: list[frozenset[str]] = []

    @classmethod
    def of(cls, texts: Sequence[str], threshold: float = 0.8) -> Self:
        """Build the index of these texts."""
        index = cls(threshold)
        for shingled, hashed in zip(*_hashed(texts), strict=True):
            index._add(shingled, hashed)
        return index

    def near(self, texts: Sequence[str]) -> list[int | None]:
        """Find, for every text, the position of the most similar text of the index, None without a near-duplicate."""
        return [self._nearest(shingled, hashed) for shingled, hashed in zip(*_hashed(texts), strict=True)]

    def _add(self, shingled: frozenset[str], hashed: MinHash) -> None:
        self._lsh.insert(len(self._sets), hashed)
        self._sets.append(shingled)

    def _nearest(self, shingled: frozenset[str], hashed: MinHash) -> int | None:
        found = [(jaccard(shingled, self._sets[place]), -place) for place in self._lsh.query(hashed)]
        alike, place = max(found, default=(0.0, 0))
        return -place if alike >= self.threshold else None

    @classmethod
    def repeats(cls, texts: Sequence[str], threshold: float = 0.8) -> list[int | None]:
        """Find, for every text, the most similar earlier one that is no repeat itself, None for those worth keeping."""
        index, kept, out = cls(threshold), list[int](), list[int | None]()
        for position, (shingled, hashed) in enumerate(zip(*_hashed(texts), strict=True)):
            nearest = index._nearest(shingled, hashed)
            out.append(None if nearest is None else kept[nearest])
            if nearest is None:
                index._add(shingled, hashed)
                kept.append(position)
        return out


def _hashed(texts: Sequence[str]) -> tuple[list[frozenset[str]], list[MinHash]]:
    from datasketch import MinHash  # slow to import

    sets = [shingles(text) for text in texts]
    words = ([word.encode() for word in sorted(shingled)] for shingled in sets)
    return sets, list(MinHash.bulk(words, num_perm=PERMUTATIONS, seed=1))


class CopiesConfig(BaseModel):
    """What the scores of copies leave open."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    near_duplicate: float = Field(default=0.8, ge=0.5, le=1)
    """Jaccard index from which two records count as near-duplicates."""


COPY_MARGIN = 5.0
"""Percent points above the real test split from which near-copies are a warning."""


def share_score(
    name: str,
    title: str,
    meaning: str,
    flags: Sequence[bool],
    real: Sequence[bool] | None,
    *,
    direction: Literal["lower", "higher", "target"] = "higher",
    undefined: str = "there is nothing to count",
    warning: str | None = None,
) -> Score:
    """Score the percentage of true flags, with that of the real test split beside it; undefined without any."""
    return Score(
        name=name,
        title=title,
        meaning=meaning,
        value=percentage(flags),
        direction=direction,
        unit="%",
        bounds=(0, 100),
        ideal={"lower": 0.0, "higher": 100.0}.get(direction),
        baseline=percentage(real) if real else None,
        baseline_label=TEST_LABEL if real else None,
        undefined_because=None if flags else undefined,
        warning=warning,
    )


def percentage(flags: Sequence[bool]) -> float | None:
    """Return the percentage of true flags, None for none."""
    return 100 * sum(flags) / len(flags) if flags else None


def copy_scores(
    synthetic: Sequence[str], train: Sequence[str], test: Sequence[str] | None, *, threshold: float
) -> tuple[list[Score], dict[int, int]]:
    """Score repeats, exact and near copies of training, and what is new; with the near copies' training positions."""
    within = [place is not None for place in NearDuplicates.repeats(synthetic, threshold)]
    real_within = [place is not None for place in NearDuplicates.repeats(test, threshold)] if test else None
    exact = {_bare(text) for text in train}
    copies = [_bare(text) in exact for text in synthetic]
    real_copies = [_bare(text) in exact for text in test] if test else None
    index = NearDuplicates.of(train, threshold)
    nearest = index.near(synthetic)
    near = [place is not None for place in nearest]
    real_near = [place is not None for place in index.near(test)] if test else None
    rule = f"Jaccard index of 5-word shingles at least {threshold:g}"
    scores = [
        share_score(
            "near_duplicate_share",
            "Near-duplicates within",
            f"Records nearly equal to an earlier one of the same set ({rule}).",
            within,
            real_within,
            direction="lower",
        ),
        share_score(
            "exact_copy_share",
            "Copies of training",
            "Records equal to a training record but for white space at their ends and at the ends of lines.",
            copies,
            real_copies,
            direction="lower",
        ),
        share_score(
            "near_copy_share",
            "Near-copies of training",
            f"Records nearly equal to a training record ({rule}); the others are new.",
            near,
            real_near,
            direction="lower",
            warning=_warning(percentage(near), percentage(real_near) if real_near else None),
        ),
    ]
    return scores, {place: found for place, found in enumerate(nearest) if found is not None}


def _warning(value: float | None, real: float | None) -> str | None:
    usual = 0.0 if real is None else real
    if value is None or value <= usual + COPY_MARGIN:
        return None
    beside = "" if real is None else f", {real:.1f} % of real test records are"
    return f"{value:.1f} % of the records are near-copies of training records{beside}: look before you share them"


def _bare(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
