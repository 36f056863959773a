"""Near-duplicate texts: MinHash finds candidates (Broder 1997, library datasketch), the exact Jaccard index decides.

Two texts are near-duplicates when their sets of `SHINGLE` successive words and signs have a Jaccard index of at least
the threshold. Candidates come from locality-sensitive hashing with 32 bands of 4 hashes, which misses a pair of Jaccard
index s with probability (1 - s^4)^32: 5e-8 at 0.8, 1 % at 0.6, 13 % at 0.5. What it finds is checked, so nothing is
called a near-duplicate that is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 5
PERMUTATIONS = 128
BANDS = (32, 4)  # 32 bands of 4 hashes
_WORD = re.compile(r"\w+|[^\w\s]")


def shingles(text: str) -> frozenset[str]:
    """Every run of `SHINGLE` words and signs; a shorter text is one shingle. White space counts for nothing."""
    words = _WORD.findall(text)
    return frozenset(" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
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
        """The index of these texts."""
        index = cls(threshold)
        for shingled, hashed in zip(*_hashed(texts), strict=True):
            index._add(shingled, hashed)
        return index

    def near(self, texts: Sequence[str]) -> list[int | None]:
        """For every text the position of the most similar text of the index, None without a near-duplicate."""
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
        """For every text the most similar earlier one that is no repeat itself, None for those worth keeping."""
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
