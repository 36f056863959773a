"""Models from strangers: their code never runs, their weights are all there, no bundle picks a folder of its own."""

from __future__ import annotations

import ast
import json
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from difflm.errors import BundleError, ModelError
from difflm.models.decoder import PretrainedDecoderConfig, load_causal_lm
from difflm.models.encoder import PretrainedEncoderConfig, encoder_inputs, load_encoder
from difflm.models.gguf_files import read_head
from difflm.models.loading import load_configuration, load_tokenizer
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import ALLOW_LOCAL, is_local, write_hashes
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.models import save_decoder, save_encoder
from difflm.testing.tables import mixed_table

REPOSITORY = Path(__file__).resolve().parents[2]
LOADERS = {"from_pretrained", "from_config"}
OWN_CODE = r"brings Python code of its own \(auto_map\), which is never run"


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def with_code(folder: Path, ran: Path) -> None:
    """Give a model's folder a configuration, a model and a tokenizer of its own, which leave a trace."""
    (folder / "evil.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nclass Config: pass\nModel = Tokenizer = Config\n"
    )
    maps = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoModelForCausalLM": "evil.Model"}
    rewrite(folder / "config.json", model_type="evil", auto_map=maps)
    tokenizer = {"AutoTokenizer": ["evil.Tokenizer", None]}
    rewrite(folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map=tokenizer)


def test_every_loader_refuses_code_and_pickles() -> None:
    calls = [
        (path.relative_to(REPOSITORY).as_posix(), node)
        for package in ("platform", "evaluators", "jobs")
        for path in (REPOSITORY / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOADERS
    ]
    assert calls
    for path, call in calls:
        given = {word.arg: word.value for word in call.keywords}
        trusted = given.get("trust_remote_code")
        assert isinstance(trusted, ast.Constant), f"{path}:{call.lineno}"
        assert trusted.value is False, f"{path}:{call.lineno}"
    assert {path for path, _ in calls} == {"platform/difflm/models/loading.py"}, "one place loads what others made"


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path, stages: StageFolders) -> None:
    decoder, encoder, ran = tmp_path / "decoder", tmp_path / "encoder", tmp_path / "ran"
    with_code(save_decoder(decoder, "llama"), ran)
    with_code(save_encoder(encoder, "bert"), ran)
    table = mixed_table(3)
    for load in (
        lambda: load_causal_lm(decoder),
        lambda: load_encoder(str(encoder)),
        lambda: load_configuration(decoder),
        lambda: load_tokenizer(decoder),
        lambda: encoder_inputs(PretrainedEncoderConfig(model=str(encoder)), table, read_schema(stages.prepared), "cpu"),
    ):
        with pytest.raises(ModelError, match=OWN_CODE):
            load()
    assert not ran.exists()


@pytest.mark.parametrize("where", ["decoder/tokenizer", "decoder/model"])
def test_code_that_comes_with_a_bundle_does_not_run(bundle: Path, tmp_path: Path, where: str) -> None:
    folder, ran = bundle / where, tmp_path / "ran"
    (folder / "evil.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nclass Config: pass\nModel = Tokenizer = Config\n"
    )
    if where.endswith("tokenizer"):
        changes = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
        rewrite(folder / "tokenizer_config.json", **changes)
    else:
        rewrite(folder / "config.json", model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Model"})
    write_hashes(bundle)
    with suppress(BundleError):  # transformers may know how to go without the code
        load_bundle(bundle)
    assert not ran.exists()


def test_a_bundle_from_elsewhere_names_no_folder_of_this_machine(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_decoder(tmp_path / "base", "llama")
    config = PretrainedDecoderConfig(model=str(base), dtype="float32")
    own = untrained_stages(tmp_path / "own", mixed_table(20).select(["age", "city"]), decoder=config)
    load_bundle(own.bundle)  # the experiment's configuration beside it names the folder
    copied = Path(shutil.copytree(own.bundle, tmp_path / "copied" / "bundle"))
    with pytest.raises(BundleError, match=rf"decoder\.json: its base model is the folder '{base}'.*{ALLOW_LOCAL}=1"):
        load_bundle(copied)
    load_bundle(copied, allow_local_base=True)
    monkeypatch.setenv(ALLOW_LOCAL, "1")
    load_bundle(copied)
    monkeypatch.delenv(ALLOW_LOCAL)
    (copied.parent / "config.yaml").write_text(yaml.safe_dump({"decoder": {"model": "../base"}}))
    load_bundle(copied)  # relative to wherever the run began
    (copied.parent / "config.yaml").write_text("[" * 5000)
    with pytest.raises(BundleError, match="its base model is the folder"):
        load_bundle(copied)
    facts = json.loads((bundle / "bundle.json").read_text())
    facts["autoencoder"]["encoder"] = {"kind": "pretrained", "model": str(save_encoder(tmp_path / "encoder", "bert"))}
    (bundle / "bundle.json").write_text(json.dumps(facts))
    write_hashes(bundle)
    with pytest.raises(BundleError, match=r"bundle\.json: its base model is the folder '.*encoder'"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "changes", [{"num_labels": 10**9}, {"num_hidden_layers": 10**9}, {"text_config": {"num_hidden_layers": 10**9}}]
)
def test_numbers_that_lists_are_made_of_are_bounded(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Names for 10**9 labels took all memory before anything else was looked at."""
    save_decoder(tmp_path / "model", "llama")
    rewrite(tmp_path / "model" / "config.json", **changes)
    with pytest.raises(ModelError, match=r"is 1,000,000,000 in its config\.json; 10+,000 is the most"):
        load_configuration(tmp_path / "model")


@pytest.mark.parametrize("inner", [4, 8])
def test_a_gguf_head_that_counts_more_than_there_is_ends(tmp_path: Path, inner: int) -> None:
    """A list of 2**60 numbers was read entry by entry, each of them empty."""
    pytest.importorskip("gguf")
    path, key = tmp_path / "x.gguf", b"tokenizer.ggml.token_type"
    head = struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, len(key)) + key
    path.write_bytes(head + struct.pack("<IIQ", 9, inner, 2**60) + b"\0" * 64)
    with pytest.raises(ModelError, match="a damaged or cut off GGUF file"):
        read_head(path)


def test_what_is_a_path_and_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    paths = ["/a/b", "./a", "../a", "~/a", "~other/a", "some", r"\\host\share", "."]
    assert [is_local(name) for name in paths] == [True] * len(paths)
    assert [is_local(name) for name in ("Qwen/Qwen2.5-0.5B", "gpt2", "package:tiny")] == [False] * 3


def test_a_decoder_without_its_weights_draws_no_rows(bundle: Path) -> None:
    """Any file in its place satisfied a check for existence, and transformers drew random weights."""
    weights = bundle / "decoder" / "model" / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    for name in ("pytorch_model.bin", "model.txt", "model.safetensors"):
        path = weights.with_name(name)
        torch.save(tensors, path)
        write_hashes(bundle)
        with pytest.raises(BundleError, match="decoder/model"):
            load_bundle(bundle)
        path.unlink()


_LONG = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAAA"}}, "no tokenizer"),
        ({"padding": {"strategy": {"Fixed": 2**40}, "pad_id": 0}}, r"tokenizer\.json: padding to 1,099,511,627,776"),
        ({"normalizer": {"type": "Sequence", "normalizers": [_LONG] * 4}}, "texts 1,600,000,000 times as long"),
    ],
)
def test_a_tokenizer_that_panics_or_takes_all_memory_is_refused(
    bundle: Path, changes: dict[str, Any], said: str
) -> None:
    """What its reader panics with is no Exception; the others took all memory for a text of three letters."""
    rewrite(bundle / "decoder" / "tokenizer" / "tokenizer.json", **changes)
    write_hashes(bundle)
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_decoder_with_another_number_of_layers_is_refused(bundle: Path, layers: int) -> None:
    rewrite(bundle / "decoder" / "model" / "config.json", num_hidden_layers=layers)
    write_hashes(bundle)
    with pytest.raises(BundleError, match=rf"config\.json: num_hidden_layers is {layers}, and decoder\.json .* say 2"):
        load_bundle(bundle)
    facts = json.loads((bundle / "decoder" / "decoder.json").read_text())
    rewrite(bundle / "decoder" / "decoder.json", config={**facts["config"], "layers": layers})
    write_hashes(bundle)
    with pytest.raises(BundleError, match=r"model\.safetensors: not the tensors that decoder\.json describes"):
        load_bundle(bundle)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_pretrained_decoder_with_another_number_of_layers_is_refused(tmp_path: Path, layers: int) -> None:
    folder = save_decoder(tmp_path / "model", "llama")
    rewrite(folder / "config.json", num_hidden_layers=layers)
    with pytest.raises(ModelError, match=r"model\.safetensors: the files (lack|have, but).*'model\.layers\.\d"):
        load_causal_lm(folder)


def test_a_decoder_that_lacks_a_tensor_or_has_a_strange_one_is_refused(bundle: Path) -> None:
    weights = bundle / "decoder" / "model" / "model.safetensors"
    tensors = {key: value.clone() for key, value in load_file(weights).items()}  # the file is about to be replaced
    name = "model.layers.1.mlp.up_proj.weight"
    for changed, said in (
        ({key: value for key, value in tensors.items() if key != name}, f"lack '{name}'"),
        ({**tensors, "model.extra": torch.zeros(2)}, "no place for, 'model.extra'"),
        ({**tensors, name: torch.zeros(3, 3)}, "decoder/model"),
    ):
        save_file(changed, weights, metadata={"format": "pt"})
        write_hashes(bundle)
        with pytest.raises(BundleError, match=said):
            load_bundle(bundle)


def test_an_adapter_does_not_lead_to_another_model(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path / "model", "llama")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "other")})
    )
    with pytest.raises(ModelError, match=r"adapter_config\.json: an adapter of another model"):
        load_causal_lm(folder)


def test_an_encoder_that_lacks_a_tensor_is_refused_but_a_whole_model_will_do(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "bert", "bert")
    tensors = {key: value.clone() for key, value in load_file(folder / "model.safetensors").items()}
    save_file({**tensors, "cls.bias": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    load_encoder(str(folder))
    name = next(name for name in tensors if "layer.0" in name)
    kept = {key: value for key, value in tensors.items() if key != name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="the files lack"):
        load_encoder(str(folder))
