"""Ablations: which experiments a grid means, and the table of what they scored."""

import json
import math
from pathlib import Path

import pytest

from difflm.errors import ConfigError, TrainingError
from difflm_evaluators.report.comparison_report import result_html, result_markdown, write_result_table
from difflm_evaluators.report.layout import ScoreEntry
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.inputs.places import refuse_others
from difflm_jobs.pipeline.stage import section
from difflm_jobs.stages.stages import build_stages
from difflm_jobs.studies.ablation import (
    Cell,
    Grid,
    Scores,
    ablation_table,
    cell_experiments,
    grid_names,
    load_grid,
    run_grid,
    spent_together,
)


def _entry(name: str, value: float | None) -> ScoreEntry:
    return ScoreEntry(
        name=name,
        title=name.replace("_", " ").capitalize(),
        meaning="",
        value=value,
        direction="lower",
        unit="%",
        bounds=(0.0, None),
        ideal=0.0,
        standard_error=None,
        interval=None,
        baseline=1.0,
        baseline_label=None,
        undefined_because=None if value is not None else "too few rows",
        warning=None,
    )


def _run(experiment: ExperimentConfig) -> Scores:
    """A shape error made of kind and seed; a memory with seed 2 cannot be trained."""
    kind, seed = experiment.autoencoder.injector.kind, experiment.seed
    if kind == "kv_memory" and seed == 2:
        raise TrainingError("the loss is not finite")
    value = {"soft_prompt": 2.0, "kv_memory": 5.0, "embedding": 8.0}[kind] + seed
    return {
        "shape_error": _entry("shape_error", value),
        "mle_auc": _entry("mle_auc", None if kind == "embedding" else 0.9),
    }


WHOLE = {"autoencoder.encoder.kind": "compact"}
GRID = Grid(
    cells=(
        Cell(name="soft", set=WHOLE, published={"shape_error": 9.74}),
        Cell(name="memory", set={**WHOLE, "autoencoder.injector.kind": "kv_memory"}),
        Cell(name="added", set={**WHOLE, "autoencoder.injector": {"kind": "embedding", "hidden_size": 8}}),
    ),
    seeds=(0, 1, 2),
    published_of="demo",
    source="the paper",
)


def test_a_grid_becomes_one_experiment_per_cell_and_seed_that_share_what_they_can() -> None:
    experiments = cell_experiments("demo", GRID, overrides=["rows=50"], target=None, name=None)
    assert len(experiments) == 9
    assert {config.name for config in experiments.values()} == {"demo-ablation"}
    assert {config.rows for config in experiments.values()} == {50}
    added = experiments["added", 2]
    assert (added.seed, added.autoencoder.injector.kind, added.autoencoder.injector.hidden_size) == (2, "embedding", 8)
    soft, memory = experiments["soft", 1], experiments["memory", 1]
    stages = zip(build_stages(soft), build_stages(memory), strict=True)
    same = {one.name: section(one) == section(other) for one, other in stages}
    assert same["fit-decoder"]
    assert not same["train-autoencoder"]


def test_means_errors_failures_and_printed_figures_stand_in_the_table(tmp_path: Path) -> None:
    said: list[str] = []
    experiments = cell_experiments("demo", GRID, overrides=(), target=None, name=None)
    results = run_grid(GRID, experiments, _run, say=said.append)
    assert len([text for text in said if "failed" not in text]) == 9
    soft, memory, added = results
    assert (soft.scores["shape_error"].mean, memory.scores["shape_error"].mean) == (3.0, 5.5)
    assert soft.scores["shape_error"].standard_error == pytest.approx(1 / math.sqrt(3))
    assert memory.failures == {2: "the loss is not finite"}
    assert "mle_auc" not in added.scores
    table = ablation_table(GRID, results, experiment="demo")
    text = result_markdown(table)
    assert "| soft | 3 ± 0.58 | 0.9 ± 0 | 9.74 |" in text
    assert "| memory (1 failed) | 5.5 ± 0.5 | 0.9 ± 0 | – |" in text
    assert "| added | 9 ± 0.58 | – | – |" in text
    assert "| real data in its place | 1 ± 0 | 1 ± 0 | – |" in text
    assert "memory, seed 2 failed: the loss is not finite" in text
    assert "<td>3 ± 0.58</td>" in result_html(table)
    write_result_table(table, tmp_path, "ablation")
    refuse_others(tmp_path, "ablation")
    facts = json.loads((tmp_path / "ablation.json").read_text())
    assert facts["cells"][0]["scores"]["shape_error"]["values"] == [2.0, 3.0, 4.0]
    assert (tmp_path / "ablation.html").exists()
    assert "printed" not in result_markdown(ablation_table(GRID, results, experiment="mine"))


def test_every_grid_that_ships_fits_every_table_preset() -> None:
    assert grid_names() == ["capacity", "priors", "table4"]
    for grid in map(load_grid, grid_names()):
        experiments = cell_experiments("adult", grid, overrides=(), target=None, name=None)
        assert len(experiments) == 3 * len(grid.cells)


def test_what_private_cells_spend_together_is_told() -> None:
    grid = load_grid(None, vary=["privacy.epsilon=[1, 3]"], seeds=[0, 1])
    experiments = cell_experiments("demo", grid, overrides=(), target=None, name=None)
    assert (spent_together(experiments) or "").startswith(
        "4 private runs learn the same rows, and what they spend adds up to an epsilon of 8"
    )
    assert spent_together(cell_experiments("demo", GRID, overrides=(), target=None, name=None)) is None


def test_keys_to_vary_are_combined() -> None:
    vary = ["prior.kind=[gmm, gaussian]", "autoencoder.steps=[5, 6, 7]"]
    grid = load_grid(None, vary=vary, seeds=[4])
    names = [cell.name for cell in grid.all_cells()]
    assert len(names) == 6
    assert names[0] == "prior.kind gmm, autoencoder.steps 5"
    found = cell_experiments("demo", grid, overrides=(), target=None, name="mine")
    config = found["prior.kind gaussian, autoencoder.steps 7", 4]
    assert (config.name, config.prior.kind, config.autoencoder.steps) == ("mine", "gaussian", 7)


@pytest.mark.parametrize(
    ("grid", "vary", "message"),
    [
        (None, [], r"--vary: .*the grid has no cell; give cells or vary"),
        (None, ["prior.kind=gmm"], r"--vary prior\.kind=gmm: expected a dotted key and a list"),
        ("nowhere.yaml", [], r"--grid nowhere\.yaml: no such file; grids that ship are capacity, priors, table4"),
        ("{cells: [{name: a}, {name: a}]}", [], r"two cells are called 'a'"),
        ("{cells: [{name: a, sett: {}}]}", [], r"unknown key; did you mean 'cells\.0\.set'"),
    ],
)
def test_a_grid_that_cannot_be_used_is_named(grid: str | None, vary: list[str], message: str, tmp_path: Path) -> None:
    if grid is not None and grid.startswith("{"):
        (tmp_path / "grid.yaml").write_text(grid)
        grid = str(tmp_path / "grid.yaml")
    with pytest.raises(ConfigError, match=message):
        load_grid(grid, vary=vary)


def test_a_change_that_is_no_key_is_named() -> None:
    grid = Grid(cells=(Cell(name="a", set={"prior.stepps": 3}),), seeds=(0,))
    with pytest.raises(ConfigError, match=r"prior\.stepps: unknown key; did you mean 'prior\.steps'"):
        cell_experiments("demo", grid, overrides=(), target=None, name=None)
