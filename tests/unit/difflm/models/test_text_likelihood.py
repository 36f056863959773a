"""Nats of texts under a causal language model."""

from pathlib import Path

import pytest
import torch

from difflm.errors import ModelError
from difflm.models import text_likelihood
from difflm.models.decoder import load_causal_lm
from difflm.models.text_likelihood import TextLikelihood
from difflm.testing.models import save_decoder


@pytest.mark.parametrize("tokens", [1, 30, 1024])
def test_nats_are_those_of_each_text_alone(tmp_path: Path, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_likelihood, "TOKENS_PER_BATCH", tokens)
    folder = save_decoder(tmp_path / "model", "llama")
    model, tokenizer = load_causal_lm(folder)
    texts = ["the quick brown fox", "", "a river", "the lazy dog and the quiet river runs past"]
    wanted = []
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1).detach()
        wanted.append(-sum(float(logits[place, token]) for place, token in enumerate(ids[1:])))
    scorer = TextLikelihood(str(folder))
    assert scorer(texts) == pytest.approx(wanted, rel=1e-4)
    assert scorer.name == str(folder)
    assert scorer([]) == []


def test_a_text_that_is_too_long_and_a_model_that_is_not_there(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path / "model", "gpt2")
    with pytest.raises(ModelError, match=r"a text of .* tokens, and 3 are read"):
        TextLikelihood(str(folder), max_tokens=3)(["the quick brown fox jumps over the lazy dog"])
    with pytest.raises(ModelError, match="does not exist"):
        TextLikelihood(str(tmp_path / "none"))(["a"])
