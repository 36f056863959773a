"""The study of quantity and mixing: which rows are learned from, and the table of what was learned."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.base import Score
from difflm_evaluators.report.comparison_report import result_markdown, write_result_table
from difflm_evaluators.scores.utility import UtilityConfig
from difflm_jobs.inputs.places import refuse_others
from difflm_jobs.studies.study import Mixture, Recipe, label_folder, mixtures, quantity_table, study_table


def _table(rows: int, *, seed: int, noise: bool = False) -> pa.Table:
    """`label` says whether `x` is above 0, or by `noise` nothing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    label = random.random(rows) < 0.5 if noise else x > 0
    return pa.table({"x": np.round(x, 3), "label": np.where(label, "yes", "no")})


def test_multiples_are_of_the_real_rows_and_the_first_of_the_synthetic_ones() -> None:
    train, synthetic = _table(10, seed=0), _table(35, seed=1)
    found = mixtures(train, synthetic, [1, 2, 4])
    by_name = {recipe.name: table for recipe, table in found.items()}
    assert {name: len(table) for name, table in by_name.items()} == {
        "real": 10,
        "1x synthetic": 10,
        "2x synthetic": 20,
        "4x synthetic": 35,  # fewer were valid than asked for
        "real + 1x synthetic": 20,
        "real + 2x synthetic": 30,
        "real + 4x synthetic": 45,
    }
    assert by_name["1x synthetic"] == synthetic.slice(0, 10)
    assert by_name["real + 2x synthetic"].slice(0, 10).to_pylist() == train.to_pylist()


def test_models_learn_from_real_rows_what_noise_does_not_teach() -> None:
    raw = _table(120, seed=0)
    schema = infer_schema(raw, target="label")
    train, test, noise = (
        conform_table(table, schema) for table in (raw, _table(200, seed=1), _table(120, seed=2, noise=True))
    )
    said: list[str] = []
    config = UtilityConfig(seeds=(0,), threads=1)
    real, alone, both = study_table(train, test, noise, schema, times=[1], config=config, say=said.append)
    assert [len(said), real.recipe.name, both.rows] == [3, "real", 240]
    assert real.score.value is not None
    assert alone.score.value is not None
    assert both.score.value is not None
    assert real.score.value > 0.95
    assert real.score.value > both.score.value > alone.score.value
    assert real.score.baseline is None


def _mixture(times: int, value: float | None, *, real: bool = False) -> Mixture:
    score = Score(
        name="mle_auc",
        title="Usefulness (ROC-AUC)",
        meaning="",
        value=value,
        direction="higher",
        standard_error=None if value is None else 0.01,
        undefined_because="one class" if value is None else None,
    )
    return Mixture(recipe=Recipe(real=real, times=times), rows=1000 * max(times, 1), score=score)


def test_runs_stand_side_by_side_with_what_was_printed(tmp_path: Path) -> None:
    studies = {
        "adult": [_mixture(0, 0.93, real=True), _mixture(2, 0.91), _mixture(2, 0.92, real=True)],
        "/my/own": [_mixture(0, 0.8, real=True), _mixture(2, None), _mixture(2, None, real=True)],
    }
    table = quantity_table(studies)
    assert list(table.columns) == ["learned from", "adult, ROC-AUC ↑", "/my/own, ROC-AUC ↑"]
    text = result_markdown(table)
    assert "| real | 0.93 ± 0.01 | 0.8 ± 0.01 |" in text
    assert "| 2x synthetic | 0.91 ± 0.01 | undefined: one class |" in text
    assert "| real + synthetic, printed | 0.925 | – |" in text
    assert "1x is as many rows as there are real ones: adult 1,000, /my/own 1,000." in text
    assert "DiffLM paper" in text
    assert list(table.pictures) == ["study-adult"], "nothing to draw where nothing is defined"
    assert "synthetic rows, times the 1,000 real rows of adult" in table.pictures["study-adult"]
    write_result_table(quantity_table({"/my/own": studies["/my/own"]}), tmp_path, "study")
    refuse_others(tmp_path, "study")
    facts = json.loads((tmp_path / "study.json").read_text())
    assert facts["runs"]["/my/own"][0]["value"] == pytest.approx(0.8)
    assert "printed" not in (tmp_path / "study.md").read_text()


def test_a_label_that_is_a_path_stays_in_the_studys_folder() -> None:
    assert label_folder("/data/runs/adult") == "data-runs-adult"
