"""The flywheel: what a round is trained on and scored against, where it stops, and the table of its rounds."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts import Artifact, ArtifactStore
from difflm.errors import ConfigError
from difflm.testing.bundles import write_prepared
from difflm.testing.tables import mixed_table
from difflm_evaluators.report.comparison_report import result_markdown, write_result_table
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.inputs.gates import table_gates
from difflm_jobs.inputs.places import refuse_others
from difflm_jobs.loading import load_experiment
from difflm_jobs.stages.evaluate import SHARDS
from difflm_jobs.studies.flywheel import Round, RoundRun, flywheel_table, turn

REAL, MADE = mixed_table(100), mixed_table(160)


def _score(name: str, value: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "value": value,
        "undefined_because": None if value is not None else "no target",
        "unit": "%",
        "standard_error": 0.1,
        "baseline": 1.0,
    }


class Runs:
    """A runner that trains nothing: prepared tables are what it was given, and shape errors grow by the round."""

    def __init__(self, folder: Path) -> None:
        self.store, self.calls = ArtifactStore(folder), list[tuple[ExperimentConfig, Artifact | None]]()

    def _made(self, kind: str, identity: str, facts: dict[str, Any], table: pa.Table) -> Artifact:
        with self.store.create(kind, identity, version=1, config={}, inputs={}) as draft:
            if kind == "table":
                write_prepared(draft.path, table.slice(0, 80), table.slice(80, 10))
                pq.write_table(table.slice(90, 10), draft.path / "test.parquet")
            elif kind == "synthetic":
                (draft.path / SHARDS).mkdir()
                pq.write_table(table, draft.path / SHARDS / "part-0.parquet")
            draft.facts = facts
        found = self.store.find(kind, identity)
        assert found is not None
        return found

    def __call__(self, config: ExperimentConfig, against: Artifact | None) -> RoundRun:
        number = len(self.calls)
        self.calls.append((config, against))
        name = hashlib.sha256(str(number).encode()).hexdigest()
        headlines = [_score("shape_error", 1.0 + number), _score("mle_auc", None if number == 1 else 0.9)]
        return RoundRun(
            prepared=self._made("table", name, {}, REAL),
            synthetic=self._made("synthetic", name, {"rows_emitted": 60}, MADE.slice(100)),
            report=self._made("report", name, {}, REAL),
            headlines=headlines,
        )


def _turn(folder: Path, *gates: str, rounds: int = 3) -> tuple[Runs, list[Round]]:
    config = load_experiment("demo", overrides=["data.read={}", "data.target=label"])
    runs, known = Runs(folder / "store"), table_gates(gates, "table")
    done = turn(config, runs, rounds=rounds, gates=known, folder=folder / "rounds", say=lambda text: None)
    return runs, done


def test_each_round_is_trained_on_real_and_new_rows_and_scored_against_the_first_splits(tmp_path: Path) -> None:
    runs, done = _turn(tmp_path)
    assert [ended.number for ended in done] == [0, 1, 2]
    (first, against_none), (second, against), (third, against_too) = runs.calls
    assert against_none is None
    assert against == against_too == done[0].run.prepared
    assert first.rows is None
    assert second.rows == third.rows == 80
    merged = pq.read_table(second.data.train.path)
    assert len(merged) == 80 + 10 + 60
    ages = [str(age) for age in merged.column("age").to_pylist()]
    assert ages == REAL.column("age").to_pylist()[:90] + MADE.column("age").to_pylist()[100:]
    assert second.data.test is not None
    assert pq.read_table(second.data.test.path).num_rows == 10
    assert second.data.train != third.data.train
    assert (second.data.target, second.name) == ("label", first.name)


def test_a_gate_that_stops_ends_the_flywheel_and_one_that_warns_does_not(tmp_path: Path) -> None:
    runs, done = _turn(tmp_path, "shape < 2", "warn: shape < 1")
    assert len(runs.calls) == 2
    assert done[1].stopped_by == ["gate 'shape < 2': shape_error is 2 after 60 rows"]
    assert done[0].stopped_by == []
    text = result_markdown(flywheel_table(done, name="demo"))
    assert "Stopped after round 1: gate 'shape &lt; 2': shape_error is 2 after 60 rows." in text
    assert "Round 0: gate 'warn: shape &lt; 1'" in text


def test_the_table_has_a_row_per_round_and_pictures_of_what_moves(tmp_path: Path) -> None:
    _, done = _turn(tmp_path, rounds=2)
    table = flywheel_table(done, name="demo")
    assert table.rows[0] == ["0", "80", "60", "1 ± 0.1", "0.9 ± 0.1"]
    assert table.rows[1][3:] == ["2 ± 0.1", "–"]
    assert table.rows[2] == ["real", "–", "–", "1", "1"]
    write_result_table(table, tmp_path / "out", "flywheel")
    refuse_others(tmp_path / "out", "flywheel")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"flywheel.{ending}" for ending in ("json", "md", "html")),
        *("shape_error.svg", "mle_auc.svg"),
    }
    facts = json.loads((tmp_path / "out" / "flywheel.json").read_text())
    assert [ended["scores"][0]["value"] for ended in facts["rounds"]] == [1.0, 2.0]
    assert "round" in (tmp_path / "out" / "shape_error.svg").read_text()


def test_only_tables_turn(tmp_path: Path) -> None:
    config = load_experiment("code", overrides=["data.train=x.jsonl"])
    with pytest.raises(ConfigError, match=r"data\.kind is code; a flywheel turns tables only"):
        turn(config, Runs(tmp_path), rounds=2, gates=(), folder=tmp_path, say=lambda text: None)


def test_nothing_that_is_promised_privacy_turns(tmp_path: Path) -> None:
    """Rounds behind the first were trained on rows of the private counts, and scored against them as real ones."""
    config = load_experiment("demo", overrides=["privacy.epsilon=3.0"])
    with pytest.raises(ConfigError, match=r"privacy\.epsilon: every round of a flywheel learns the real rows again"):
        turn(config, Runs(tmp_path), rounds=2, gates=(), folder=tmp_path, say=lambda text: None)
