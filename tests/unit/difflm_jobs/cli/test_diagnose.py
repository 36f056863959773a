"""`difflm diagnose` from outside: a tiny run, a bundle with its rows beside it, and what cannot be diagnosed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts import ArtifactStore
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.testing.tables import small_table
from difflm_jobs.cli.main import main

TRAIN, TEST = small_table(60), small_table(30, seed=1)


def as_run(folder: Path, stages: StageFolders) -> Path:
    """A run's folder with the artifacts that a diagnosis reads."""
    store = ArtifactStore(folder)
    made: dict[str, str] = {}
    for stage, kind, source in (
        ("prepare", "table", stages.prepared),
        ("fit-decoder", "decoder", stages.decoder),
        ("assemble", "bundle", stages.bundle),
    ):
        identity = store.identify(kind, 1, {}, made)
        with store.create(kind, identity, version=1, config={}, inputs=made) as draft:
            shutil.copytree(source, draft.path, dirs_exist_ok=True)
        made[stage] = identity
    (folder / "config.yaml").write_text("sampling: {steps: 2, precision: float32}\nold: {key: 1}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    stages = untrained_stages(tmp_path_factory.mktemp("stages"), TRAIN, shape=TINY_POOLED_SHAPE)
    pq.write_table(TEST, stages.prepared / "test.parquet")
    return stages


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, stages: StageFolders) -> Path:
    return as_run(tmp_path_factory.mktemp("runs") / "tiny", stages)


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["difflm", "diagnose", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_a_run_is_diagnosed_in_all_its_parts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed, told = call(monkeypatch, capsys, run, "--rows", 20, "--out", tmp_path / "out")
    assert code == 0, told
    for text in ("encoded and decoded", "draws of the prior", "decoder alone", "100 trees of depth 5", "diagnose.html"):
        assert text in printed
    document = json.loads((tmp_path / "out" / "diagnose.json").read_text())
    assert document["title"] == "tiny"
    assert {source["name"]: source["rows"] for source in document["sources"]} == {
        "held_out": 30,
        "reconstructed": 20,
        "draws": 20,
        "decoder": 20,
    }
    assert document["rows"]["reference"] == 20
    assert all(source["detector"] is not None for source in document["sources"])
    assert (tmp_path / "out" / "diagnose.html").is_file()
    _, again, _ = call(monkeypatch, capsys, "tiny", "--runs", run.parent, "--rows", 20, "--out", tmp_path / "out")
    assert "no such run" not in again


def test_the_same_seed_gives_the_same_figures_also_for_the_bundle_in_its_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle,) = (run / "artifacts").glob("bundle-*")
    found = []
    for given in (run, bundle):
        assert call(monkeypatch, capsys, given, "--rows", 12, "--seed", 5, "--out", tmp_path)[0] == 0
        found.append(json.loads((tmp_path / "diagnose.json").read_text())["sources"])
    assert found[0] == found[1]


def test_a_bundle_by_itself_is_diagnosed_with_tables_and_says_where_its_decoder_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(TRAIN, tmp_path / "train.parquet")
    stages = untrained_stages(tmp_path / "stages", TRAIN)
    given = [stages.bundle, "--train", tmp_path / "train.parquet", "--rows", 12, "--out", tmp_path / "out"]
    code, printed, told = call(monkeypatch, capsys, *given)
    assert code == 0, told
    assert "real held-out rows: not available: there are no real rows that were not learned" in printed
    assert "decoder alone: not available: the injector has no empty prompt" in printed
    pq.write_table(pa.table({"age": [1]}), tmp_path / "other.parquet")
    code, _, told = call(monkeypatch, capsys, *given, "--test", tmp_path / "other.parquet")
    assert (code, told.count("\n")) == (2, told.count("diagnose ") + 1)
    assert "other.parquet: no column 'city'" in told


def test_what_cannot_be_diagnosed_is_told_in_one_line(
    run: Path,
    stages: StageFolders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "begun"
    (empty / "artifacts").mkdir(parents=True)
    pq.write_table(TRAIN.slice(0, 19), tmp_path / "few.parquet")
    for arguments, message in (
        (["nowhere"], "nowhere: no such run"),
        ([empty], "this experiment has no bundle yet; run it up to the stage assemble"),
        ([stages.bundle], "give the run's folder, or the rows that it learned with --train"),
        ([stages.bundle, "--test", tmp_path / "few.parquet"], "goes with --train TABLE"),
        ([run, "--rows", 9], "--rows 9: the detector needs 10 or more rows"),
        ([stages.bundle, "--train", tmp_path / "few.parquet"], "has 19 rows, of which one half"),
        ([stages.bundle, "--train", tmp_path / "none.parquet"], "none.parquet"),
    ):
        code, _, told = call(monkeypatch, capsys, *arguments, "--out", tmp_path / "out")
        assert code == 2, arguments
        assert message in told.splitlines()[-1]
        assert told.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_texts_have_what_is_possible_and_say_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("add", "take", "give", "find", "left", "right")
    codes = [f"def {words[row % 6]}_{row}(): return {' + '.join(words[: row % 7])}" for row in range(60)]
    texts = pa.table({"code": codes})
    stages = untrained_stages(tmp_path / "stages", texts)
    pq.write_table(texts, stages.prepared / "test.parquet")
    run = as_run(tmp_path / "texts", stages)
    (run / "config.yaml").write_text("sampling: {steps: 2, precision: float32, text_tokens: 24}\n", encoding="utf-8")
    code, printed, told = call(monkeypatch, capsys, run, "--rows", 10, "--out", tmp_path / "out")
    assert code == 0, told
    assert "C2ST not available: every column is free text" in printed
    assert "free text takes part in the shape error only, by its length: code" in printed
