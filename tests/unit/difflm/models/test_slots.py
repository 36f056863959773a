"""Slots: every cell of the grid in one slot, in order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difflm.models.field_slots import SlotEmbedder, SlotLayout
from difflm.records.tokenization import GridLayout


def test_short_fields_have_one_slot_and_long_ones_several() -> None:
    layout = SlotLayout(grid=GridLayout(widths=(1, 4, 9)), cells_per_slot=4, max_per_field=2)
    assert layout.slots_per_field == (1, 1, 2)
    assert layout.count == 4
    assert layout.field_S.tolist() == [0, 1, 2, 2]
    assert layout.cells_SC().tolist() == [
        [0, 14, 14, 14, 14],
        [1, 2, 3, 4, 14],
        [5, 6, 7, 8, 9],
        [10, 11, 12, 13, 14],
    ]


@given(st.lists(st.integers(1, 70), min_size=1, max_size=6).map(tuple), st.integers(1, 12), st.integers(1, 9))
def test_every_cell_is_in_exactly_one_slot_of_its_own_field(widths: tuple[int, ...], cells: int, most: int) -> None:
    layout = SlotLayout(grid=GridLayout(widths=widths), cells_per_slot=cells, max_per_field=most)
    table = layout.cells_SC()
    assert table.shape[0] == layout.count
    assert sorted(cell for cell in table.flatten().tolist() if cell != layout.grid.size) == list(range(sum(widths)))
    for field, row in zip(layout.field_S.tolist(), table.tolist(), strict=True):
        assert {int(layout.grid.field_G[cell]) for cell in row if cell != layout.grid.size} <= {field}


def test_a_slot_sees_its_own_cells_only() -> None:
    layout = SlotLayout(grid=GridLayout(widths=(2, 3)), cells_per_slot=4)
    torch.manual_seed(0)
    embedder = SlotEmbedder(layout, vocabulary_size=10, pad_id=0, embedding_size=4, hidden_size=8, size=6)
    grid = torch.tensor([[1, 2, 3, 4, 5]])
    changed = torch.tensor([[1, 2, 3, 9, 5]])
    before, after = embedder(grid), embedder(changed)
    assert before.shape == (1, 2, 6)
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SlotLayout(grid=GridLayout(widths=(1,)), cells_per_slot=0)
