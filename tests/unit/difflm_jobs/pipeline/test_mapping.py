"""Mapping: what progress says, what the final account holds, and delivered parts that stay finished."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from difflm.artifacts.dataset import Dataset, GivenUp
from difflm.artifacts.storage import LocalStore
from difflm.errors import StorageError
from difflm.models.precision import Precision, PrecisionSetting
from difflm.runtime.compute import LocalCompute
from difflm.runtime.shard_actor import ActorPoolConfig
from difflm_jobs.config import MapConfig, RuntimeConfig
from difflm_jobs.pipeline.mapping import SHARD_FOLDER, MapJob, Mapped, Tally, account_of, deliver_shards, run_map
from difflm_jobs.pipeline.stage import StageContext


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = Dataset(store=LocalStore(tmp_path / "work" / SHARD_FOLDER))
    facts = {"attempts": 3, "rejections": {"unfinished": 1}}
    dataset.commit(0, 2, pa.table({"n": [0, 1]}), account=facts)
    given_up = GivenUp(start=2, stop=3, reason="none of 4 draws was valid")
    dataset.commit(2, 4, pa.table({"n": [3]}), given_up=[given_up], account=facts)
    dataset.give_up(4, 5, "its process died", account={})
    return dataset


@pytest.mark.parametrize("links", [True, False])
def test_delivered_parts_stay_finished(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("links are not supported")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "output").mkdir()
    context = StageContext(
        inputs={},
        output=tmp_path / "output",
        work=tmp_path / "work",
        report=lambda done, total, text: None,
        runtime=RuntimeConfig(),
        start_cluster=lambda: None,
    )
    entries = dataset.entries()
    deliver_shards(context, Mapped(entries=entries, compute_seconds=0.0, peak_rss_mib={}), "latents")
    delivered = sorted(path.name for path in (context.output / "latents").iterdir())
    assert delivered == ["part-000000000-000000002.parquet", "part-000000002-000000004.parquet"]
    assert dataset.entries() == entries


def test_the_account_holds_every_index(dataset: Dataset) -> None:
    assert account_of(dataset.entries(), 5) == {
        "rows_asked": 5,
        "rows_emitted": 3,
        "attempts": 6,
        "rejections": {"unfinished": 2},
        "given_up_count": 2,
        "given_up": [
            {"start": 2, "stop": 3, "reason": "none of 4 draws was valid"},
            {"start": 4, "stop": 5, "reason": "its process died"},
        ],
    }


class Drawer:
    """A worker whose parts say what precision it was told."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.args = args

    def run(self, shard: Any) -> dict[str, Any]:
        dataset = Dataset(store=LocalStore(Path(self.args["output"]["url"])))
        table = pa.table({"n": list(range(shard.start, shard.stop))})
        dataset.commit(shard.start, shard.stop, table, account={"precision": self.args["precision"]})
        return {"rows": len(table)}


class Machine(LocalCompute):
    """A machine that is fast in a precision."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision

    def fast_precision(self, pool: ActorPoolConfig, timeout_s: float) -> Precision:
        return self.precision


@pytest.mark.parametrize("first", ["float32", "bfloat16"])
def test_a_job_goes_on_in_the_precision_of_its_parts(tmp_path: Path, first: Precision) -> None:
    dataset = Dataset(store=LocalStore(tmp_path))

    def draw(rows: int, machine: Machine, setting: PrecisionSetting = "auto") -> Mapped:
        job = MapJob(dataset=dataset, fingerprint="f", rows=rows, worker=Drawer, args={}, precision=setting)
        return run_map(job, MapConfig(rows_per_shard=2), lambda done, total, text: None, lambda: machine)

    assert draw(4, Machine(first)).precision == first
    other = Machine("bfloat16" if first == "float32" else "float32")
    for rows in (8, 8):  # more are made, then nothing is missing
        assert draw(rows, other).precision == first
    assert {entry.account["precision"] for entry in dataset.entries()} == {first}
    assert draw(10, other, first).precision == first


class Thief(Drawer):
    """A worker beside which another command ends, and takes all parts away that are there."""

    def run(self, shard: Any) -> dict[str, Any]:
        dataset = Dataset(store=LocalStore(Path(self.args["output"]["url"])))
        dataset.remove_others([])
        return super().run(shard)


def test_parts_that_are_gone_at_the_end_are_missed(tmp_path: Path) -> None:
    """The same command twice at once wrote a file of fewer rows, and ended well."""
    dataset = Dataset(store=LocalStore(tmp_path))
    job = MapJob(dataset=dataset, fingerprint="f", rows=6, worker=Thief, args={}, precision="float32")
    with pytest.raises(StorageError, match=r"the parts of rows 0 to 3 are gone; does another command write there too"):
        run_map(job, MapConfig(rows_per_shard=2), lambda done, total, text: None, lambda: Machine("float32"))


def test_progress_says_rows_speed_and_valid_share() -> None:
    tally = Tally(total=10_000, done=2_000)
    assert tally.text() == "2,000 of 10,000 rows"
    tally.add({"start": 2_000, "stop": 3_000, "rows": 990, "attempts": 1_100, "pid": 7, "seconds": 2.5})
    tally.add({"start": 3_000, "stop": 3_001, "given_up": "its process died"})
    said = tally.text()
    assert said.startswith("3,001 of 10,000 rows, ")
    assert said.endswith(" rows/s, 90.0 % of draws valid")
    assert dict(tally.seconds) == {7: 2.5}
