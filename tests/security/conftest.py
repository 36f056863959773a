"""Fixtures of the attacks: one tiny bundle per session, and a copy of it that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.tables import mixed_table


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    """Not to be changed."""
    return untrained_stages(tmp_path_factory.mktemp("stages"), mixed_table(60))


@pytest.fixture
def bundle(stages: StageFolders, tmp_path: Path) -> Path:
    """A copy, far from the experiment that made it."""
    return Path(shutil.copytree(stages.bundle, tmp_path / "elsewhere" / "bundle"))
