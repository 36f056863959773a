"""The choice of attention: it reaches the model, also from a decoder's folder, changes no scores, and is refused in one
line where it cannot be.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from transformers import BertModel, GPT2LMHeadModel, T5EncoderModel

from difflm.errors import ConfigError, ModelError
from difflm.models.decoder import FrozenDecoder, PretrainedDecoderConfig, load_causal_lm
from difflm.models.decoder_store import load_decoder, write_tokenizer
from difflm.models.encoder import PretrainedEncoderConfig, load_encoder
from difflm.models.injection.injector import MemoryShape
from difflm.models.pretrained import use_flash_attention
from difflm.models.prompt import Prompt
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import read_schema
from difflm.testing.bundles import StageFolders
from difflm.testing.models import ENCODER_FAMILIES
from difflm.training.autoencoder_task import AutoencoderConfig
from difflm_jobs.loading import load_experiment


def _memory(shape: MemoryShape, width: int) -> Prompt:
    memory = torch.randn(2, shape.layers, 2, shape.heads, 5, shape.head_size)
    return Prompt(embeds_BKD=torch.zeros(2, 0, width), memory_BLXHKE=memory, added_BD=torch.randn(2, width))


@pytest.mark.parametrize("family", ["mistral", "gpt2"])
def test_a_decoders_folder_keeps_the_choice_and_the_scores_are_the_same(
    family: str, saved_decoder: Callable[[str], Path], tiny_stages: StageFolders, tmp_path: Path
) -> None:
    """Behind a soft prompt, and behind keys and values with something added; records run past Mistral's window."""
    schema = read_schema(tiny_stages.prepared)
    literals = JsonRecordCodec(schema).value_literals(pq.read_table(tiny_stages.prepared / "train.parquet"))
    config = PretrainedDecoderConfig(model=str(saved_decoder(family)), dtype="float32", attention="eager")
    write_tokenizer(tmp_path, config, schema, literals)
    eager, _ = load_decoder(tmp_path, schema)
    sdpa = FrozenDecoder(load_causal_lm(config.model, attention="sdpa")[0], bos_id=eager.bos_id, pad_id=eager.pad_id)
    assert [decoder.model.config._attn_implementation for decoder in (eager, sdpa)] == ["eager", "sdpa"]
    torch.manual_seed(0)
    ids_BT, lengths_B = torch.randint(0, 250, (2, 40)), torch.tensor([40, 30])
    soft = Prompt(embeds_BKD=0.1 * torch.randn(2, 6, eager.width))
    for prompt in (soft, _memory(eager.memory_shape, eager.width)):
        one, other = (decoder.nll(prompt, ids_BT, lengths_B) for decoder in (eager, sdpa))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ENCODER_FAMILIES)
def test_an_encoder_attends_as_it_is_told(family: str, saved_encoder: Callable[[str], Path]) -> None:
    if family == "t5" and not T5EncoderModel._supports_sdpa:
        pytest.skip("T5 has no sdpa in this version of transformers")
    ids, mask = torch.tensor([[5, 6, 7, 8], [8, 7, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    read = []
    for attention in ("sdpa", "eager"):
        model = load_encoder(str(saved_encoder(family)), attention=attention).eval()  # type: ignore[arg-type]
        assert model.config._attn_implementation == attention
        read.append(model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()])
    torch.testing.assert_close(*read, atol=1e-5, rtol=1e-5)


def test_what_a_model_does_not_have_is_named(
    saved_decoder: Callable[[str], Path], saved_encoder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GPT2LMHeadModel, "_supports_sdpa", False)
    monkeypatch.setattr(BertModel, "_supports_sdpa", False)
    with pytest.raises(ModelError, match=r"^decoder\.attention is sdpa, .*gpt2.*; give --set decoder\.attention=auto"):
        load_causal_lm(saved_decoder("gpt2"), attention="sdpa")
    with pytest.raises(ModelError, match=r"^autoencoder\.encoder\.attention is sdpa, .*bert.*attention=auto$"):
        load_encoder(str(saved_encoder("bert")), attention="sdpa")
    assert load_causal_lm(saved_decoder("gpt2"))[0].config._attn_implementation == "eager", "auto takes what there is"


def test_flash_attention_that_cannot_be_is_named(
    saved_decoder: Callable[[str], Path], saved_encoder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what training switches to; a model is loaded without it, since decoding and encoding cannot use it."""
    model, _ = load_causal_lm(saved_decoder("mistral"), dtype=torch.bfloat16, attention="flash_attention_2")
    assert model.config._attn_implementation == "sdpa"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"^decoder\.attention .*sees no GPU; give --set decoder\.attention=auto"):
        use_flash_attention(model, key="decoder.attention")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("transformers.modeling_utils.is_kernels_available", lambda: False)
    monkeypatch.setattr(type(model), "_flash_attn_import_error", _not_installed)
    with pytest.raises(ModelError, match=r"MistralForCausalLM cannot use here: .*not installed; install flash-attn or"):
        use_flash_attention(model, key="decoder.attention")
    with pytest.raises(ModelError, match=r"T5EncoderModel cannot (use here: .*not support|change its attention)"):
        use_flash_attention(load_encoder(str(saved_encoder("t5"))), key="autoencoder.encoder.attention")


def _not_installed(*_: object, **__: object) -> None:
    raise ImportError("flash_attn is not installed")


def test_flash_attention_wants_bfloat16_and_gpus() -> None:
    with pytest.raises(ValidationError, match="needs dtype bfloat16"):
        PretrainedDecoderConfig(model="x", dtype="float32", attention="flash_attention_2")
    encoder = PretrainedEncoderConfig(model="x", attention="flash_attention_2")
    with pytest.raises(ValidationError, match=r"needs loop\.precision bfloat16"):
        AutoencoderConfig.model_validate({"encoder": encoder, "loop": {"precision": "float32"}})
    given = ["decoder={kind: pretrained, model: x, attention: flash_attention_2}"]
    with pytest.raises(ConfigError, match=r"decoder\.attention flash_attention_2 needs runtime\.workers\.gpus_per"):
        load_experiment("demo", overrides=given)
    load_experiment("demo", overrides=[*given, "runtime.workers.gpus_per_worker=1"])
