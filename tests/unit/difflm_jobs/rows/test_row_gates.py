"""Gates of `difflm synthesize`: refusals, what makes the fingerprint, and workers that drop records."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts import ArtifactStore
from difflm.artifacts.dataset import DATA, JOB_NAME, Dataset, part_name
from difflm.artifacts.storage import LocalStore
from difflm.errors import ConfigError, EvaluationError
from difflm.records.kinds.columns import conform_table
from difflm.records.schema import read_schema
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import untrained_stages
from difflm.testing.tables import mixed_table
from difflm_evaluators.columns.real_tables import write_real
from difflm_evaluators.privacy.screen import PrivacyScreen, ScreenConfig
from difflm_jobs.experiment import refuse_failed_run
from difflm_jobs.inputs.gates import table_gates
from difflm_jobs.inputs.given_tables import RealFiles, real_files
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.runlog import HEADLINES
from difflm_jobs.rows.row_gates import ScreenedSynthesisWorker, row_gates, screen_facts, screen_of

FILES = RealFiles(train=Path("train.csv"), holdout=None)
SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=16, text_tokens=8, attempts=3)
SCREEN = ScreenConfig(copies=True, quantile=0.5)


def test_gates_need_something_to_compare_with() -> None:
    with pytest.raises(ConfigError, match=r"gate 'shape < 3': nothing is evaluated; give --evaluate for a run's own"):
        row_gates(["shape < 3"], None)
    for gate in ("drop: dcr_quantile >= 0.05", "dcr_share < 0.6"):
        with pytest.raises(ConfigError, match=r"needs rows that were not trained on; give them with --holdout"):
            row_gates([gate], FILES)
    assert [gate.score for gate in row_gates(["shape < 3", "drop: exact_copies == 0"], FILES)] == [
        "shape_error",
        "exact_copy_share",
    ]


def test_real_tables_are_asked_for_in_one_way(tmp_path: Path) -> None:
    path = Path("t.csv")
    assert real_files(tmp_path, of_run=False, train=None, holdout=None) is None
    with pytest.raises(ConfigError, match=r"--holdout t.csv: goes with --evaluate-against TABLE"):
        real_files(tmp_path, of_run=True, train=None, holdout=path)
    with pytest.raises(ConfigError, match="--evaluate and --evaluate-against: give one of them"):
        real_files(tmp_path, of_run=True, train=path, holdout=None)
    with pytest.raises(ConfigError, match="is no run with the splits of its bundle; give the training table with"):
        real_files(tmp_path, of_run=True, train=None, holdout=None)


def test_a_run_has_the_splits_of_its_newest_bundle(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for number in ("1", "2"):
        with store.create("table", f"t{number}", version=1, config={}, inputs={}) as draft:
            (draft.path / "train.parquet").touch()
    with store.create("bundle", "b", version=1, config={}, inputs={"prepare": "t1"}):
        pass
    files = real_files(tmp_path, of_run=True, train=None, holdout=None)
    assert files is not None
    assert (files.train, files.own) == (store.path("table", "t1") / "train.parquet", True)
    assert files.holdout == files.train.with_name("test.parquet")


@pytest.mark.parametrize(("bound", "code"), [(3.0, None), (1.0, 1)])
def test_a_run_ends_with_code_1_where_its_report_misses_a_gate(tmp_path: Path, bound: float, code: int | None) -> None:
    store = ArtifactStore(tmp_path)
    score = {"name": "shape_error", "value": 2.0, "undefined_because": None}
    for kind, facts in (("synthetic", {"rows_emitted": 300}), ("report", {HEADLINES: [score]})):
        with store.create(kind, "a", version=1, config={}, inputs={}) as draft:
            draft.facts = dict(facts)
    said: list[str] = []
    gates = table_gates((f"shape < {bound}", "warn: trend < 1"), "table")
    with pytest.raises(EvaluationError, match="is 2 after 300 rows") if code else nullcontext():
        refuse_failed_run(gates, store.finished(), said.append)
    (warning,) = said
    assert "trend_error is undefined (it was not computed) after 300 rows" in warning
    refuse_failed_run(gates, store.finished()[:0], said.append)  # of a run that went to an earlier stage only


def test_gates_of_a_configuration_are_read_with_it() -> None:
    with pytest.raises(ConfigError, match=r"gate 'shap < 3': no score 'shap'; did you mean 'shape'\?"):
        load_experiment("demo", overrides=["gates=['shap < 3']"])
    assert load_experiment("demo", overrides=["gates=['shape < 3']"]).gates == ("shape < 3",)


def test_gates_are_on_scores_of_the_kind_of_records() -> None:
    (gate,) = table_gates(["exact_copies < 1"], "code")
    assert gate.score == "exact_copy_share"
    with pytest.raises(ConfigError, match=r"no score 'shape'; .*scores are parses_share"):
        table_gates(["shape < 3"], "code")
    with pytest.raises(ConfigError, match=r"no score 'valid'; did you mean 'valid_share'\?"):
        table_gates(["valid > 50"], "tools")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained bundle, and real tables of its schema."""
    root = tmp_path_factory.mktemp("screened")
    bundle = untrained_stages(root / "stages", mixed_table(40)).bundle
    schema = read_schema(bundle)
    real = root / "real"
    real.mkdir()
    train, holdout = (conform_table(mixed_table(40, seed=seed), schema) for seed in (0, 1))
    write_real(real, train, holdout, schema)
    return bundle, real


def drawn(folders: tuple[Path, Path], out: Path, cuts: list[int]) -> tuple[pa.Table, int]:
    """Rows 0 ... 24 in shards with these borders, and how many draws were dropped."""
    bundle, real = folders
    made = Dataset(store=LocalStore(out))
    made.write_json(JOB_NAME, {"fingerprint": "f"})
    args: dict[str, Any] = {
        "bundle": str(bundle),
        "real": str(real),
        "sampling": SAMPLING.model_dump(mode="json"),
        "screen": dict(screen_facts(SCREEN, real)),
        "plan": {},
        "seed": 4,
        "output": {"url": str(out), "format": "parquet", "fingerprint": "f"},
    }
    worker = ScreenedSynthesisWorker(args)
    for start, stop in pairwise(cuts):
        worker.run(Shard(start, stop))
    dropped = sum(entry.account["rejections"].get("privacy", 0) for entry in made.entries())
    reasons = {run.reason for entry in made.entries() for run in entry.given_up}
    assert reasons <= {
        "none of 3 draws was valid and far enough from the training records",
        "none of 3 draws was valid",
    }
    return pq.read_table(out / DATA), dropped


class Shard:
    def __init__(self, start: int, stop: int) -> None:
        self.id, self.start, self.stop = part_name(start, stop), start, stop


def test_workers_drop_what_is_too_near_however_the_rows_are_cut(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table, dropped = drawn(folders, tmp_path / "one", [0, 25])
    assert dropped > 0
    assert PrivacyScreen(folders[1], SCREEN)(table).all()
    again, dropped_again = drawn(folders, tmp_path / "two", [0, 4, 18, 25])
    assert again.to_pylist() == table.to_pylist()
    assert dropped_again == dropped


def test_what_is_dropped_is_part_of_the_job(folders: tuple[Path, Path]) -> None:
    schema = read_schema(folders[0])
    files = RealFiles(train=Path("t.csv"), holdout=Path("h.csv"))
    texts = ["shape < 3", "drop: exact_copies == 0", "drop: dcr_quantile >= 0.5"]
    assert screen_of(row_gates(texts[:1], files), schema) is None
    screen = screen_of(row_gates(texts, files), schema)
    assert screen == SCREEN
    facts = screen_facts(screen, folders[1])
    assert facts["config"] == {"copies": True, "quantile": 0.5}
    assert facts != screen_facts(ScreenConfig(copies=True), folders[1])
    only_text = schema.model_copy(update={"fields": tuple(field for field in schema.fields if field.kind == "text")})
    with pytest.raises(ConfigError, match="every column is free text"):
        screen_of(row_gates(texts, files), only_text)
