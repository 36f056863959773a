"""Bundles in memory: the configured ones are there before the first request, and a broken one harms no other."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflm.errors import BundleError
from difflm.records.schema import Record
from difflm.serving.backend import RowsWanted, bundle_ref
from difflm.serving.config import ServeConfig, ServedConfig
from difflm.serving.loaded_bundle import LocalBackend
from difflm.testing.bundles import StageFolders


def test_configured_bundles_are_in_memory_before_the_first_request(
    run: Callable[..., Any],
    config: ServeConfig,
    tiny_stages: StageFolders,
    offline: Callable[..., list[tuple[int, Record]]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copy = shutil.copytree(tiny_stages.bundle, tmp_path / "copy").resolve()
    ref = bundle_ref("tiny", copy)
    served = [ServedConfig(name="nothing", path=str(tmp_path / "nothing")), ServedConfig(name="tiny", path=str(copy))]
    backend = LocalBackend(config.model_copy(update={"bundles": served}))

    with caplog.at_level(logging.ERROR):
        backend.load_first()
    shutil.rmtree(copy)  # so that nothing can be loaded any more

    async def drawn() -> list[tuple[int, Record]]:
        wanted = RowsWanted(bundle=ref, start=0, stop=5, seed=1, deadline_s=60.0)
        return [row async for chunk in backend.sample(wanted) for row in chunk.rows]

    assert run(drawn()) == offline(range(5), seed=1)
    assert [record.getMessage() for record in caplog.records] == ["bundle nothing could not be loaded"]
    backend.close()


def test_another_version_in_the_folder_is_not_taken_for_the_one_that_is_asked_for(
    run: Callable[..., Any], config: ServeConfig, tiny_stages: StageFolders, tmp_path: Path
) -> None:
    """A process that begins later went on with its rows, behind those of the version that was meant."""
    folder = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))
    ref = bundle_ref("tiny", folder)
    (folder / "README.md").write_text("another one")
    backend = LocalBackend(config)
    try:
        with pytest.raises(BundleError, match=f"another version took the place of {ref.version}"):
            run(backend.load(ref))
        assert not backend._loaded
        run(backend.load(bundle_ref("tiny", folder)))
    finally:
        backend.close()
