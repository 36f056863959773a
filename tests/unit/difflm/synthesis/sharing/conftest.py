"""A bundle whose every draw is valid, trained or not: no free text."""

from pathlib import Path

import pyarrow as pa
import pytest

from difflm.testing.bundles import StageFolders, untrained_stages


@pytest.fixture(scope="session")
def tiny_stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    rows = range(80)
    columns = {
        "age": [20 + row % 41 for row in rows],
        "home_town": [("Rome", "Oslo", "Lima|x")[row % 3] for row in rows],
        "pay": [1.5 * (row % 17) for row in rows],
    }
    folder: Path = tmp_path_factory.mktemp("stages")
    return untrained_stages(folder, pa.table(columns))
