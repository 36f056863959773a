"""Files of others: no pipe is waited for, and no hole of a file fills the memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import difflm
from difflm.artifacts.manifest import Manifest
from difflm.errors import ConfigError, DiffLMError
from difflm.records.files.source import SourceForm
from difflm.records.schema import read_schema
from difflm.regular_files import MAX_BYTES, given_path, read_file
from difflm.synthesis.bundle import bundle_folder
from difflm.telemetry import read_events
from difflm_evaluators import Report


def test_a_file_is_read_whole_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 10)
    assert read_file(path) == b"x" * 10
    with pytest.raises(ValueError, match="has 10 bytes, and 9 are the most"):
        read_file(path, most=9)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read_file(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read_file(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("manifest.json", Manifest.read),
        ("schema.json", read_schema),
        ("source.json", SourceForm.read),
        ("bundle.json", bundle_folder),
        ("runs.jsonl", lambda folder: read_events(folder / "runs.jsonl")),
    ],
)
@pytest.mark.parametrize("pipe", [False, True])
def test_what_a_run_or_a_bundle_of_somebody_else_holds_neither_waits_nor_fills_the_memory(
    tmp_path: Path, name: str, read: Callable[[Path], object], pipe: bool
) -> None:
    """An archive of some hundred bytes holds a file of a terabyte, which is a hole, or a pipe."""
    path = tmp_path / name
    if pipe:
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 4 * MAX_BYTES + 1)
    if pipe and name == "source.json":
        assert read(tmp_path) is None
        return
    with pytest.raises((DiffLMError, ValueError), match=r"pipe|bytes|no bundle|not readable"):
        read(tmp_path)


@pytest.mark.parametrize("given", ["a\0b", "x" * 300, "\ud800" * 100, 5, None, b"x"])
def test_what_no_disk_can_have_is_no_path(given: Any) -> None:
    """Each was an error of Python's own, from wherever the path was used."""
    frame = pd.DataFrame({"a": [1]})
    uses: list[Callable[[], object]] = [
        lambda: given_path(given, name="path"),
        lambda: difflm.load(given),
        lambda: difflm.write_table(frame, given),
        lambda: Report.read(given),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match=r"is no path that a disk can have"):
            use()
    with pytest.raises(ConfigError, match=r"^epsilon is 'three'; give a number"):
        difflm.fit(frame, epsilon="three")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^sqlite://\.\.\.: cannot be read"):
        difflm.write_table(frame, "sqlite:///a\0.db?table=t")


@pytest.mark.parametrize("given", ["hf://ada/people", "s3://bucket/people.difflm", "https://u:secret@host/x"])
def test_an_address_is_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """`generator.save("hf://ada/people")` made folders called hf: and ada, and said nothing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^path: .* is an address; give a path on this machine") as caught:
        given_path(given, name="path")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^out: .* is an address"):
        difflm.fit(pd.DataFrame({"a": [1, 2]}), out=given)
    assert not list(tmp_path.iterdir())
