"""Delivering shards: the artifact gets them, and the work folder keeps them until the artifact is whole."""

import os
from pathlib import Path

import pytest

from difflm.artifacts import ShardFolder
from difflm_jobs.mapping import SHARD_FOLDER, Mapped, deliver_shards
from difflm_jobs.stage import StageContext


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    folder = ShardFolder(tmp_path / "work" / SHARD_FOLDER)
    for shard_id in ("a", "b"):
        folder.commit(shard_id, lambda path, text=shard_id: path.write_text(text) and None, {"rows": 1})
    (tmp_path / "output").mkdir()
    return StageContext(
        inputs={},
        output=tmp_path / "output",
        work=tmp_path / "work",
        report=lambda done, total, text: None,
        start_cluster=lambda: None,
    )


@pytest.mark.parametrize("links", [True, False])
def test_delivered_shards_stay_finished(context: StageContext, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError("links are not supported")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    accounts = ShardFolder(context.work / SHARD_FOLDER).finished()
    deliver_shards(context, Mapped(accounts=accounts, compute_seconds=0.0, peak_rss_mib={}), "latents")
    delivered = sorted((context.output / "latents").iterdir())
    assert [path.name for path in delivered] == ["part-a.parquet", "part-b.parquet"]
    assert [path.read_text() for path in delivered] == ["a", "b"]
    assert ShardFolder(context.work / SHARD_FOLDER).finished() == accounts
