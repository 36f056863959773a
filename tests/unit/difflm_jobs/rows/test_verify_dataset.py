"""A data set of somebody else is verified, or said to be none in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from difflm.artifacts.dataset import DATASET_MANIFEST, JOB_NAME, Dataset
from difflm.artifacts.storage import LocalStore
from difflm.errors import ArtifactError
from difflm.telemetry import json_bytes
from difflm_jobs.rows.resume import KIND
from difflm_jobs.rows.verify_dataset import verify_dataset

JOB = {"kind": KIND, "fingerprint": "x", "format": "parquet", "rows": 20}


def written(folder: Path, job: dict[str, Any], manifest: dict[str, Any]) -> str:
    dataset = Dataset(store=LocalStore(folder))
    parts = [
        dataset.commit(start, start + 10, pa.table({"n": list(range(10))}), account={}).model_dump()
        for start in (0, 10)
    ]
    listed = {"fingerprint": "x", "shards": parts}
    for name, value in ((JOB_NAME, {**JOB, **job}), (DATASET_MANIFEST, {**listed, **manifest})):
        (folder / name).write_bytes(json_bytes({key: one for key, one in value.items() if one != "gone"}))
    return str(folder)


def test_a_whole_dataset_is_verified(tmp_path: Path) -> None:
    found = verify_dataset(written(tmp_path, {}, {}))
    assert (found.parts, found.indices, found.rows, found.given_up) == (2, 20, 20, 0)


@pytest.mark.parametrize("key", ["rows", "size", "file"])
def test_a_manifest_that_was_edited_is_told(tmp_path: Path, key: str) -> None:
    written(tmp_path, {}, {})
    manifest = json.loads((tmp_path / DATASET_MANIFEST).read_text())
    edited = {"rows": 9, "size": 1, "file": "data/other.parquet"}
    manifest["shards"][1][key] = edited[key]
    (tmp_path / DATASET_MANIFEST).write_bytes(json_bytes(manifest))
    with pytest.raises(ArtifactError, match=rf"manifest\.json: shards\.1\.{key} is not what the parts add up to"):
        verify_dataset(str(tmp_path))


@pytest.mark.parametrize("key", ["rows_asked", "rows_emitted", "attempts"])
def test_totals_that_were_edited_are_told(tmp_path: Path, key: str) -> None:
    where = written(tmp_path, {}, {"totals": {"rows_asked": 20, "rows_emitted": 20, "attempts": 0, "seconds": 3}})
    assert verify_dataset(where).rows == 20
    written(tmp_path, {}, {"totals": {"rows_asked": 20, "rows_emitted": 20, "attempts": 0, key: 7}})
    with pytest.raises(ArtifactError, match=rf"totals\.{key} is not what the parts add up to"):
        verify_dataset(where)


@pytest.mark.parametrize(
    ("job", "manifest", "said"),
    [
        ({"format": "gone"}, {}, r"no dataset \(job\.json: format: "),
        ({"rows": "zz"}, {}, r"no dataset \(job\.json: rows: "),
        ({"rows": None}, {}, r"no dataset \(job\.json: rows: "),
        ({"kind": "other"}, {}, r"no dataset \(job\.json: kind: "),
        ({}, {"shards": "gone"}, r"\(manifest\.json: shards: "),
        ({}, {"shards": 3}, r"\(manifest\.json: shards: "),
        ({}, {"shards": [{}]}, r"\(manifest\.json: shards\.0\.start: "),
        ({}, {"fingerprint": "gone"}, r"\(manifest\.json: fingerprint: "),
    ],
)
def test_what_is_none_is_said_to_be(tmp_path: Path, job: dict[str, Any], manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        verify_dataset(written(tmp_path, job, manifest))
