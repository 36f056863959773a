"""The slots' cache: admitted, grown, kept, cleared."""

import torch
from torch import Tensor

from difflm.synthesis.decoding.kv_cache import GROWTH, PromptCache, SlotCache, joined


def _prompts(rows: int, soft: int, *, first: int = 0) -> PromptCache:
    """One layer, two heads of three numbers, each telling row and position."""
    row, position = torch.arange(first, first + rows)[:, None], torch.arange(soft)
    numbers = (100.0 * row + position)[:, None, :, None].expand(-1, 2, -1, 3)
    return PromptCache(keys=[numbers], values=[-numbers])


def _first_numbers(tensor: Tensor) -> list[list[float]]:
    rows: list[list[float]] = tensor[:, 1, :, 2].tolist()
    return rows


def test_prompts_stand_in_front_of_what_records_write() -> None:
    prompts = _prompts(3, 2)
    cache = SlotCache(prompts, slots=4)
    cache.admit(prompts, torch.tensor([2, 0]), torch.tensor([1, 3]))
    cache.reserve(4)
    assert cache.positions == GROWTH
    new = torch.full((2, 2, 3), 7.0)
    cache.write(0, cache.rows(torch.tensor([3, 1]), torch.tensor([2, 3])), new, -new)
    assert [row[:4] for row in _first_numbers(cache.keys[0])] == [
        [0, 0, 0, 0],
        [200, 201, 0, 7],
        [0, 0, 0, 0],
        [0, 1, 7, 0],
    ]
    assert torch.equal(cache.values[0], -cache.keys[0])
    cache.keep(torch.tensor([3]))
    assert [row[:3] for row in _first_numbers(cache.keys[0])] == [[0, 1, 7]]
    cache.reserve(4)
    assert cache.positions == GROWTH


def test_a_cleared_slot_is_finite_and_others_are_left_alone() -> None:
    prompts = _prompts(2, 2)
    cache = SlotCache(prompts, slots=2)
    cache.admit(prompts, torch.arange(2), torch.arange(2))
    cache.keys[0][0] = torch.nan
    cache.values[0][0] = torch.inf
    cache.clear(torch.tensor([0]))
    assert _first_numbers(cache.keys[0]) == [[0, 0], [100, 101]]
    assert bool(cache.values[0].isfinite().all())


def test_pieces_are_joined_in_order() -> None:
    whole = joined([_prompts(2, 3), _prompts(1, 3, first=2)])
    assert torch.equal(whole.keys[0], _prompts(3, 3).keys[0])
    assert torch.equal(whole.values[0], _prompts(3, 3).values[0])
