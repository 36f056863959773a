"""A disk that fills up while a stage writes: one line, code 2, nothing half-written, and the same command goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.distributed]

SCRIPT = Path(__file__).with_name("run_on_a_full_disk.py")
# A name space of its own, in which also an ordinary person may mount a small disk; it goes with its last process.
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture(scope="module")
def told(undisturbed: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script says: each call twice, and the artifacts it ended with."""
    place = tmp_path_factory.mktemp("small")
    try:
        probe = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", str(place)]
        refused = subprocess.run(probe, capture_output=True, check=False).returncode
    except FileNotFoundError:
        refused = 1
    if refused:
        pytest.skip("this system lets nobody mount a small disk (unshare --user --mount)")
    seen = tmp_path_factory.mktemp("seen") / "seen.json"
    command = [*OWN_MOUNTS, sys.executable, str(SCRIPT), str(undisturbed.folder), str(place), str(seen)]
    environment = {**os.environ, **undisturbed.environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(seen.read_text(encoding="utf-8"))
    return found


def refusal(call: dict[str, Any]) -> str:
    """The one line of a call that was refused."""
    lines = [line for line in call["err"].splitlines() if line.startswith("error: ")]
    assert call["code"] == 2, call["err"]
    assert len(lines) == 1, call["err"]
    assert "Traceback" not in call["err"]
    return str(lines[0])


CULPRITS = {"training": "/checkpoints/", "synthesis": "/shards/", "export": "rows.jsonl", "parts": "/parts/"}


@pytest.mark.parametrize(("stage", "culprit"), CULPRITS.items())
def test_a_full_disk_is_one_line_with_the_path_and_the_remedy(told: dict[str, Any], stage: str, culprit: str) -> None:
    first, again = told["calls"][stage]
    message = refusal(first)
    assert culprit in message
    assert "no space left for writing" in message
    assert "free some space" in message
    assert again["code"] == 0, again["err"]


@pytest.mark.parametrize("stage", CULPRITS)
def test_nothing_half_written_is_left(told: dict[str, Any], stage: str) -> None:
    first, again = told["calls"][stage]
    assert [name for name in first["files"] if ".tmp-" in name] == []
    assert [name for name in again["files"] if ".tmp-" in name or "/work/" in name] == []


def test_what_was_done_before_the_disk_was_full_is_kept(told: dict[str, Any]) -> None:
    shards = [name for name in told["calls"]["synthesis"][0]["files"] if name.endswith(".parquet") and "/work/" in name]
    assert 0 < len(shards) < 30, shards
    parts = [[name for name in call["files"] if name.startswith("parts/data/")] for call in told["calls"]["parts"]]
    assert 0 < len(parts[0]) < 30 == len(parts[1]), parts
    assert set(parts[0]) < set(parts[1])


def hashes(files: dict[str, Any]) -> dict[str, str]:
    """Those of a manifest's files that hold no clock."""
    return {name: entry["sha256"] for name, entry in files.items() if name not in {"events.jsonl", "summary.json"}}


def test_it_ends_with_the_artifacts_of_an_undisturbed_run(told: dict[str, Any], undisturbed: Any) -> None:
    for name, files in told["artifacts"].items():
        path = undisturbed.root / "artifacts" / name / "manifest.json"
        assert hashes(files) == hashes(json.loads(path.read_text(encoding="utf-8"))["files"])
    assert told["rows"] == 300
