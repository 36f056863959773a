"""Moments of numeric columns by pairs, mergeable: Pearson's r over the rows where both values are present.

Per pair (i, j) and over its rows: their number, the means of both, the sums of squares and of products around these
means, and the ranges. Merging is the pairwise update of Chan, Golub and LeVeque (1983), which keeps what plain sums of
squares lose where the mean is large beside the spread. Each column is scaled by a power of two that no value exceeds,
which is exact, so that neither 1e300 nor 1e-300 overflows or vanishes. Shapes: N rows, M columns; entry [i, j] of an
(M, M) array is column i's figure over the rows where j is present too.

Mean and standard error of values that come in batches, mergeable (Chan, Golub and LeVeque 1983).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import FloatArray, IntArray


@dataclass(slots=True, kw_only=True)
class RunningMean:
    """Number, mean and sum of squares around the mean."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def update(self, values_N: FloatArray) -> None:
        """Add values."""
        if len(values_N):
            mean = float(values_N.mean())
            squares = float(((values_N - mean) ** 2).sum())
            self.merge(RunningMean(count=len(values_N), mean=mean, squares=squares))

    def merge(self, other: "RunningMean") -> None:
        """Take over what `other` has seen."""
        if other.count == 0:
            return
        count, apart = self.count + other.count, other.mean - self.mean
        self.mean += apart * other.count / count
        self.squares += other.squares + apart**2 * self.count * other.count / count
        self.count = count

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean; None for fewer than two values."""
        return float(np.sqrt(self.squares / (self.count - 1) / self.count)) if self.count > 1 else None


LARGEST_FACTOR = 1000  # exponent up to which a power of two and its inverse are normal doubles
SMALLEST = -1074  # exponent of the smallest double; that of a column without values


@dataclass(slots=True, kw_only=True)
class PairMoments:
    """Moments of M columns; in scaled values, which are the columns' own over 2 ** exponent_M."""

    exponent_M: IntArray
    count_MM: FloatArray
    mean_MM: FloatArray
    squares_MM: FloatArray
    products_MM: FloatArray
    low_MM: FloatArray
    high_MM: FloatArray

    @classmethod
    def empty(cls, columns: int) -> "PairMoments":
        """Moments of no rows."""
        shape = (columns, columns)
        return cls(
            exponent_M=np.full(columns, SMALLEST, dtype=np.int64),
            count_MM=np.zeros(shape),
            mean_MM=np.zeros(shape),
            squares_MM=np.zeros(shape),
            products_MM=np.zeros(shape),
            low_MM=np.full(shape, np.inf),
            high_MM=np.full(shape, -np.inf),
        )

    @classmethod
    def of(cls, values_NM: FloatArray) -> "PairMoments":
        """Moments of rows that are all at hand; NaN where a value is missing."""
        moments = cls.empty(values_NM.shape[1])
        if values_NM.size == 0:
            return moments
        there_NM = ~np.isnan(values_NM)
        if there_NM.all():
            return cls._of_whole(values_NM)
        filled_NM = np.where(there_NM, values_NM, 0.0)
        moments.exponent_M = _exponents(filled_NM)
        scaled_NM = _scaled(filled_NM, moments.exponent_M)
        moments.low_MM, moments.high_MM = _ranges(scaled_NM, there_NM)
        flag_NM = there_NM.astype(np.float64)
        moments.count_MM = flag_NM.T @ flag_NM
        # around each column's own mean first, so that little is subtracted below
        centre_M = scaled_NM.sum(axis=0) / np.maximum(1, there_NM.sum(axis=0))
        centred_NM = np.where(there_NM, scaled_NM - centre_M, 0.0)
        sum_MM = centred_NM.T @ flag_NM
        shift_MM = np.divide(sum_MM, moments.count_MM, out=np.zeros_like(sum_MM), where=moments.count_MM > 0)
        moments.mean_MM = centre_M[:, None] + shift_MM
        moments.squares_MM = np.maximum(0.0, (centred_NM**2).T @ flag_NM - moments.count_MM * shift_MM**2)
        moments.products_MM = centred_NM.T @ centred_NM - moments.count_MM * shift_MM * shift_MM.T
        return moments

    @classmethod
    def _of_whole(cls, values_NM: FloatArray) -> "PairMoments":
        """Compute the same where no value is missing: figures are those of all rows, whatever the other column."""
        moments = cls.empty(values_NM.shape[1])
        moments.exponent_M = _exponents(values_NM)
        scaled_NM = _scaled(values_NM, moments.exponent_M)
        moments.low_MM[:], moments.high_MM[:] = scaled_NM.min(axis=0)[:, None], scaled_NM.max(axis=0)[:, None]
        moments.count_MM[:] = len(values_NM)
        centre_M = scaled_NM.mean(axis=0)
        scaled_NM -= centre_M
        shift_M = scaled_NM.mean(axis=0)  # what rounding has left of the mean
        moments.mean_MM[:] = (centre_M + shift_M)[:, None]
        moments.products_MM = scaled_NM.T @ scaled_NM - len(values_NM) * np.outer(shift_M, shift_M)
        moments.squares_MM[:] = np.maximum(0.0, np.diagonal(moments.products_MM))[:, None]
        return moments

    def merge(self, other: "PairMoments") -> None:
        """Take over the rows of `other`."""
        exponent_M = np.maximum(self.exponent_M, other.exponent_M)
        self._rescale(exponent_M)
        theirs = other.copy()
        theirs._rescale(exponent_M)
        count_MM = self.count_MM + theirs.count_MM
        share_MM = np.divide(theirs.count_MM, count_MM, out=np.zeros_like(count_MM), where=count_MM > 0)
        apart_MM = np.where((self.count_MM > 0) & (theirs.count_MM > 0), theirs.mean_MM - self.mean_MM, 0.0)
        weight_MM = self.count_MM * share_MM
        self.squares_MM += theirs.squares_MM + weight_MM * apart_MM**2
        self.products_MM += theirs.products_MM + weight_MM * apart_MM * apart_MM.T
        self.mean_MM = np.where(self.count_MM > 0, self.mean_MM + apart_MM * share_MM, theirs.mean_MM)
        self.low_MM = np.minimum(self.low_MM, theirs.low_MM)
        self.high_MM = np.maximum(self.high_MM, theirs.high_MM)
        self.count_MM = count_MM

    def copy(self) -> "PairMoments":
        """Copy the moments into arrays of their own."""
        return PairMoments(
            exponent_M=self.exponent_M.copy(),
            count_MM=self.count_MM.copy(),
            mean_MM=self.mean_MM.copy(),
            squares_MM=self.squares_MM.copy(),
            products_MM=self.products_MM.copy(),
            low_MM=self.low_MM.copy(),
            high_MM=self.high_MM.copy(),
        )

    def correlation(self, first: int, second: int) -> float | None:
        """Pearson's r; None where it is undefined: under two shared rows, or one column constant over them."""
        for i, j in ((first, second), (second, first)):
            if self.count_MM[i, j] < 2 or self.low_MM[i, j] == self.high_MM[i, j] or self.squares_MM[i, j] <= 0:
                return None
        spread = np.sqrt(self.squares_MM[first, second]) * np.sqrt(self.squares_MM[second, first])
        if spread == 0:
            return None
        return min(1.0, max(-1.0, float(self.products_MM[first, second] / spread)))

    def _rescale(self, exponent_M: IntArray) -> None:
        """Express everything in units of larger powers of two."""
        down_M = self.exponent_M - exponent_M
        if not down_M.any():
            return
        down_M1 = down_M[:, None]
        for values_MM in (self.mean_MM, self.low_MM, self.high_MM):
            values_MM[:] = np.ldexp(values_MM, down_M1)
        self.squares_MM = np.ldexp(self.squares_MM, 2 * down_M1)
        self.products_MM = np.ldexp(self.products_MM, down_M1 + down_M[None, :])
        self.exponent_M = exponent_M


def _exponents(filled_NM: FloatArray) -> IntArray:
    """Of each column's smallest power of two that no value exceeds."""
    largest_M = np.maximum(filled_NM.max(axis=0), -filled_NM.min(axis=0))
    return np.where(largest_M > 0, np.frexp(largest_M)[1], SMALLEST).astype(np.int64)


def _scaled(values_NM: FloatArray, exponent_M: IntArray) -> FloatArray:
    """Divide values by 2 ** exponent, by multiplication where the factor is normal, which is faster than ldexp."""
    if np.abs(exponent_M).max(initial=0) < LARGEST_FACTOR:
        return values_NM * np.ldexp(1.0, -exponent_M)
    return np.ldexp(values_NM, -exponent_M)


def _ranges(scaled_NM: FloatArray, there_NM: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest value of each column over the rows where each other one is present."""
    columns = scaled_NM.shape[1]
    low_NM, high_NM = (np.where(there_NM, scaled_NM, bound) for bound in (np.inf, -np.inf))
    low_MM, high_MM = np.empty((columns, columns)), np.empty((columns, columns))
    low_MM[:], high_MM[:] = low_NM.min(axis=0)[:, None], high_NM.max(axis=0)[:, None]
    for j in np.flatnonzero(~there_NM.all(axis=0)):
        low_MM[:, j] = low_NM[there_NM[:, j]].min(axis=0, initial=np.inf)
        high_MM[:, j] = high_NM[there_NM[:, j]].max(axis=0, initial=-np.inf)
    return low_MM, high_MM
