"""A planted row is nowhere: not in the bundle, the report, the manifests, the logs, the checkpoints or the draws.

What a run holds for itself (its splits) is the exception; `difflm purge` removes it. The same search finds the row
where protection is off, so that it can be believed.
"""

from __future__ import annotations

import dataclasses
import json
import random
import warnings
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import difflm
from difflm.errors import DataError
from difflm.testing.canary import SECRETS, Canary, texts_with_secrets
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.stage import StageContext
from difflm_jobs.stages.stages import build_stages, this_process

ROWS = 400
PLANTED = 17
"""A row of the training split, as the test of it says."""
CANARY = Canary(
    values={
        "category": "Morbus Quackenbush",
        "number": 98765432,
        "decimal": 7654321.25,
        "date": date(1871, 3, 9),
        "secret": "hunter2-9f3a7c",
        "name": "Zebulon",
    }
)
TEST_CANARY = Canary(values={"category": "Febris Oglethorpe", "number": -87654321})
LOOP = {"evaluate_every": 30, "checkpoint_every": 10, "log_every": 5, "precision": "float32"}
TINY: dict[str, Any] = {
    "decoder": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64, "vocabulary_size": 320},
    "decoder_fit": {"steps": 60, "batch_size": 32, "clean_share": 0.1, "copied_below": 0.999, "loop": LOOP},
    "autoencoder": {"steps": 20, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}, "loop": LOOP},
    "prior": {"steps": 30, "width": 16, "blocks": 1, "loop": LOOP},
    "sampling": {"steps": 3, "precision": "float32", "text_tokens": 96, "attempts": 20},
    "rows": 200,
    "evaluation": {
        "detection": None,
        "fidelity": None,
        "utility": None,
        "membership": None,
        "projection": None,
        "privacy": {"threads": 1},
    },
}


def table() -> pa.Table:
    """Rows of patients, and among them one that nobody may find again, and one in the test split."""
    draw = random.Random(3)
    words = ("well", "tired", "home", "again", "after", "rest")
    rows: list[dict[str, Any]] = [
        {
            "visit": draw.randint(100, 190),
            "fee": round(draw.gauss(80, 9), 2),
            "day": str(date(2019, 1, 1) + timedelta(days=draw.randint(0, 400))),
            "diagnosis": draw.choice(["cold", "flu", "sprain"]),
            "note": " ".join(draw.choice(words) for _ in range(6)),
        }
        for _ in range(ROWS)
    ]
    values = CANARY.values
    rows[PLANTED] = {
        "visit": values["number"],
        "fee": values["decimal"],
        "day": str(values["date"]),
        "diagnosis": values["category"],
        "note": f"{values['name']} well, his password is {values['secret']}",
    }
    rows[-1] |= {"visit": TEST_CANARY.values["number"], "diagnosis": TEST_CANARY.values["category"]}
    return pa.Table.from_pylist(rows)


def prepared(folder: Path, protect: str) -> Path:
    """Prepare the table alone; returns the folder of what came out."""

    pa.csv.write_csv(table(), folder / "patients.csv")
    overrides = [f"protect={protect}", "schema.kinds.note=text"]
    experiment = load_experiment(str(folder / "patients.csv"), overrides=overrides)
    return run_stage(build_stages(experiment)[0], folder / protect, experiment.runtime)


def run_stage(stage: Any, output: Path, runtime: Any) -> Path:
    output.mkdir()
    with this_process() as compute:
        stage.run(
            StageContext(
                inputs={},
                output=output,
                work=output / "work",
                report=lambda done, total, text: None,
                runtime=runtime,
                start_cluster=lambda: compute,
            )
        )
    return output


def own_rows(path: Path) -> bool:
    """Whether a file is one in which a run keeps the table's rows for itself."""
    splits = {"train.parquet", "validation.parquet", "test.parquet"}
    return path.name in splits or path.parent.name == "input"


def published(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not own_rows(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[difflm.Generator, Path]:
    """A complete run, in this process, with a critic, which so few rows have not otherwise."""
    folder = tmp_path_factory.mktemp("canary") / "patients"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difflm.synthesis.critic.fit.LEAST_ROWS", 40)
        patch.setattr("difflm.synthesis.critic.fit.LEAF_ROWS", 8)
        patch.setattr("difflm.synthesis.critic.fit.CLEAR", -1e9)  # whatever it is worth
        generator = difflm.fit(table(), config={**TINY, "critic": {"recognised": 1.0}}, out=folder, progress=False)
    assert list(folder.rglob("critic.safetensors"))
    assert generator.report.score("exact_copy_share").value == 0
    return generator, folder


def test_a_run_holds_the_row_in_its_splits_alone(run: tuple[difflm.Generator, Path]) -> None:
    _, folder = run
    kept = CANARY.found_in_files(path for path in folder.rglob("*.parquet") if own_rows(path))
    assert {name for names in kept.values() for name in names} == set(CANARY.values), "the row is trained on"
    found = CANARY.found_in_files(published(folder)) | TEST_CANARY.found_in_files(published(folder))
    assert found == {}
    names = {path.name for path in published(folder)}
    assert {"report.json", "report.html", "manifest.json", "schema.json", "tokenizer.json", "events.jsonl"} <= names
    assert {"fitted.parquet", "best.safetensors", "runs.jsonl"} <= names, "all of it was searched"


def test_no_draw_has_a_value_of_the_row(run: tuple[difflm.Generator, Path]) -> None:
    generator, _ = run
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ of 2,000 rows had no valid draw", RuntimeWarning)
        drawn = pa.Table.from_batches(list(generator.batches(2_000, seed=5)))
    assert drawn.num_rows > 1_900
    assert CANARY.found_in_table(drawn) == set()
    largest = max(drawn["visit"].to_pylist())
    assert largest <= 190


def test_the_search_finds_the_row_where_nothing_is_protected(tmp_path: Path) -> None:
    folder = prepared(tmp_path, "off")
    found = CANARY.found_in_files(path for path in folder.iterdir() if path.name == "schema.json")
    assert set(*found.values()) == {"category", "number", "decimal", "date"}
    assert CANARY.found_in_files(path for path in prepared(tmp_path, "on").iterdir() if not own_rows(path)) == {}


def test_an_error_names_the_place_and_not_the_value(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'diagnosis' is to be number.*row \d+ has '…'") as refused:
        difflm.fit(
            table(), config=TINY | {"schema": {"kinds": {"diagnosis": "number"}}}, out=tmp_path / "run", progress=False
        )
    assert CANARY.found_in(str(refused.value).encode()) == set()
    assert CANARY.found_in_files(published(tmp_path)) == {}


TEXTS: dict[str, Any] = {
    **TINY,
    "decoder": {**TINY["decoder"], "vocabulary_size": 400, "value_tokens": 16},
    "decoder_fit": {**TINY["decoder_fit"], "group_by_length": True, "steps": 40},
    "autoencoder": {"steps": 10, "encoder": {"kind": "compact", **TINY["autoencoder"]["encoder"]}},
    "prior": {**TINY["prior"], "steps": 10},
    "sampling": {**TINY["sampling"], "text_tokens": 24},
    "rows": 50,
}


@pytest.mark.parametrize("kind", ["code", "tools"])
def test_a_run_of_texts_holds_their_secrets_in_its_splits_alone(kind: str, tmp_path: Path) -> None:
    file, folder = tmp_path / f"{kind}.jsonl", tmp_path / kind
    file.write_text("".join(json.dumps(one) + "\n" for one in texts_with_secrets(kind, 160)), encoding="utf-8")
    generator = difflm.fit(file, config=TEXTS, out=folder, progress=False, kind=kind)
    assert generator.report.scores
    kept = SECRETS.found_in_files(path for path in folder.rglob("*.parquet") if own_rows(path))
    learned = set(SECRETS.values) - ({"category"} if kind == "code" else set())
    assert {name for names in kept.values() for name in names} == learned, "they are trained on"
    # Texts that models learn are those of the rows, of which categories alone are protected; purging removes them.
    assert SECRETS.found_in_files(path for path in published(folder) if path.name != "fitted.parquet") == {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ of 100 rows had no valid draw", RuntimeWarning)
        drawn = pa.Table.from_batches(list(generator.batches(100, seed=5)))
    assert drawn.num_rows
    assert SECRETS.found_in_table(drawn) == set()


@pytest.mark.parametrize("kind", ["code", "tools"])
def test_pieces_of_texts_enter_a_tokenizer_from_enough_records_alone(kind: str, tmp_path: Path) -> None:
    secret = "Zyxquackpassword"
    if kind == "code":
        rows: list[Mapping[str, str]] = [{"code": f"def f{n}():\n    return 'hello weather'\n"} for n in range(80)]
        rows[3] = {"code": f"def f3():\n    return '{secret} {secret} {secret} {secret} {secret} {secret} {secret}'\n"}
        records = pa.Table.from_pylist(rows)
        column = "code"
    else:
        empty = {"category": "Weather", "tool_description": "weather of towns", "parameters": "[]"}
        described = [f"What it is like in town {n}" for n in range(80)]
        described[3] = " ".join([secret] * 9)
        rows = [
            {**empty, "tool_name": f"t {n}", "api_name": f"a {n}", "api_description": described[n]} for n in range(80)
        ]
        names = ("category", "tool_name", "tool_description", "api_name", "api_description", "parameters")
        records = pa.Table.from_pylist(rows).select(names)
        column = "api_description"
    found = {}
    for protect in ("on", "off"):
        pieces = _pieces(records, kind, protect, tmp_path / protect)
        found[protect] = max((len(piece) for piece in pieces if piece in secret), default=0)
        assert any(piece.strip() in ("weather", "Weather", "What") for piece in pieces), column
    assert found["on"] <= 3 < len(secret) == found["off"]


def _pieces(records: pa.Table, kind: str, protect: str, folder: Path) -> list[str]:
    """Fit the tokenizer of records; return its pieces."""
    from difflm.artifacts import Artifact
    from difflm.models.loading import load_tokenizer

    folder.mkdir()
    import pyarrow.parquet as pq

    pq.write_table(records, folder / "records.parquet")
    experiment = load_experiment(
        str(folder / "records.parquet"),
        overrides=[f"data.kind={kind}", f"protect={protect}", "decoder.vocabulary_size=600"],
    )
    prepare, fit, *_ = build_stages(experiment)
    prepared = run_stage(prepare, folder / "prepared", experiment.runtime)
    assert dataclasses.is_dataclass(Artifact)
    fit.describe(prepared, folder / "decoder")  # type: ignore[attr-defined]
    tokenizer = load_tokenizer(folder / "decoder" / "tokenizer")
    return [tokenizer.decode([place]) for place in range(len(tokenizer))]
