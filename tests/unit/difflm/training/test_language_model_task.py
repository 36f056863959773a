"""Language models on whole texts: losses as the model's own, long texts counted, last weights kept."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from difflm.errors import DataError, ModelError
from difflm.models.compact import CompactDecoderConfig, write_small_language_model
from difflm.testing.models import save_decoder
from difflm.training.language_model_task import (
    LanguageModelConfig,
    build_language_model_task,
    load_language_model,
    nats_of_texts,
    tokenize_texts,
)
from difflm.training.task import TaskSpec

TEXTS = ["the quick brown fox", "jumps", "over the lazy dog and the quiet river runs past the stone tower"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder(tmp_path_factory.mktemp("model"), "gpt2")


def test_nats_are_those_of_each_text_behind_bos(model: Path) -> None:
    module, tokenizer = load_language_model(str(model))
    tokens = tokenize_texts(TEXTS, tokenizer, longest=200, device="cpu")
    found_N = nats_of_texts(module, tokens, rows=2)
    for text, nats in zip(TEXTS, found_N.tolist(), strict=True):
        ids = torch.tensor([[module.bos_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            scores = module.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        assert nats == pytest.approx(-float(scores.gather(1, ids[0, 1:, None]).sum()), rel=1e-4)


def test_long_texts_are_counted_never_cut(model: Path) -> None:
    _, tokenizer = load_language_model(str(model))
    size = len(tokenizer("jumps")["input_ids"]) + 1
    tokens = tokenize_texts(TEXTS, tokenizer, longest=size, device="cpu")
    assert (tokens.kept, tokens.too_long, tokens.batches.lengths_N.tolist()) == ((1,), 2, [size])
    with pytest.raises(DataError, match=r"none of 3 texts has at most 1 tokens; raise training\.longest_tokens"):
        tokenize_texts(TEXTS, tokenizer, longest=1, device="cpu")


def test_a_tokenizer_without_an_end_is_refused(model: Path, tmp_path: Path) -> None:
    loaded, tokenizer = load_language_model(str(model))
    tokenizer.eos_token = None
    loaded.model.save_pretrained(tmp_path)  # type: ignore[operator]
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no EOS, which ends a text"):
        load_language_model(str(tmp_path))


def test_a_task_takes_epochs_or_steps_and_keeps_its_last_weights(tmp_path: Path) -> None:
    small = CompactDecoderConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16, vocabulary_size=300)
    write_small_language_model(tmp_path / "model", small, TEXTS * 4, longest=80, seed=0)
    for name in ("train", "held_out"):
        pq.write_table(pa.table({"text": TEXTS * 4}), tmp_path / f"{name}.parquet")
    inputs = {"model": str(tmp_path / "model"), **{n: str(tmp_path / f"{n}.parquet") for n in ("train", "held_out")}}

    def steps(**given: int) -> int:
        config = LanguageModelConfig(batch_size=5, **given).model_dump(mode="json")  # type: ignore[arg-type]
        return build_language_model_task(
            TaskSpec(factory="language_model", config=config, inputs=inputs), "cpu"
        ).steps()

    assert steps() == 8  # three passes over 12 texts
    assert steps(steps=2) == 2
    config = LanguageModelConfig(batch_size=5).model_dump(mode="json")
    task = build_language_model_task(TaskSpec(factory="language_model", config=config, inputs=inputs), "cpu")
    (weight, batch), *_ = task.validation_batches(0, 1)
    with torch.no_grad():
        outputs = task.module(**batch)
    assert weight == 5
    assert float(outputs["nats"]) == pytest.approx(float(outputs["loss"] * outputs["tokens"]), rel=1e-5)
    verdicts = [task.observe(step, {"nats": 9.0 + step, "tokens": 3.0}) for step in (1, 2)]
    assert verdicts[1].objective < verdicts[0].objective
    assert verdicts[0].note == "held-out loss 3.3333 nats a token"
    assert task.summary()["texts"] == 12
