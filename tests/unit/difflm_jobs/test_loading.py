"""What may be given as CONFIG, and what is said when it cannot be used."""

import re
from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm_jobs.cli.plan import plan
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.loading import load_experiment, preset_names
from difflm_jobs.planning.machine import Machine


def test_presets_are_found() -> None:
    tables = ["adult", "beijing", "code", "default", "demo", "magic", "shoppers", "tools"]
    assert preset_names() == tables + [f"paper/{name}" for name in tables if name != "demo"]


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("paper/")])
def test_the_papers_presets_are_planned_without_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment(name)
    plain = load_experiment(name.removeprefix("paper/"))
    assert config.data == plain.data
    assert config.published == plain.published
    assert (config.decoder.kind, config.autoencoder.encoder.kind) == ("pretrained", "pretrained")
    assert (config.autoencoder.injector.kind, config.prior.kind) == ("soft_prompt", "diffusion")
    assert config.sampling.engine == plain.sampling.engine
    assert config.sampling.text_tokens == plain.sampling.text_tokens
    assert (config.sampling.steps, config.sampling.temperature) == (50, 0.5)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sizes = {line.stage: line for line in plan(config, tmp_path, Machine(memory_mib=8192.0, gpus_mib=())).lines}
    assert "mistralai/Mistral-7B-Instruct-v0.3, frozen" in sizes["fit-decoder"].size
    assert sizes["train-autoencoder"].processes == 8
    assert sizes["train-autoencoder"].gpu_mib > (2 * 7.248e9 + 4 * 1.09e8) / 2**20  # Mistral in bfloat16, BERT


def test_a_table_is_enough(tmp_path: Path) -> None:
    config = load_experiment(str(tmp_path / "My table (1).csv.gz"), target="a b", overrides=["seed=3"])
    assert config.name == "My-table-1"
    assert config.data.train.path.endswith("My table (1).csv.gz")
    assert config.data.target == "a b"
    assert config.seed == 3


def test_a_yaml_file_is_named_after_itself_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {train: a.csv}\n", encoding="utf-8")
    assert load_experiment(str(path)).name == "mine"
    assert load_experiment(str(path), name="other").name == "other"


def test_a_typo_in_a_key_names_the_closest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {train: a.csv, taget: x}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: data\.taget: unknown key; did you mean 'data\.target'\?"):
        load_experiment(str(path))
    with pytest.raises(
        ConfigError, match=r"--set data\.taget=5: data\.taget: unknown key; did you mean .data\.target.\?"
    ):
        load_experiment("demo", overrides=["data.taget=5"])


def test_a_typo_in_a_presets_name_names_the_closest() -> None:
    with pytest.raises(
        ConfigError, match=r"adlut: neither a preset nor a file of a known kind; did you mean 'adult'\?"
    ):
        load_experiment("adlut")


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_experiment(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "-x"])
def test_a_name_is_a_folder_name(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        load_experiment("demo", name=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("decoder.key_heads=3", "decoder: heads 4 must be a multiple of key_heads (3)"),
        ("decoder.heads=3", "decoder: hidden_size 128 must be a multiple of twice the heads (3)"),
        ("autoencoder.encoder.heads=3", "autoencoder.encoder: hidden_size 128 must be a multiple of the heads (3)"),
        ("autoencoder.beta.start=0.0005", "autoencoder.beta: minimum 0.001 must not be above start 0.0005"),
        ("sampling.sigma_min=90", "sampling: sigma_min 90.0 must be below sigma_max 80.0"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused_before_anything_runs(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_experiment("demo", overrides=[change])


def test_a_models_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    changes = ["decoder={kind: pretrained, model: ~/llama}", "autoencoder.encoder={kind: pretrained, model: ~/bert}"]
    config = load_experiment("demo", overrides=changes)
    assert config.decoder.kind == config.autoencoder.encoder.kind == "pretrained"
    assert (config.decoder.model, config.autoencoder.encoder.model) == ("/home/somebody/llama", "/home/somebody/bert")


@pytest.mark.parametrize(
    ("wish", "threads"), [(None, 4), ("3", 3), ("16", 4), ("2,1", 2), ("0", 4), ("many", 4), ("", 4)]
)
def test_a_training_takes_the_threads_that_the_environment_asks_for(
    monkeypatch: pytest.MonkeyPatch, wish: str | None, threads: int
) -> None:
    monkeypatch.setattr("difflm_jobs.config.usable_processors", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wish is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert RuntimeConfig().workers.cpus_per_worker == threads
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # then Ray has set it, to 1
    assert RuntimeConfig().workers.cpus_per_worker == 4
