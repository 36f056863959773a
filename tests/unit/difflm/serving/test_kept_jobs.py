"""Jobs that have ended: how many are kept of each key, of how many bytes, and for how long."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from difflm.serving.config import KeptConfig, LimitsConfig
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.jobs import jobs as jobs_module
from difflm.serving.jobs.folder import Ended, JobsFolder, surplus
from difflm.serving.problems import Problem

DAY_S = 86_400.0


def kept(ended: list[tuple[float, int]], config: KeptConfig) -> list[str]:
    """The names that stay of jobs that ended so many days ago, with so many bytes."""
    found = [Ended(name=f"{days:g} days, {size}", owner="alice", at=-days * DAY_S, size=size) for days, size in ended]
    gone = surplus(found, config, now=0.0)
    return [one.name for one in found if one.name not in gone]


@pytest.mark.parametrize(
    ("config", "stays"),
    [
        (KeptConfig(), ["3 days, 10", "1 days, 20", "2 days, 30"]),
        (KeptConfig(days=2.5), ["1 days, 20", "2 days, 30"]),
        (KeptConfig(jobs=1), ["1 days, 20"]),
        (KeptConfig(bytes=50), ["1 days, 20", "2 days, 30"]),
        (KeptConfig(bytes=49), ["1 days, 20"]),
        (KeptConfig(bytes=1), ["1 days, 20"]),  # whoever asked for the newest can fetch it
        (KeptConfig(bytes=1, days=0.5), []),
    ],
)
def test_the_oldest_go_first(config: KeptConfig, stays: list[str]) -> None:
    assert kept([(3, 10), (1, 20), (2, 30)], config) == stays


def test_a_server_keeps_a_bounded_number_by_itself() -> None:
    """One key could fill the disk, within its rows per minute."""
    limits = LimitsConfig()
    assert (limits.kept.jobs, limits.kept.days) == (100, 7.0)
    assert limits.kept.bytes < 10**11


def finished(folder: JobsFolder, number: int, *, owner: str, format: str = "csv", failed: bool = False) -> str:
    """Leave a job as one that ended; the higher the number, the earlier."""
    name = f"{number:032x}"
    spec = JobSpec(
        owner=owner, bundle="b", version="v", folder="/b", n=1, seed=1, where=None, sampling="{}", format=format
    )
    folder.write(name, spec)
    path = folder.error(name) if failed else folder.data(name, spec)
    path.write_text("n\n1\n")
    os.utime(path, (time.time() - number,) * 2)
    return name


def test_each_key_keeps_its_own_newest_jobs_and_a_removed_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_AGAIN_S", 0.02)
    folder = JobsFolder(tmp_path)
    alices = [finished(folder, number, owner="alice", failed=number % 2 == 0) for number in range(1, 6)]
    bobs = [finished(folder, number, owner="bob") for number in range(100, 102)]

    async def act() -> None:
        jobs = Jobs(tmp_path, most=5, kept=KeptConfig(jobs=2))
        await jobs.start()
        try:
            async with asyncio.timeout(60):
                while len([*tmp_path.iterdir()]) > 4 or len(jobs._specs) > 4:
                    await asyncio.sleep(0.01)
            assert jobs.view(alices[0], "alice").state == "finished"
            assert jobs.view(alices[1], "alice").state == "failed"
            for name in alices[2:]:
                with pytest.raises(Problem, match="there is no such job"):
                    jobs.view(name, "alice")
        finally:
            await jobs.stop()

    asyncio.run(act())
    assert {path.name for path in tmp_path.iterdir()} == {*alices[:2], *bobs}


def test_what_a_removal_left_half_done_goes_with_the_next_start(tmp_path: Path) -> None:
    folder = JobsFolder(tmp_path)
    half, whole = finished(folder, 7, owner="alice"), finished(folder, 8, owner="alice")
    fresh = tmp_path / f"{9:032x}"  # about to be submitted by another server
    other, hashed = tmp_path / "notes", tmp_path / f"{10:032x}"  # of something else that names folders by hashes
    for path in (fresh, other, hashed):
        path.mkdir()
    (hashed / "thesis").touch()
    folder.withdraw(half)
    for path in (tmp_path / half, other, hashed):
        os.utime(path, (time.time() - 2 * 3600,) * 2)
    folder.remove_strays()
    assert {path.name for path in tmp_path.iterdir()} == {whole, fresh.name, "notes", hashed.name}
