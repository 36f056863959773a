"""Nearest reference rows, exactly, by an index that stays fast for millions of them.

`mixed_rows` defines the distance: that of the numbers, plus 2 for each category that differs. So:

1. The nearest rows among those with the query's own categories are found by a k-d tree over the numbers and one more
   coordinate, which keeps groups of equal categories too far apart to be mixed up. Whatever is no farther than 2 is
   nearest among all.
2. What is left has its differing categories counted against every reference row, a few bytes per row, and the numbers
   compared of those rows only that can still be nearer than what was found.

Tables with many numeric dimensions, for which a tree is of no use, are searched by brute force in blocks. All figures
are exact up to rounding (float32 embedding); none is approximate. Shapes: N queries, R reference rows, K neighbours.
"""

import numpy as np

from difflm_evaluators.columns.columns import FloatArray, IntArray
from difflm_evaluators.columns.mixed_rows import OUTERMOST, Float32Array, MixedRows
from difflm_evaluators.columns.row_keys import RowNumbering

BLOCK_FLOATS = 2**24  # 64 MiB for one embedded block of rows
MAX_TREE_DIMENSIONS = 32
MISMATCH = 2.0  # distance between two different categories


class NearestRows:
    """An index over reference rows; `threads` is how many a search may use."""

    def __init__(self, reference: MixedRows, *, threads: int) -> None:
        from scipy.spatial import cKDTree  # slow to import

        self.reference = reference
        self._threads = threads
        dimensions = reference.numbers.shape[1]
        # groups of equal categories lie so far apart that no distance between numbers reaches half the way
        self._apart = 4 * OUTERMOST * (1 + dimensions)
        self._groups = RowNumbering(reference.codes_NC, reference.sizes)
        self._tree: cKDTree | None = None
        if dimensions <= MAX_TREE_DIMENSIONS:
            placed = self._placed(reference.numbers, self._groups.number(reference.codes_NC))
            self._tree = cKDTree(placed, leafsize=32, balanced_tree=False)
        narrow = max(reference.sizes, default=0) <= 2**8
        self._codes_CR = np.ascontiguousarray(reference.codes_NC.T.astype(np.uint8 if narrow else np.uint32))

    def search(self, queries: MixedRows, neighbours: int) -> Float32Array:
        """Return distances of each query to its nearest reference rows, ascending: (N, min(K, R)) float32."""
        wanted = min(neighbours, len(self.reference))
        if len(queries) == 0:
            return np.zeros((0, wanted), dtype=np.float32)
        if self._tree is None:
            return _brute_force(queries, self.reference, wanted, threads=self._threads)
        best_NK = np.full((len(queries), wanted), np.inf)
        group_N = self._groups.number(queries.codes_NC)
        known_N = np.flatnonzero(group_N >= 0)
        placed = self._placed(queries.numbers[known_N], group_N[known_N])
        found, _ = self._tree.query(placed, wanted, p=1, distance_upper_bound=self._apart / 2, workers=self._threads)
        best_NK[known_N] = found.reshape(len(known_N), wanted)
        if queries.sizes:
            for query in np.flatnonzero(best_NK[:, -1] > MISMATCH):
                best_NK[query] = self._among_all(queries.numbers[query], queries.codes_NC[query], wanted)
        return best_NK.astype(np.float32)

    def _placed(self, numbers_ND: Float32Array, group_N: IntArray) -> FloatArray:
        """Return (N, D + 1) numbers with the place of their group."""
        return np.concatenate([numbers_ND, self._apart * group_N[:, None]], axis=1)

    def _among_all(self, numbers_D: Float32Array, codes_C: IntArray, wanted: int) -> FloatArray:
        """Return (wanted,) distances of one query, by rising number of categories that differ."""
        differing_R = np.zeros(len(self.reference), dtype=np.uint8 if len(codes_C) < 2**8 else np.uint32)
        for column_R, code in zip(self._codes_CR, codes_C.tolist(), strict=True):
            np.add(differing_R, column_R != code, out=differing_R, casting="unsafe")
        best_K = np.full(wanted, np.inf)
        for differing in range(int(differing_R.min()), len(codes_C) + 1):
            if MISMATCH * differing >= best_K[-1]:
                break
            rows = np.flatnonzero(differing_R == differing)
            apart = np.abs(self.reference.numbers[rows] - numbers_D).sum(axis=1, dtype=np.float64)
            best_K = np.sort(np.concatenate([best_K, apart + MISMATCH * differing]))[:wanted]
        return best_K


def nearest(queries: MixedRows, reference: MixedRows, neighbours: int, *, threads: int) -> Float32Array:
    """Return distances of each query to its nearest reference rows, ascending: (N, min(K, R)) float32."""
    return NearestRows(reference, threads=threads).search(queries, neighbours)


def _brute_force(queries: MixedRows, reference: MixedRows, neighbours: int, *, threads: int) -> Float32Array:
    """Search by comparing all with all; both sides are embedded, and compared, in blocks of at most 64 MiB."""
    import torch  # slow to import

    block = max(1, BLOCK_FLOATS // max(1, queries.width, reference.width))
    best_NK = np.full((len(queries), neighbours), np.inf, dtype=np.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for start in range(0, len(reference), block):
            beside_RD = torch.from_numpy(reference.embed(start, start + block))
            step = min(block, max(1, BLOCK_FLOATS // len(beside_RD)))
            for first in range(0, len(queries), step):
                apart_NR = torch.cdist(torch.from_numpy(queries.embed(first, first + step)), beside_RD, p=1)
                found_NK = apart_NR.topk(min(neighbours, len(beside_RD)), largest=False).values.numpy()
                both = np.concatenate([best_NK[first : first + step], found_NK], axis=1)
                best_NK[first : first + step] = np.sort(both, axis=1)[:, :neighbours]
    finally:
        torch.set_num_threads(before)
    return best_NK
