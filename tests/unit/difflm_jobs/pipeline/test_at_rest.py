"""What of a run holds real rows is said, can be removed, and is its owner's alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflm.artifacts import ArtifactStore
from difflm.artifacts.atomic import temporary_sibling
from difflm.errors import ConfigError, StorageError
from difflm_jobs.cli.main import run as run_verb
from difflm_jobs.pipeline.at_rest import holds_rows, purge_run

KINDS = ("table", "decoder", "autoencoder", "latents", "prior", "bundle", "synthetic", "report")
HEX = "0123456789ab"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of all kinds of artifacts, with work under way and a given table."""
    folder = tmp_path / "run"
    store = ArtifactStore(folder)
    with store.exclusive():
        for kind in KINDS:
            with store.create(kind, kind * 8, version=1, config={}, inputs={}) as draft:
                (draft.path / "inner").mkdir()
                (draft.path / "inner" / "file").write_text(kind)
        names = (f"work/decoder-{HEX}/checkpoint", f"input/table-{HEX}.parquet", f"rounds/merged-{HEX}.parquet")
        for name in (*names, "runs.jsonl"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
    return folder


def kinds(folder: Path) -> list[str]:
    return sorted(artifact.kind for artifact in ArtifactStore(folder).finished())


def test_a_purge_leaves_bundle_rows_and_report(run: Path) -> None:
    removed = purge_run(run)
    assert kinds(run) == ["bundle", "report", "synthetic"]
    assert len(removed) == 8
    assert not list((run / "input").iterdir())
    assert not list(run.glob("work/*"))
    assert (run / "runs.jsonl").is_file()
    assert purge_run(run) == []


def test_verify_lists_what_holds_real_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from difflm_jobs.cli.summary import verify_experiment

    said = {path.name.partition("-")[0]: what for path, what in holds_rows(run) if path.is_dir()}
    assert "real rows" in said["table"]
    assert said["latents"] == "an encoding of every training row"
    assert "bundle" not in said
    verify_experiment(str(run), run.parent, Console(width=200))
    out = capsys.readouterr().out
    assert out.count("holds real rows: ") == 8
    assert f"difflm purge {run} removes what holds them" in out
    purge_run(run)
    verify_experiment(str(run), run.parent, Console(width=200))
    assert "nothing of it holds real rows" in capsys.readouterr().out


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read_a_run(run: Path) -> None:
    assert mode(run) == 0o700
    assert mode(run / "runs.jsonl") == 0o600
    for artifact in ArtifactStore(run).finished():
        modes = {mode(path) for path in artifact.path.rglob("*") if path.is_file()}
        if artifact.kind == "bundle":
            assert modes == {0o666 & ~_umask()}, "a bundle is copied to whoever serves it"
        else:
            assert (mode(artifact.path), mode(artifact.path / "inner"), modes) == (0o700, 0o700, {0o600})


def _umask() -> int:
    import os

    before = os.umask(0o022)
    os.umask(before)
    return before


@pytest.mark.parametrize(
    ("name", "details", "setting"),
    [
        ("samples", {"synthetic": ["a tool"], "real_test": ["another"]}, "language.samples=0"),
        ("nearest", {"columns": ["age"], "pairs": [{"training": ["39"]}]}, "evaluation.privacy.show_nearest=false"),
    ],
)
def test_verify_tells_a_report_that_shows_real_rows_behind_a_purge(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, details: dict[str, Any], setting: str
) -> None:
    """It said that nothing of the run holds any."""
    from rich.console import Console

    from difflm_jobs.cli.summary import verify_experiment

    store = ArtifactStore(run)
    with store.exclusive(), store.create("report", "5" * 8, version=1, config={}, inputs={}) as draft:
        report = {"evaluations": [{"name": "copies", "details": {}}, {"name": name, "details": details}]}
        (draft.path / "report.json").write_text(json.dumps(report))
    purge_run(run)
    verify_experiment(str(run), run.parent, Console(width=200))
    out = capsys.readouterr().out
    assert "shows some real rows: artifacts/report-" in out
    assert setting in out
    assert "nothing of it holds" not in out


def test_a_purge_goes_with_a_whole_run() -> None:
    call: Callable[..., Any] = run_verb
    with pytest.raises(ConfigError, match="--purge and --until prepare"):
        call("people.csv", until="prepare", purge=True)


def test_what_a_killed_removal_left_still_holds_rows(run: Path) -> None:
    """Its manifest may be gone first: the rows were left for good, and `verify` said that there were none."""
    left, own = run / "artifacts" / "table-0123456789ab", run / "artifacts" / "notes"
    for folder in (left, own):
        folder.mkdir()
        (folder / "train.parquet").write_text("rows")
    assert left in [path for path, _ in holds_rows(run)]
    assert left.name in purge_run(run)
    assert not left.exists()
    assert own.exists()


@pytest.mark.parametrize("name", ["input", "rounds"])
def test_a_purge_removes_nothing_of_others_through_a_link(run: Path, tmp_path: Path, name: str) -> None:
    """`input` that somebody made a link took the Parquet files of the folder that it leads to."""
    theirs = tmp_path / "theirs"
    (run / name).rename(theirs)
    (run / name).symlink_to(theirs)
    with pytest.raises(StorageError, match=f"{name}: is a link"):
        purge_run(run)
    assert len([*theirs.iterdir()]) == 1


def test_what_rounds_of_a_flywheel_are_trained_on_is_found_and_goes(run: Path) -> None:
    """Real rows stand there beside synthetic ones; `verify` said that nothing of the run holds any."""
    merged = run / "rounds" / "merged-0123456789ab.parquet"
    assert merged in [path for path, _ in holds_rows(run)]
    purge_run(run)
    assert not merged.exists()
    assert not [*holds_rows(run)]


def test_a_purge_removes_nothing_that_no_run_wrote(run: Path) -> None:
    """In a project that a run was put into, it took `input/people.parquet`, the table itself."""
    mine = (
        "input/people.parquet",
        "rounds/merged.parquet",
        "work/thesis/text",
        "work/notes",
        "artifacts/site/manifest.json",
    )
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    purge_run(run)
    assert [(run / name).read_text() for name in mine] == ["mine"] * 5
    assert not [*holds_rows(run)]


def test_a_table_that_a_kill_left_half_written_holds_rows(run: Path) -> None:
    left = temporary_sibling(run / "input" / f"table-{HEX}.parquet")
    left.write_text("rows")
    assert left in [path for path, _ in holds_rows(run)]
    purge_run(run)
    assert not left.exists()
