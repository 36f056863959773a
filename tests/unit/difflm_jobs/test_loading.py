"""What may be given as CONFIG, and what is said when it cannot be used."""

import re
from pathlib import Path

import pytest
import yaml

from difflm.config import apply_overrides, dump_yaml
from difflm.errors import ConfigError, DataError
from difflm.models.injection.injector import SoftPromptConfig
from difflm.models.kl_schedule import CapacityKl
from difflm_jobs.cli.plan import plan
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.loading import file_schema, load_experiment, preset_names, refuse_missing
from difflm_jobs.planning.machine import Machine


def test_presets_are_found() -> None:
    tables = ["adult", "beijing", "code", "default", "demo", "magic", "shoppers", "tools"]
    models = [f"llm/{name}" for name in ("adult", "code", "magic", "tools")]
    assert preset_names() == tables + models + [f"paper/{name}" for name in tables if name != "demo"]


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
        (
            "autoencoder={encoder: {kind: compact}, kl: {start: 0.0005}}",
            "autoencoder.kl: minimum 0.001 must not be above start 0.0005",
        ),
        ("sampling.sigma_min=90", "sampling: sigma_min 90.0 must be below sigma_max 10.0"),
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


def written(folder: Path, **files: str) -> Path:
    """The first of the files, by their names without `.yaml`, in `folder`."""
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def test_a_file_extends_a_preset_and_keeps_its_own_name(tmp_path: Path) -> None:
    config = load_experiment(str(written(tmp_path, mine="extends: adult\nprior: {steps: 7}\n")))
    preset = load_experiment("adult")
    assert config == preset.model_copy(update={"name": "mine", "prior": preset.prior.model_copy(update={"steps": 7})})
    named = written(tmp_path, named="extends: [mine.yaml]\nname: other\n")
    assert load_experiment(str(named)).name == "other"
    assert load_experiment(str(named), name="third").name == "third"


def test_a_part_of_the_papers_presets_lies_over_a_table_of_ones_own(tmp_path: Path) -> None:
    config = load_experiment(str(written(tmp_path, mine="extends: parts/paper\ndata: {train: a.csv}\n")))
    assert config.decoder == load_experiment("paper/adult").decoder
    assert config.data.train.kind == "file"


def test_by_default_the_decoder_writes_and_the_latent_steers() -> None:
    config = load_experiment("demo")
    assert (config.autoencoder.encoder.kind, config.autoencoder.kl) == ("pooled", CapacityKl(nats=2.0))
    assert (config.decoder_fit.steps, config.autoencoder.steps, config.prior.steps) == (2000, 300, 4000)
    assert config.autoencoder.injector == SoftPromptConfig(soft_tokens=4, empty=True)


WHOLE: dict[str, object] = {
    "autoencoder.kl.kind": "adaptive",
    "autoencoder.kl.minimum_improvement": 0.01,
    "autoencoder.injector.soft_tokens": 32,
    "autoencoder.injector.empty": False,
    "autoencoder.steps": 1200,
    "autoencoder.loop.learning_rate": 2e-3,
    "decoder_fit.steps": 600,
    "decoder_fit.epochs": 40.0,
    "decoder_fit.loop.method": "adamw",
    "prior.width": 512,
    "prior.blocks": 4,
    "prior.steps": 12000,
}


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        (["autoencoder.encoder.kind=compact"], {}),
        (["autoencoder.encoder={kind: compact, layers: 1}"], {"autoencoder.encoder.layers": 1}),
        (["decoder={kind: pretrained, model: gpt2}"], {"autoencoder.encoder.kind": "compact"}),
        (
            ["autoencoder.encoder.kind=compact", "autoencoder.loop.warmup_steps=3", "prior.steps=7"],
            {"autoencoder.loop.warmup_steps": 3, "prior.steps": 7},
        ),
        (
            ["autoencoder.encoder.kind=compact", "autoencoder.kl={kind: constant, value: 0.5}", "prior.kind=gmm"],
            {"autoencoder.kl.kind": "constant", "autoencoder.kl.value": 0.5, "autoencoder.kl.minimum_improvement": None}
            | {"prior.kind": "gmm", "prior.width": None, "prior.blocks": None, "prior.steps": None},
        ),
        (
            ["autoencoder.encoder.kind=compact", "autoencoder.injector.kind=kv_memory"],
            {"autoencoder.injector.soft_tokens": None, "autoencoder.injector.empty": None},
        ),
        (["decoder={kind: pretrained, model: gpt2}", "decoder_fit.steps=9"], {"decoder_fit.steps": 9}),
    ],
)
def test_where_z_carries_whole_records_other_defaults_hold(changes: list[str], others: dict[str, object]) -> None:
    config = load_experiment("demo", overrides=changes)
    for key, value in (WHOLE | others).items():
        found: object = config
        for name in key.split("."):
            found = getattr(found, name, None)
        assert found == value, key


def test_engines_that_know_characters_only_get_a_decoder_that_writes_them() -> None:
    engines = ("sampling.engine.kind=vllm", "sampling.engine.constraint=llguidance", "sampling.engine.kind=builtin")
    found = [load_experiment("demo", overrides=[engine]).decoder for engine in engines]
    assert [decoder.kind == "compact" and decoder.number_pairs for decoder in found] == [False, False, True]
    kept = load_experiment("demo", overrides=[engines[0], "decoder.number_pairs=true"]).decoder
    assert kept.kind == "compact"
    assert kept.number_pairs
    assert (
        load_experiment("demo", overrides=[engines[0], "decoder={kind: pretrained, model: gpt2}"]).decoder.kind
        == "pretrained"
    )


@pytest.mark.parametrize("change", ["autoencoder.encoder.kind=compact", "autoencoder.encoder.kind=pooled", "rows=5"])
def test_what_is_written_loads_back_to_the_same(change: str, tmp_path: Path) -> None:
    config = load_experiment("demo", overrides=[change])
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_experiment(str(tmp_path / "again.yaml")) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("autoencoder.kl={kind: constant}", "encoder.kind=pooled does not go with autoencoder.kl.kind=constant"),
        ("autoencoder={encoder: {kind: compact}, kl: {kind: capacity}}", "encoder.kind=compact does not go with"),
        (
            "{decoder: {kind: pretrained, model: gpt2}, autoencoder: {encoder: {kind: pooled}}}",
            "a pretrained decoder is not fitted beside a latent of few nats",
        ),
        (
            "autoencoder.injector.kind=embedding",
            "autoencoder.injector.kind=embedding needs an encoder of whole records",
        ),
        (
            "autoencoder={encoder: {kind: compact}, injector: {kind: vocabulary}}",
            "autoencoder.encoder.kind=compact, not of a compact decoder from a compact encoder",
        ),
        ("autoencoder.injector.kind=vocabulary", "autoencoder.injector.kind=vocabulary writes token embeddings"),
        (
            "{decoder: {kind: pretrained, model: gpt2}, autoencoder: {encoder: {kind: pretrained, model: bert},"
            " injector: {kind: vocabulary}}}",
            "not of a pretrained decoder from a pretrained encoder",
        ),
        (
            "{decoder: {kind: pretrained, model: gpt2}, autoencoder: {injector: {kind: prefix, words: 4}}}",
            "choose autoencoder.encoder.kind bag or pretrained",
        ),
        (
            "{decoder: {kind: pretrained, model: gpt2}, autoencoder: {encoder: {kind: bag},"
            " injector: {kind: prefix, words: 4}, kl: {kind: capacity, nats: 24}, draft: {steps: 0}}}",
            "some autoencoder.draft.steps, not encoder bag, kl capacity and 0 steps",
        ),
        (
            "{decoder: {kind: pretrained, model: gpt2}, autoencoder: {encoder: {kind: bag}, injector: {kind: prefix}}}",
            "autoencoder.encoder.kind=bag is for latents that are said in words",
        ),
        ("autoencoder.injector.empty=false", "autoencoder.injector.empty=false leaves a decoder"),
        ("autoencoder.encoder.kind=pooed", "autoencoder.encoder.kind"),
        ("autoencoder.encoder=3", "autoencoder.encoder"),
        ("autoencoder=3", "autoencoder"),
        ("decoder=pretrained", "decoder"),
    ],
)
def test_latents_and_what_they_do_not_go_with(change: str, message: str, tmp_path: Path) -> None:
    if change.startswith("{"):
        data = {"extends": "demo", **yaml.safe_load(change)}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_experiment(str(tmp_path / "mine.yaml"))
    else:
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_experiment("demo", overrides=[change])


@pytest.mark.parametrize("name", ["paper/adult", "paper/tools"])
def test_presets_of_whole_records_stay_so(name: str) -> None:
    config = load_experiment(name, overrides=["data.train=x.json"] if name != "paper/adult" else [])
    assert config.autoencoder.encoder.kind == "pretrained"
    assert (config.autoencoder.kl.kind, config.autoencoder.injector.kind) == ("adaptive", "soft_prompt")
    assert config.prior.steps == 12000


@pytest.mark.parametrize(
    ("name", "encoder", "injector"), [("tools", "pooled", "soft_prompt"), ("llm/tools", "bag", "prefix")]
)
def test_tools_are_steered_by_a_latent_of_a_few_nats(name: str, encoder: str, injector: str) -> None:
    section = load_experiment(name, overrides=["data.train=x.json"]).autoencoder
    assert (section.encoder.kind, section.injector.kind, section.kl.kind) == (encoder, injector, "capacity")


def test_files_extend_files_beside_them_in_their_order(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        top="extends: [parts/base.yaml, parts/more.yml.yaml]\nrows: 5\n",
        **{
            "parts/base": "data: {train: table.csv, target: a, validation: 0.2}\nseed: 1\nrows: 4\n",
            "parts/more.yml": "extends: ../root.yaml\ndata: {target: b}\n",
            "root": "data: {train: none.csv, target: c}\nseed: 3\n",
        },
    )
    config = load_experiment(str(path), overrides=["data.validation=0.3"])
    assert (config.name, config.seed, config.rows, config.data.target, config.data.validation) == (
        "top",
        3,
        5,
        "b",
        0.3,
    )
    assert config.data.train.kind == "file"
    assert config.data.train.path == "none.csv"  # from where the command is given, as in any file


def test_a_section_of_another_kind_replaces_the_one_below(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        top="extends: base.yaml\nprior: {kind: gmm}\nautoencoder: {steps: 9}\n",
        base="data: {train: a.csv}\nprior: {kind: diffusion, steps: 3}\nautoencoder: {batch_size: 8}\n",
    )
    config = load_experiment(str(path))
    assert config.prior.kind == "gmm"
    assert (config.autoencoder.steps, config.autoencoder.batch_size) == (9, 8)


def test_a_circle_of_files_is_refused_with_its_chain(tmp_path: Path) -> None:
    path = written(tmp_path, a="extends: x/b.yaml\n", **{"x/b": "extends: ../c.yaml\n", "c": "extends: x/../a.yaml\n"})
    chain = " -> ".join(str(tmp_path / name) for name in ("a.yaml", "x/b.yaml", "c.yaml", "a.yaml"))
    said = f"{tmp_path / 'c.yaml'}: extends: files extend each other in a circle: {chain};"
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_experiment(str(path))
    with pytest.raises(ConfigError, match="in a circle"):
        load_experiment(str(written(tmp_path, own="extends: own.yaml\n")))


def test_two_files_may_extend_the_same_one(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        top="extends: [one.yaml, other.yaml]\n",
        one="extends: base.yaml\nseed: 1\n",
        other="extends: base.yaml\nrows: 2\n",
        base="data: {train: a.csv}\nseed: 0\n",
    )
    config = load_experiment(str(path))
    assert (config.seed, config.rows) == (0, 2)


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("adlut", "mine.yaml: extends: adlut: neither a preset nor a YAML file (.yaml, .yml); did you mean 'adult'?"),
        ("base", "did you mean 'base.yaml'?"),
        ("bsae.yaml", "mine.yaml: extends: bsae.yaml: no such file; did you mean 'base.yaml'?"),
        ("table.csv", "table.csv: neither a preset nor a YAML file"),
        ("{a: b}", "mine.yaml: extends: expected the name of a preset or the path of a YAML file"),
        ("[adult, 3]", "found ['adult', 3]"),
        ("", "found None"),
    ],
)
def test_what_cannot_be_extended_is_named(extends: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, mine=f"extends: {extends}\n", base="seed: 0\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_experiment(str(path))


@pytest.mark.parametrize(
    ("base", "own", "message"),
    [
        ("seed: -1", "rows: 3", "base.yaml: seed: "),
        ("seed: 1", "rows: -3", "top.yaml: rows: "),
        ("data: {train: a.csv, taget: b}", "data: {target: c}", "base.yaml: data.taget: unknown key"),
        ("data: {train: a.csv, target: b}", "data: {taget: c}", "top.yaml: data.taget: unknown key"),
        ("gates: [a, b]", "rows: 3", "base.yaml: gates: gate 'a': cannot be read"),
        ("data: {target: b}", "rows: 3", "base.yaml: data.train: required and missing"),
        ("decoder: {heads: 3}", "prior: {steps: 2}", "base.yaml: decoder: hidden_size 128"),
        ("prior: {kind: gmm, width: 3}", "seed: 4", "base.yaml: prior.width: unknown key"),
        ("seed: [", "seed: 4", "base.yaml, line 3: "),
        ("conditions: {enabled: true}\nprior: {kind: gmm}", "seed: 4", "base.yaml: conditions.enabled needs"),
    ],
)
def test_an_error_names_the_file_in_which_the_key_stands(base: str, own: str, message: str, tmp_path: Path) -> None:
    data = "" if "data:" in base else "data: {train: a.csv}\n"
    path = written(tmp_path, top=f"extends: base.yaml\n{own}\n", base=f"{data}{base}\n")
    with pytest.raises(ConfigError) as caught:
        load_experiment(str(path))
    assert str(caught.value).startswith(str(tmp_path / message.split(": ")[0].split(",")[0])), caught.value
    assert message in str(caught.value)


def test_the_schema_for_editors_knows_extends() -> None:
    import jsonschema

    schema = file_schema()
    for data in ({"extends": "adult"}, {"extends": ["adult", "b.yaml"], "rows": 3}, {"data": {"train": "a.csv"}}):
        jsonschema.validate(apply_overrides(data, []), schema)
    for wrong in ({}, {"extends": 3}, {"extends": "adult", "row": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_a_table_that_is_not_there_is_refused_before_anything_slow(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"data\.train: .*none\.csv: no such file; check the path"):
        refuse_missing(missing, ["data.target=a", "seed=3"])
    for replaced in ("data.train=a.csv", "data={train: a.csv}", "data.train.path=a.csv"):
        refuse_missing(missing, [replaced])
    refuse_missing("${SOMEWHERE}/none.csv")
    refuse_missing("adult")


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


def test_an_address_in_place_of_a_table_is_told() -> None:
    with pytest.raises(DataError, match="is an address; tables are read from paths of this machine"):
        refuse_missing("https://example.org/people.csv", [])
