"""The screen of a run's own rows: copies are held back where they are more than chance, and only so many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.records.protection.settings import Protected
from difflm.records.schema import read_schema
from difflm.testing.bundles import write_prepared
from difflm_evaluators.privacy.screen import CopyScreen


def people(rows: int, *, seed: int) -> pa.Table:
    """Rows of one population of 1,000 kinds of people, some of which are common."""
    draw = np.random.default_rng(seed)
    return pa.table({name: [f"{name}{int(10 * each**2)}" for each in draw.random(rows)] for name in "abc"})


@pytest.fixture
def screen(tmp_path: Path) -> CopyScreen:
    write_prepared(tmp_path, people(1200, seed=0), people(300, seed=1))
    schema = read_schema(tmp_path).model_copy(update={"protected": Protected(threshold=8)})
    (tmp_path / "schema.json").write_text(schema.to_json())
    pq.write_table(people(300, seed=2), tmp_path / "test.parquet")
    return CopyScreen(tmp_path)


def copies(screen: CopyScreen, table: pa.Table) -> np.ndarray:
    """Mark what the screen takes for copies: what it never lets pass."""
    passing, screen.passing = screen.passing, 0.0
    copied_N = ~screen(table)
    screen.passing = passing
    return copied_N


def test_rows_of_the_population_itself_are_hardly_held_back(screen: CopyScreen) -> None:
    assert screen.chance == pytest.approx(copies(screen, people(20_000, seed=3)).mean(), rel=0.15)
    assert screen.chance > 0.3, "in a table of few columns many rows are somebody's"
    screen.allow(people(1000, seed=4))
    assert screen.passing > 0.85
    assert screen(people(2000, seed=5)).mean() > 0.93


def test_what_is_learned_by_heart_is_brought_down_to_chance(screen: CopyScreen) -> None:
    made = pa.concat_tables([people(1200, seed=0), people(1200, seed=6)])
    found = copies(screen, made)
    screen.allow(made)
    assert 0 < screen.passing < 0.7
    passed = screen(made)
    assert found.mean() > screen.chance + 0.1
    assert found[passed].mean() == pytest.approx(screen.chance, abs=0.03)
    assert passed[~found].all(), "what nobody is passes"


def test_as_long_as_nothing_is_known_no_copy_passes(screen: CopyScreen) -> None:
    assert not (copies(screen, people(1200, seed=0)) & screen(people(1200, seed=0))).any()
    screen.allow(people(1200, seed=0).slice(0, 0))
    assert screen.passing == 0, "no draws say nothing"


def test_which_copies_pass_depends_on_their_cells_alone(screen: CopyScreen) -> None:
    screen.passing = 0.5
    made = people(500, seed=0)
    order = np.random.default_rng(7).permutation(500)
    np.testing.assert_array_equal(screen(made)[order], screen(made.take(order)))
