"""Shard workers: what they write into a dataset, and where they refuse to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from difflm.artifacts.dataset import DATA, JOB_NAME, Dataset
from difflm.artifacts.storage import LocalStore
from difflm.errors import StorageError
from difflm.synthesis.decoding.engines import BuiltinEngine, BuiltinEngineConfig
from difflm.synthesis.draws import DrawAccount
from difflm.synthesis.grammar.guidance import GuidanceConstraint
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.synthesis.workers import EncodeWorker, SynthesisWorker
from difflm.testing.bundles import StageFolders
from difflm.testing.tables import mixed_table
from difflm.training.denoiser_task import read_latents

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=16, text_tokens=8)


class Shard:
    id, start, stop = "part-30", 30, 55


def output(folder: Path) -> dict[str, Any]:
    """A dataset that a driver has announced, as a worker's argument."""
    Dataset(store=LocalStore(folder)).write_json(JOB_NAME, {"fingerprint": "f"})
    return {"url": str(folder), "format": "parquet", "fingerprint": "f"}


def synthesis(stages: StageFolders, folder: Path, sampling: SamplingConfig = SAMPLING) -> SynthesisWorker:
    args = {"bundle": str(stages.bundle), "sampling": sampling.model_dump(mode="json"), "plan": {}, "seed": 4}
    return SynthesisWorker({**args, "output": output(folder)})


def test_latents_are_the_posterior_itself_and_no_sample(tiny_stages: StageFolders, tmp_path: Path) -> None:
    folders = {
        "prepare": str(tiny_stages.prepared),
        "fit-decoder": str(tiny_stages.decoder),
        "train-autoencoder": str(tiny_stages.autoencoder),
    }
    for name in ("once", "again"):
        account = EncodeWorker({**folders, "output": output(tmp_path / name)}).run(Shard())
        assert account == {"rows": 25}
    mean, log_variance = read_latents(tmp_path / "once" / DATA)
    assert mean.shape == log_variance.shape
    torch.testing.assert_close(read_latents(tmp_path / "again" / DATA)[0], mean, atol=0, rtol=0)


def test_records_have_the_columns_and_spelling_of_the_source(tiny_stages: StageFolders, tmp_path: Path) -> None:
    facts = synthesis(tiny_stages, tmp_path).run(Shard())
    (entry,) = Dataset(store=LocalStore(tmp_path)).entries()
    table = pq.read_table(tmp_path / str(entry.file))
    assert (entry.start, entry.stop, entry.rows) == (30, 55, len(table))
    assert facts["rows"] == len(table)
    assert entry.account["attempts"] == facts["attempts"]
    assert entry.account["seed"] == 4
    assert table.column_names == mixed_table(1).column_names
    assert set(table["member"].to_pylist()) <= {"TRUE", "FALSE"}


@pytest.mark.parametrize("agreed", ["float32", "bfloat16"])
def test_a_worker_draws_in_what_its_job_agreed_on_and_says_so(
    tiny_stages: StageFolders, tmp_path: Path, agreed: str
) -> None:
    sampling = SAMPLING.model_copy(update={"precision": "auto"})
    args = {"bundle": str(tiny_stages.bundle), "sampling": sampling.model_dump(mode="json"), "plan": {}, "seed": 4}
    worker = SynthesisWorker({**args, "output": output(tmp_path), "precision": agreed})
    worker.run(Shard())
    (entry,) = Dataset(store=LocalStore(tmp_path)).entries()
    assert entry.account["precision"] == agreed
    assert worker.synthesizer.bundle.autoencoder.decoder.embeddings_VD.dtype == getattr(torch, agreed)


def test_the_engine_travels_to_the_worker(spelled_stages: StageFolders, tmp_path: Path) -> None:
    engine = BuiltinEngineConfig(constraint="llguidance")
    worker = synthesis(spelled_stages, tmp_path, SAMPLING.model_copy(update={"engine": engine}))
    assert isinstance(worker.synthesizer.engine, BuiltinEngine)
    assert isinstance(worker.synthesizer.engine.constraint, GuidanceConstraint)
    assert worker.run(Shard())["rows"]


def test_indices_without_a_valid_draw_are_named(
    tiny_stages: StageFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = synthesis(tiny_stages, tmp_path)
    drawn, account = worker.synthesizer.draw_valid(range(30, 55), seed=4)
    kept = [(index, record) for index, record in drawn if index not in (31, 32, 54)]
    lost = DrawAccount(attempts=account.attempts, rejections=account.rejections, given_up=[54, 31, 32])
    monkeypatch.setattr(worker.synthesizer, "draw_valid", lambda indices, seed: (kept, lost))
    worker.run(Shard())
    (entry,) = Dataset(store=LocalStore(tmp_path)).entries()
    reason = "none of 4 draws was valid"
    assert [(run.start, run.stop, run.reason) for run in entry.given_up] == [(31, 33, reason), (54, 55, reason)]


def test_a_node_that_does_not_see_the_output_says_so(tiny_stages: StageFolders, tmp_path: Path) -> None:
    args = {"bundle": str(tiny_stages.bundle), "sampling": SAMPLING.model_dump(mode="json"), "plan": {}, "seed": 4}
    elsewhere = {**output(tmp_path / "there"), "url": str(tmp_path / "here")}
    with pytest.raises(StorageError, match=r"here: node .* does not see what the driver wrote there; give a folder on"):
        SynthesisWorker({**args, "output": elsewhere})
    other = {**output(tmp_path / "there"), "fingerprint": "g"}
    with pytest.raises(StorageError, match="does not see what the driver wrote"):
        SynthesisWorker({**args, "output": other})
