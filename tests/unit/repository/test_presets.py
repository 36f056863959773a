"""Every preset is a whole configuration and can be planned without its data."""

from pathlib import Path

import pytest

from difflm.config import dump_yaml, parse_yaml, validate
from difflm_jobs.cli.plan import plan
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.loading import load_experiment, preset_names
from difflm_jobs.planning.machine import Machine

LAPTOP = Machine(memory_mib=8192.0, gpus_mib=())
STAGES = [
    "prepare",
    "fit-decoder",
    "train-autoencoder",
    "encode",
    "train-diffusion",
    "assemble",
    "synthesize",
    "evaluate",
]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_plans(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFLM_DATA", raising=False)
    config = load_experiment(name)
    assert config.name == name.replace("/", "-")
    made = plan(config, tmp_path, LAPTOP)
    assert [line.stage for line in made.lines] == STAGES
    assert {line.state for line in made.lines} == {"would run"}
    assert (made.missing is None) == (name == "demo")
    assert made.refused is None, "a machine without GPUs is not the one that a preset with GPUs would run on"
    unknown = [line.stage for line in made.lines if line.memory is None]
    assert unknown == ["prepare", "assemble", "evaluate"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_written_out_reads_back(name: str) -> None:
    config = load_experiment(name)
    assert validate(ExperimentConfig, parse_yaml(dump_yaml(config), "written"), "written") == config


@pytest.mark.parametrize("name", preset_names())
def test_a_published_figure_names_its_source(name: str) -> None:
    for row in load_experiment(name).published:
        assert "arXiv" in row.source
