"""Random numbers of draws: uniform one by one, independent between places, evenly spread over indices."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kstest

from difflm.synthesis.decoding.requests import Address
from difflm.synthesis.randomness import BLOCK_BITS, DrawNumbers

BLOCK = 1 << BLOCK_BITS


def numbers(
    indices: range, *, seed: int = 0, attempt: int = 0, stratified: bool = True, places: int = 8
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    drawn = DrawNumbers(normals=4, uniforms=places, stratified=stratified)
    return drawn([Address(index=index, attempt=attempt) for index in indices], [seed] * len(indices))


@pytest.mark.parametrize("attempt", [0, 1, 4, 2**31])
@pytest.mark.parametrize("start", [0, 5 * BLOCK, (1 << 40) * BLOCK])
def test_every_interval_of_a_block_has_one_number_of_every_place(start: int, attempt: int) -> None:
    normal_NM, uniform_NT = numbers(range(start, start + BLOCK), attempt=attempt)
    for uniform_N in uniform_NT.T:
        assert sorted((uniform_N * BLOCK).astype(int)) == list(range(BLOCK))
    assert np.abs(normal_NM.mean(axis=0)).max() < 0.01  # of independent ones 0.03 is usual
    assert np.abs(normal_NM.std(axis=0) - 1).max() < 0.01


def test_a_single_index_has_uniform_numbers_over_seeds_and_no_two_places_go_together() -> None:
    uniform_ST = np.stack([numbers(range(77, 78), seed=seed)[1][0] for seed in range(2000)])
    assert all(kstest(place_S, "uniform").pvalue > 1e-3 for place_S in uniform_ST.T)
    correlation_TT = np.corrcoef(uniform_ST.T) - np.eye(uniform_ST.shape[1])
    assert np.abs(correlation_TT).max() < 0.1


def test_two_places_of_a_block_are_independent() -> None:
    quadrants = []
    for seed in range(100):
        uniform_NT = numbers(range(BLOCK), seed=seed)[1]
        quadrants.append(((uniform_NT[:, 0] < 0.5) & (uniform_NT[:, 1] < 0.5)).sum())
    # Hypergeometric: both halves are exact, how they meet is not.
    deviation = BLOCK / 4 / np.sqrt(BLOCK - 1)
    assert np.mean(quadrants) == pytest.approx(BLOCK / 4, abs=4 * deviation / 10)
    assert np.std(quadrants) == pytest.approx(deviation, rel=0.3)


def test_a_draw_depends_on_its_seed_index_and_attempt_alone() -> None:
    for attempt in (0, 1):
        whole = numbers(range(300), attempt=attempt)
        part = numbers(range(100, 110), attempt=attempt)
        for one, other in zip(whole, part, strict=True):
            np.testing.assert_array_equal(one[100:110], other)
    assert not np.array_equal(numbers(range(5))[1], numbers(range(5), seed=1)[1])
    assert not np.array_equal(numbers(range(5))[1], numbers(range(5), attempt=1)[1])


def test_attempts_are_independent_of_each_other() -> None:
    attempts = np.stack([numbers(range(4 * BLOCK), attempt=attempt)[1] for attempt in range(4)], axis=-1)
    for place_NA in attempts.swapaxes(0, 1):
        assert np.abs(np.corrcoef(place_NA.T) - np.eye(4)).max() < 0.06  # four times the deviation of independent ones
    # Which indices get so far has nothing to do with an attempt's own numbers, so those are nearly a stratified sample.
    shares = []
    for seed in range(200):
        first_N, second_N = (numbers(range(BLOCK), seed=seed, attempt=attempt, places=1)[1][:, 0] for attempt in (0, 1))
        shares.append((second_N[first_N < 0.75] < 0.5).sum())
    independent = np.sqrt(0.75 * BLOCK / 4)
    assert np.std(shares) == pytest.approx(independent / 2, rel=0.25)  # without replacement: sqrt(1 - .75) of it


def test_seeds_may_be_mixed_as_requests_are() -> None:
    drawn = DrawNumbers(normals=4, uniforms=8, stratified=True)
    addresses = [Address(index=index, attempt=attempt) for index, attempt in ((3, 0), (3, 0), (4, 1), (9, 0))]
    normal_NM, uniform_NT = drawn(addresses, [0, 1, 0, 0])
    for row, (index, seed, attempt) in enumerate([(3, 0, 0), (3, 1, 0), (4, 0, 1), (9, 0, 0)]):
        normal, uniform = numbers(range(index, index + 1), seed=seed, attempt=attempt)
        np.testing.assert_array_equal(normal_NM[row], normal[0])
        np.testing.assert_array_equal(uniform_NT[row], uniform[0])


def test_independent_numbers_are_a_choice() -> None:
    uniform_N = numbers(range(BLOCK), stratified=False)[1][:, 0]
    assert len(set((uniform_N * BLOCK).astype(int))) < 0.75 * BLOCK  # chance leaves a third of the intervals empty
    assert kstest(uniform_N, "uniform").pvalue > 1e-3


def test_no_number_is_one() -> None:
    assert numbers(range(100 * BLOCK), places=1)[1].max() < 1.0
