"""Loading pretrained models: what can be missing, and what the error says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from difflm.errors import ModelError
from difflm.models.decoder import PretrainedDecoderConfig, load_causal_lm
from difflm.models.decoder_store import load_decoder, read_parts, read_tensors, write_tokenizer
from difflm.models.encoder import PretrainedEncoderConfig, encoder_inputs, load_encoder
from difflm.models.precision import PrecisionSetting
from difflm.models.pretrained import hash_weights
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema
from difflm.testing.bundles import StageFolders
from difflm.testing.models import DECODER_FAMILIES, save_decoder


@pytest.fixture
def copied(tmp_path: Path, saved_decoder: Callable[[str], Path]) -> Path:
    """A decoder's folder that a test may damage."""
    return Path(shutil.copytree(saved_decoder("llama"), tmp_path / "model"))


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_every_family_loads_with_its_tokenizer(family: str, saved_decoder: Callable[[str], Path]) -> None:
    model, tokenizer = load_causal_lm(saved_decoder(family))
    assert model.config.model_type == family
    assert len(tokenizer) <= model.config.vocab_size


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere' does not exist; give a hub id or a directory"):
        load_causal_lm(tmp_path / "nowhere")


def test_a_directory_without_a_configuration_is_named(copied: Path) -> None:
    (copied / "config.json").unlink()
    with pytest.raises(ModelError, match=r"model' has no config\.json; give a directory made by save_pretrained"):
        load_causal_lm(copied)


def test_a_directory_without_a_tokenizer_is_named(copied: Path) -> None:
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"model' has no tokenizer; save the tokenizer"):
        load_causal_lm(copied)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_configuration_of_a_far_larger_model_than_its_files_is_refused_before_it_is_made(
    copied: Path, *, sharded: bool
) -> None:
    """What the files lack, or have in another shape, is made up first, of any size, and told afterwards."""
    if sharded:
        whole = load_causal_lm(copied)[0]
        (copied / "model.safetensors").unlink()
        whole.save_pretrained(copied, max_shard_size="50KB")
        assert len(list(copied.glob("model-*.safetensors"))) > 1
        load_causal_lm(copied)
    facts = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(facts | {"num_key_value_heads": 40_000}))
    with pytest.raises(ModelError, match=r"its config\.json describes a model of 4[01],\d+,\d+ numbers, and its files"):
        load_causal_lm(copied)


def test_a_directory_without_weights_is_named(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot load the decoder '.*model'"):
        load_causal_lm(copied)


def test_a_tokenizer_of_another_model_is_named(copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens([f"extra{index}" for index in range(9)])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match=r"model' knows 429 tokens but the model embeds only 420"):
        load_causal_lm(copied)


def test_an_encoder_path_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere' has no config\.json"):
        load_encoder(str(tmp_path / "nowhere"))


def test_an_encoder_without_weights_is_named(tmp_path: Path, saved_encoder: Callable[[str], Path]) -> None:
    directory = shutil.copytree(saved_encoder("bert"), tmp_path / "bert")
    (Path(directory) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load the encoder"):
        load_encoder(str(directory))


def test_an_encoders_foreign_tokenizer_is_named(
    tmp_path: Path, saved_encoder: Callable[[str], Path], tiny_stages: StageFolders
) -> None:
    directory = Path(shutil.copytree(saved_encoder("bert"), tmp_path / "bert"))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["extra1", "extra2"])
    tokenizer.save_pretrained(directory)
    schema = RecordSchema.from_json((tiny_stages.prepared / "schema.json").read_bytes())
    table = pq.read_table(tiny_stages.prepared / "train.parquet")
    with pytest.raises(ModelError, match=r"knows \d+ tokens but the model embeds only \d+"):
        encoder_inputs(PretrainedEncoderConfig(model=str(directory)), table, schema, "cpu")


def _written(stages: StageFolders, model: Path, directory: Path, dtype: PrecisionSetting = "bfloat16") -> RecordSchema:
    schema = RecordSchema.from_json((stages.prepared / "schema.json").read_bytes())
    literals = JsonRecordCodec(schema).value_literals(pq.read_table(stages.prepared / "train.parquet"))
    write_tokenizer(directory, PretrainedDecoderConfig(model=str(model), dtype=dtype), schema, literals)
    return schema


def test_a_dtype_of_auto_is_what_is_computed_in(
    tmp_path: Path, tiny_stages: StageFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = _written(tiny_stages, save_decoder(tmp_path / "model", "qwen2", seed=0), tmp_path / "decoder", "auto")
    for computed_in, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        decoder, _ = load_decoder(tmp_path / "decoder", schema, computed_in=computed_in)
        assert decoder.embeddings_VD.dtype == dtype
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_decoder(tmp_path / "decoder", schema)[0].embeddings_VD.dtype == torch.float32


def test_changed_weights_are_noticed(tmp_path: Path, tiny_stages: StageFolders) -> None:
    model = save_decoder(tmp_path / "model", "qwen2", seed=0)
    schema = _written(tiny_stages, model, tmp_path / "decoder")
    decoder, parts = load_decoder(tmp_path / "decoder", schema)
    assert decoder.embeddings_VD.dtype == torch.bfloat16  # the hash does not depend on it
    assert parts.tokenizer.bos_id == parts.tokenizer.tokenizer.eos_token_id  # Qwen2 has no BOS
    save_decoder(model, "qwen2", seed=1)
    with pytest.raises(ModelError, match=r"changed since this was trained.*put back those it was trained with"):
        load_decoder(tmp_path / "decoder", schema)


def test_the_hash_sees_one_changed_small_weight(saved_decoder: Callable[[str], Path]) -> None:
    model, _ = load_causal_lm(saved_decoder("gpt2"))
    before = hash_weights(model)
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] += 1.0
    assert hash_weights(model) != before


def test_a_decoder_directory_of_another_version_is_named(tmp_path: Path, tiny_stages: StageFolders) -> None:
    directory = Path(shutil.copytree(tiny_stages.decoder, tmp_path / "decoder"))
    schema = RecordSchema.from_json((tiny_stages.prepared / "schema.json").read_bytes())
    facts = json.loads((directory / "decoder.json").read_text())
    (directory / "decoder.json").write_text(json.dumps(facts | {"format_version": 7}))
    with pytest.raises(ModelError, match=r"decoder\.json: format_version is 7, this version reads 1"):
        read_parts(directory, schema)
    (directory / "decoder.json").unlink()
    with pytest.raises(ModelError, match=r"decoder\.json: no decoder can be read"):
        read_parts(directory, schema)


def test_missing_and_damaged_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x\.safetensors: no such file"):
        read_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"x\.safetensors: damaged"):
        read_tensors(tmp_path / "x.safetensors")
