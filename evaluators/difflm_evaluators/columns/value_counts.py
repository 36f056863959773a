"""How often each distance occurred: exact up to 131,072 different ones, then rounded, in bounded memory.

When there are too many different values, all are rounded down to fewer significant bits, one bit less at a time, until
they fit. The grids are nested, so the level that is reached depends on the values alone: any split and any merging give
the same counts, which sketches with internal randomness (KLL, t-digest) do not promise. Rounding to B significant bits
moves a value, and so every quantile, down by less than 2 ** (1 - B) of itself (uniform collapse as in UDDSketch,
Epicoco et al. 2020, but on the floats' own grid). With 131,072 places and distances over a thousandfold range that is
about 1e-4. Shapes: K different values.

How many distinct rows there were, from the smallest hashes: exact up to a million, then with a stated error.

The k smallest hashes seen are kept with their counts (Bar-Yossef et al. 2002, "Counting distinct elements in a data
stream"). Up to k distinct hashes all is exact, but for two rows that share a 64-bit hash (chance 3e-8 for a million).
Beyond, the number of distinct rows is estimated by (k - 1) / (the largest hash kept, as a share of the range), which is
unbiased with a relative standard error of at most 1 / sqrt(k - 2) (Beyer et al. 2007). What is kept depends only on the
set of hashes and not on their order, so that any split and any merging give the same result; usual sketches with
internal randomness do not promise that.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import FloatArray, IntArray
from difflm_evaluators.columns.row_keys import HashArray

MAX_VALUES = 2**17  # 1.5 MiB
FLOAT32_BITS = 24


@dataclass(slots=True, kw_only=True)
class ValueCounts:
    """Non-negative float32 values, as ascending bit patterns, and how often each was seen."""

    most: int
    patterns_K: npt.NDArray[np.uint32]
    counts_K: IntArray
    dropped_bits: int = 0

    @classmethod
    def empty(cls, most: int = MAX_VALUES) -> "ValueCounts":
        """Nothing seen."""
        return cls(most=most, patterns_K=np.zeros(0, dtype=np.uint32), counts_K=np.zeros(0, dtype=np.int64))

    def update(self, values_N: npt.NDArray[np.float32]) -> None:
        """Add values, which are not negative."""
        patterns_N = np.ascontiguousarray(values_N, dtype=np.float32).view(np.uint32)
        self._count(patterns_N, np.ones(len(patterns_N), dtype=np.int64))

    def merge(self, other: "ValueCounts") -> None:
        """Take over what `other` has seen."""
        self.dropped_bits = max(self.dropped_bits, other.dropped_bits)
        self._count(other.patterns_K, other.counts_K)

    def _count(self, patterns_N: npt.NDArray[np.uint32], counts_N: IntArray) -> None:
        patterns, counts = np.concatenate([self.patterns_K, patterns_N]), np.concatenate([self.counts_K, counts_N])
        while True:
            coarse = patterns >> np.uint32(self.dropped_bits) << np.uint32(self.dropped_bits)
            self.patterns_K, place = np.unique(coarse, return_inverse=True)
            if len(self.patterns_K) <= self.most:
                break
            self.dropped_bits += 1
        self.counts_K = np.zeros(len(self.patterns_K), dtype=np.int64)
        np.add.at(self.counts_K, place, counts)

    @property
    def values_K(self) -> FloatArray:
        """The different values, ascending."""
        return self.patterns_K.view(np.float32).astype(np.float64)

    @property
    def total(self) -> int:
        """How many values were seen."""
        return int(self.counts_K.sum())

    @property
    def relative_error(self) -> float:
        """By what share of itself a value may have been rounded down; 0 while counts are exact."""
        return 0.0 if self.dropped_bits == 0 else 2.0 ** (1 - (FLOAT32_BITS - self.dropped_bits))

    def quantile(self, share: float) -> float:
        """Compute the `share` quantile, linear between neighbours as numpy's; there are values."""
        place = share * (self.total - 1)
        below, above = (self._ordered(int(np.floor(place))), self._ordered(int(np.ceil(place))))
        return below + (above - below) * float(place - np.floor(place))

    def _ordered(self, rank: int) -> float:
        return float(self.values_K[np.searchsorted(np.cumsum(self.counts_K), rank, side="right")])

    def share_within(self, limit: float) -> float:
        """Share of the values at most `limit`; there are values."""
        return float(self.counts_K[self.values_K <= limit].sum()) / self.total

    def shares(self, edges: FloatArray) -> list[float]:
        """Share of the values in each bin, those beyond the last edge in the last bin."""
        counts, _ = np.histogram(np.minimum(self.values_K, edges[-1]), bins=edges, weights=self.counts_K)
        return [float(count) / self.total for count in counts]


MAX_HASHES = 2**20  # 16 MiB


@dataclass(slots=True, kw_only=True)
class DistinctRows:
    """The smallest hashes, ascending, and how often each was seen."""

    most: int
    hashes_K: HashArray
    counts_K: IntArray
    complete: bool = True

    @classmethod
    def empty(cls, most: int = MAX_HASHES) -> "DistinctRows":
        """Nothing seen."""
        return cls(most=most, hashes_K=np.zeros(0, dtype=np.uint64), counts_K=np.zeros(0, dtype=np.int64))

    def update(self, hashes_N: HashArray) -> None:
        """Add rows."""
        self._count(*np.unique(hashes_N, return_counts=True))

    def merge(self, other: "DistinctRows") -> None:
        """Take over what `other` has seen."""
        self.complete = self.complete and other.complete
        self._count(other.hashes_K, other.counts_K)

    def _count(self, hashes_D: HashArray, counts_D: IntArray) -> None:
        """Add distinct ascending hashes. A hash that is dropped is larger than those kept, now and ever after."""
        place_D = np.searchsorted(self.hashes_K, hashes_D)
        known_D = np.zeros(len(hashes_D), dtype=bool)
        inside_D = place_D < len(self.hashes_K)
        known_D[inside_D] = self.hashes_K[place_D[inside_D]] == hashes_D[inside_D]
        self.counts_K[place_D[known_D]] += counts_D[known_D]
        hashes_K = np.insert(self.hashes_K, place_D[~known_D], hashes_D[~known_D])
        counts_K = np.insert(self.counts_K, place_D[~known_D], counts_D[~known_D])
        self.complete = self.complete and len(hashes_K) <= self.most
        self.hashes_K, self.counts_K = hashes_K[: self.most], counts_K[: self.most]

    @property
    def distinct(self) -> float:
        """How many distinct rows there were; exact while `complete`."""
        if self.complete:
            return float(len(self.hashes_K))
        return (self.most - 1) / (float(self.hashes_K[-1]) / 2.0**64)

    @property
    def relative_error(self) -> float:
        """Standard error of `distinct` as a share of it; 0 while it is exact."""
        return 0.0 if self.complete else float(1 / np.sqrt(self.most - 2))
