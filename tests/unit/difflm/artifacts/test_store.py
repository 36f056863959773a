"""Artifacts are found by what made them, and exist whole or not at all."""

import fcntl
import json
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from difflm.artifacts import Artifact, ArtifactStore
from difflm.artifacts.atomic import storage_errors, temporary_sibling, write_json_atomic
from difflm.errors import ArtifactError, StorageError
from difflm.telemetry import append_event


def make(store: ArtifactStore, text: str = "x") -> Artifact:
    config = {"text": text}
    identity = store.identify("toy", 1, config, {})
    with store.create("toy", identity, version=1, config=config, inputs={}) as draft:
        (draft.path / "nested").mkdir()
        (draft.path / "nested" / "file.txt").write_text(text, encoding="utf-8")
        draft.compute_seconds = 1.5
        draft.peak_rss_mib = {"driver": 10.0}
        draft.facts = {"rows": 3}
    found = store.find("toy", identity)
    assert found is not None
    return found


def test_identity_depends_on_everything_but_key_order() -> None:
    base = ArtifactStore.identify("a", 1, {"x": 1, "y": 2}, {"in": "1"})
    assert base == ArtifactStore.identify("a", 1, {"y": 2, "x": 1}, {"in": "1"})
    others = [
        ArtifactStore.identify("b", 1, {"x": 1, "y": 2}, {"in": "1"}),
        ArtifactStore.identify("a", 2, {"x": 1, "y": 2}, {"in": "1"}),
        ArtifactStore.identify("a", 1, {"x": 1, "y": 3}, {"in": "1"}),
        ArtifactStore.identify("a", 1, {"x": 1, "y": 2}, {"in": "2"}),
    ]
    assert len({base, *others}) == 5


def test_create_then_find(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "run")
    artifact = make(store)
    assert artifact.path == tmp_path / "run" / "artifacts" / f"toy-{artifact.identity[:12]}"
    assert artifact.manifest.facts == {"rows": 3}
    assert artifact.manifest.compute_seconds == 1.5
    assert list(artifact.manifest.files) == ["nested/file.txt"]
    assert store.finished() == [artifact]
    assert store.verify(artifact) == []


def test_nothing_is_found_before_the_manifest_is_written(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    identity = store.identify("toy", 1, {}, {})
    with pytest.raises(KeyError):
        with store.create("toy", identity, version=1, config={}, inputs={}) as draft:
            (draft.path / "file").touch()
            assert store.find("toy", identity) is None
            raise KeyError("half way")
    assert store.find("toy", identity) is None
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_work_survives_a_failure_and_goes_with_success(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    identity = store.identify("toy", 1, {"text": "x"}, {})
    work = store.work("toy", identity)
    work.mkdir(parents=True)
    (work / "checkpoint").touch()
    with pytest.raises(KeyError):
        with store.create("toy", identity, version=1, config={}, inputs={}):
            raise KeyError("half way")
    assert (work / "checkpoint").exists()
    make(store)
    assert not work.exists()


def test_verify_names_what_changed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    artifact = make(store)
    (artifact.path / "nested" / "file.txt").write_text("y", encoding="utf-8")
    (artifact.path / "more").touch()
    problems = store.verify(artifact)
    assert len(problems) == 2
    assert problems[0].endswith("nested/file.txt: changed since it was written")
    assert problems[1].endswith("more: not in the manifest")
    (artifact.path / "nested" / "file.txt").unlink()
    assert store.verify(artifact)[0].endswith("nested/file.txt: missing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        (json.dumps({"format_version": 99}), "format version 99, this release reads 1"),
        (json.dumps({"format_version": 1}), "kind: Field required"),
    ],
)
def test_a_manifest_that_cannot_be_used_names_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    store = ArtifactStore(tmp_path)
    artifact = make(store)
    (artifact.path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message) as caught:
        store.find("toy", artifact.identity)
    assert "run its stage again" in str(caught.value)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "run")
    with store.exclusive():
        with pytest.raises(ArtifactError, match="another process is running this experiment"):
            with ArtifactStore(tmp_path / "run").exclusive():
                pass


def test_a_lock_that_its_holder_removed_locks_nobody_out_and_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process opens the lock file, its holder removes it and ends, another makes a new one: one of two may run."""
    store, real, others = ArtifactStore(tmp_path / "run"), fcntl.flock, ExitStack()

    def overtaken(file: IO[str], flags: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        (store.root / ".lock").unlink()
        others.enter_context(ArtifactStore(tmp_path / "run").exclusive())
        real(file, flags)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with others, pytest.raises(ArtifactError, match="another process is running this experiment"):
        with store.exclusive():
            pass


def test_a_folder_that_goes_while_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real, moments = ArtifactStore(tmp_path / "run"), os.open, []

    def gone(path: Path, *rest: int) -> int:
        monkeypatch.setattr(os, "open", real)
        moments.append(path.name)
        path.parent.rmdir()
        return real(path, *rest)

    monkeypatch.setattr(os, "open", gone)
    with store.exclusive():
        assert store.root.is_dir()
    assert moments == [".lock"]
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    with ArtifactStore(tmp_path / "run").exclusive():
        (tmp_path / "run" / "config.yaml").touch()
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_that_made_nothing_takes_nothing_of_others_along(tmp_path: Path) -> None:
    """`--name data` where the table lies in `data`: a run that failed took folder and table with it."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "input").mkdir()
    for name in ("table.csv", "config.yaml", "quality.json", "runs.jsonl", "docs/page.md", "input/raw.csv"):
        (tmp_path / name).write_text("mine")
    with ArtifactStore(tmp_path).exclusive():
        (tmp_path / "environment.json").touch()
        (tmp_path / "work").mkdir()
    kept = {"config.yaml", "docs", "docs/page.md", "input", "input/raw.csv", "quality.json", "runs.jsonl", "table.csv"}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == kept


def test_what_was_chosen_for_a_run_that_made_nothing_goes_with_it(tmp_path: Path) -> None:
    choice = {"request": {"quality": "fast"}, "chosen": {}, "times": {}}
    write_json_atomic(tmp_path / "run" / "quality.json", [choice])
    with ArtifactStore(tmp_path / "run").exclusive():
        pass
    assert not [*tmp_path.iterdir()]


def test_links_that_somebody_else_put_into_a_run_lead_nowhere(tmp_path: Path) -> None:
    """Cleared away or written through, they took or emptied what they lead to."""
    home, run = tmp_path / "home", tmp_path / "run"
    (home / "Documents").mkdir(parents=True)
    for name in ("Documents/thesis", "notes", "profile"):
        (home / name).write_text("mine")
    (run / "artifacts" / "Documents").mkdir(parents=True)
    (run / "artifacts" / "Documents" / "manifest.json").touch()
    store = ArtifactStore(run)
    (run / "work").symlink_to(home)
    with pytest.raises(StorageError, match=r"work: is a link"), store.exclusive():
        pass
    (run / "work").unlink()
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(home / "notes")
    with pytest.raises(StorageError, match=r"\.lock: is a link"), store.exclusive():
        pass
    (run / "runs.jsonl").symlink_to(home / "profile")
    with pytest.raises(StorageError, match=r"runs\.jsonl: is a link"), storage_errors(run):
        append_event(run / "runs.jsonl", {"error": "$(date)"})
    assert [(home / name).read_text() for name in ("Documents/thesis", "notes", "profile")] == ["mine"] * 3


def test_links_in_unfinished_work_are_removed(tmp_path: Path) -> None:
    """Stages write there as into folders of their own."""
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    (home / "profile").write_text("mine")
    work = run / "work" / "prepare-0123456789ab"
    (work / "life-000001").mkdir(parents=True)
    (work / "from-arff.csv").symlink_to(home / "profile")
    (work / "life-000001" / "checkpoints").symlink_to(home)
    (work / "life-000001" / "loop.json").write_text("{}")
    (run / "work" / "train-0123456789ab").symlink_to(home)
    with ArtifactStore(run).exclusive():
        left = sorted(path.relative_to(run / "work").as_posix() for path in (run / "work").rglob("*"))
    assert left == [work.name, f"{work.name}/life-000001", f"{work.name}/life-000001/loop.json"]
    assert (home / "profile").read_text() == "mine"


def test_a_folder_of_another_purpose_keeps_its_modes_and_links(tmp_path: Path) -> None:
    """A run or a benchmark in one took the right to run its programs, to enter it, and the links in a folder `work`."""
    tmp_path.chmod(0o755)
    (tmp_path / "work" / "notes").mkdir(parents=True)
    (tmp_path / "work" / "notes" / "today").symlink_to("/etc")
    (tmp_path / "tool.sh").touch(0o755)
    for _ in range(2):
        make(ArtifactStore(tmp_path))
        with ArtifactStore(tmp_path).exclusive():
            (tmp_path / "runs.jsonl").touch(0o644)
        found = {
            name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("", "tool.sh", "runs.jsonl", "artifacts")
        }
        assert found == {"": 0o755, "tool.sh": 0o755, "runs.jsonl": 0o600, "artifacts": 0o700}
        assert (tmp_path / "work" / "notes" / "today").is_symlink()


def test_leftovers_are_cleared_by_the_next_process(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "run")
    artifact = make(store)
    leftover = temporary_sibling(artifact.path)
    leftover.mkdir()
    with store.exclusive():
        assert not leftover.exists()
    assert store.finished() == [artifact]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/runs")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StorageError, match="/runs: cannot be written"):
            with ArtifactStore(tmp_path / "run").exclusive():
                pass
