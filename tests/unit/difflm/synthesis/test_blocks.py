"""Rows in blocks that grow while they are drawn quickly."""

import pytest

from difflm.synthesis import blocks as module
from difflm.synthesis.blocks import blocks


@pytest.mark.parametrize(("seconds", "sizes"), [(0.1, [3, 6, 12, 12, 7]), (2.0, [3] * 13 + [1])])
def test_blocks_grow_while_they_are_drawn_quickly(
    seconds: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    made = []
    for block in blocks(40, 3, 20, progress=False):
        made.append(block)
        now += seconds
    assert [len(block) for block in made] == sizes
    assert [index for block in made for index in block] == list(range(40))


def test_a_bar_counts_rows_and_is_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert [len(block) for block in blocks(5, 8, 2, progress=True)] == [5]
    assert capsys.readouterr().out == ""
