"""Random numbers of draws: a function of (seed, index, attempt), spread evenly over consecutive indices.

Rows that are drawn independently of each other miss every share by some sampling error: of 10,000 rows, half of which
are to be women, 50 are too many or too few. So numbers are a Latin hypercube (McKay et al. 1979): each single number is
uniform, numbers of different places are independent, and of a block of 1,024 indices exactly one number of a place is
in each interval [j, j + 1) / 1,024. Later attempts, made where a draw was rejected, have hypercubes of their own: the
indices that get so far are a sample of one without replacement, whose shares are nearer than those of independent rows.

Which interval is an index's is a permutation that needs no table: a Feistel network over ten binary digits, whose round
function is the finaliser of SplitMix64 (Steele et al. 2014).

Shape legend: N draws, M normal numbers, T uniform numbers, P places (of both), R rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from difflm.seeding import derive_seed
from difflm.synthesis.decoding.requests import Address

BLOCK_BITS = 10
_HALF = np.uint64(BLOCK_BITS // 2)
_HALF_MASK = np.uint64((1 << BLOCK_BITS // 2) - 1)
_BLOCK_MASK = np.uint64((1 << BLOCK_BITS) - 1)
_ROUNDS = 6
_STEP = np.uint64(0x9E3779B97F4A7C15)


class DrawNumbers:
    """The normal and uniform numbers of draws, `normals` and `uniforms` of them each.

    `stratified` False makes those of all indices independent.
    """

    def __init__(self, *, normals: int, uniforms: int, stratified: bool) -> None:
        self.normals, self.uniforms, self.stratified = normals, uniforms, stratified

    def __call__(
        self, addresses: Sequence[Address], seeds: Sequence[int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return normal numbers (N, M) and uniform ones in [0, 1), (N, T), of draws that each have a seed."""
        normal_NM = np.empty((len(addresses), self.normals), np.float32)
        uniform_NT = np.empty((len(addresses), self.uniforms), np.float32)
        together: dict[int, list[int]] = {}
        for row, seed in enumerate(seeds):
            together.setdefault(seed, []).append(row)
        for seed, rows in together.items():
            key = derive_seed(seed, "draw")
            if not self.stratified:
                for row in rows:
                    counter = [0, 0, addresses[row].index, addresses[row].attempt]
                    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
                    normal_NM[row] = generator.standard_normal(self.normals, dtype=np.float32)
                    uniform_NT[row] = generator.random(self.uniforms, dtype=np.float32)
                continue
            index_N = np.array([addresses[row].index for row in rows], np.uint64)
            attempt_N = np.array([addresses[row].attempt for row in rows], np.uint64)
            digits_NP = _latin(index_N, attempt_N, key, self.normals + self.uniforms)
            normal_NM[rows] = ndtri(((digits_NP[:, : self.normals] >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53)
            # As many digits as float32 has: a number that is rounded up to 1 would be none of [0, 1).
            uniform_NT[rows] = (digits_NP[:, self.normals :] >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
        return normal_NM, uniform_NT


def choice_number(address: Address, seed: int) -> float:
    """Return the uniform number in [0, 1) that one of a draw's candidates is chosen by."""
    numbers = np.random.Philox(key=derive_seed(seed, "choice"), counter=[0, 0, address.index, address.attempt])
    return float(np.random.Generator(numbers).random())


def _latin(
    index_N: npt.NDArray[np.uint64], attempt_N: npt.NDArray[np.uint64], key: int, places: int
) -> npt.NDArray[np.uint64]:
    """Return the numbers of indices and attempts, shape (N, P), as the 64 binary digits behind the point."""
    key_RP = _keys(key, places)
    attempt_N = _mixed(attempt_N * _STEP)
    block_N1 = _mixed((index_N >> np.uint64(BLOCK_BITS)) * _STEP ^ attempt_N)[:, None]
    place_N1 = (index_N & _BLOCK_MASK)[:, None]
    left_NP = np.broadcast_to(place_N1 >> _HALF, (len(index_N), places))
    right_NP = np.broadcast_to(place_N1 & _HALF_MASK, (len(index_N), places))
    for key_P in key_RP[:-1]:
        hashed_NP = _mixed((block_N1 ^ key_P) + right_NP * _STEP)
        left_NP, right_NP = right_NP, left_NP ^ (hashed_NP >> (np.uint64(64) - _HALF))
    within_NP = _mixed(_mixed(index_N * _STEP ^ attempt_N)[:, None] ^ key_RP[-1])
    return (((left_NP << _HALF) | right_NP) << np.uint64(64 - BLOCK_BITS)) | (within_NP >> np.uint64(BLOCK_BITS))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of every number: the finaliser of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=64)
def _keys(key: int, places: int) -> npt.NDArray[np.uint64]:
    """Draw the keys of every place's rounds and of what is behind the first ten digits, shape (R + 1, P)."""
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, 1 << 32]))
    return generator.integers(0, 1 << 64, (_ROUNDS + 1, places), dtype=np.uint64)
