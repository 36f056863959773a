"""Files and folders appear whole or not at all."""

import errno
import json
from pathlib import Path

import pytest

from difflm.artifacts import atomic_directory, storage_errors, write_json_atomic
from difflm.artifacts.atomic import describe_storage_error, remove_temporaries, temporary_sibling
from difflm.errors import StorageError


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "facts.json"
    write_json_atomic(path, {"a": 1})
    write_json_atomic(path, {"a": [2, "é"]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [2, "é"]}
    assert [item.name for item in path.parent.iterdir()] == ["facts.json"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json_atomic(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(path, float("nan"))
    assert path.read_text(encoding="utf-8") == "1\n"


def test_a_directory_appears_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with atomic_directory(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x", encoding="utf-8")
        assert not target.exists()
    assert (target / "sub" / "file").read_text(encoding="utf-8") == "x"
    assert [item.name for item in tmp_path.iterdir()] == ["made"]


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with atomic_directory(target) as folder:
        (folder / "old").touch()
    with pytest.raises(RuntimeError, match="half way"):
        with atomic_directory(target) as folder:
            (folder / "new").touch()
            raise RuntimeError("half way")
    assert [item.relative_to(tmp_path).as_posix() for item in sorted(tmp_path.rglob("*"))] == ["made", "made/old"]


def test_a_full_disk_is_a_storage_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"made: no space left for writing .*; free some space"):
        with atomic_directory(tmp_path / "made") as folder:
            (folder / "part").touch()
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534",  # torch.save
    ],
)
def test_a_full_disk_reported_by_another_library_is_recognised(tmp_path: Path, text: str) -> None:
    with pytest.raises(StorageError, match="no space left"):
        with storage_errors(tmp_path):
            raise RuntimeError(text)


def test_a_forbidden_folder_names_the_culprit(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/somewhere/else")
    assert describe_storage_error(error, tmp_path) == (
        "/somewhere/else: cannot be written (permission denied); mend that or give another folder (--runs, --out)"
    )


def test_a_name_that_is_too_long_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x'\.\.\.: too long for a name; give a shorter one"):
        with storage_errors(tmp_path):
            (tmp_path / ("x" * 300)).exists()


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        with storage_errors(tmp_path):
            (tmp_path / "none").read_bytes()


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    leftover = temporary_sibling(tmp_path / "made")
    leftover.mkdir()
    (leftover / "part").touch()
    (tmp_path / "made").mkdir()
    (tmp_path / ".mine.tmp-old").mkdir()
    remove_temporaries(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {"made", ".mine.tmp-old"}
