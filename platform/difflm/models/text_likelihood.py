"""How likely texts are under a pretrained causal language model: what scores of fluency measure by.

Shape legend: B texts, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from difflm.errors import ModelError
from difflm.models.decoder import load_causal_lm
from difflm.models.prompt import Prompt, causal_nll, padded_batches

TOKENS_PER_BATCH = 1024  # each takes a row of the vocabulary, several times


class TextLikelihood:
    """A causal LM that gives the nats of texts; it is loaded at the first of them.

    `model` is whatever `difflm.models.sources` names, and `name` what reports call it. A text is read behind BOS, or
    EOS where there is none.
    """

    def __init__(self, model: str, *, name: str | None = None, max_tokens: int = 2048) -> None:
        self.model, self.name, self.max_tokens = model, name or model, max_tokens
        self._loaded: tuple[Any, Any, int] | None = None

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return the nats of each text, 0 for an empty one.

        Raises:
            ModelError: the model cannot be loaded, its tokenizer marks no beginning, or a text is too long for it.
        """
        model, tokenizer, bos_id = self._load()
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        longest = max(map(len, ids), default=0)
        if longest > self.max_tokens:
            raise ModelError(f"{self.model}: a text of {longest} tokens, and {self.max_tokens} are read; cut it before")
        nats = [0.0] * len(ids)
        order = sorted((place for place, some in enumerate(ids) if some), key=lambda place: len(ids[place]))
        for places in padded_batches(order, [len(some) for some in ids], TOKENS_PER_BATCH):
            for place, found in zip(places, self._nats(model, [ids[p] for p in places], bos_id), strict=True):
                nats[place] = found
        return nats

    @torch.inference_mode()
    def _nats(self, model: Any, ids: Sequence[Sequence[int]], bos_id: int) -> list[float]:
        lengths_B = torch.tensor([len(one) for one in ids])
        ids_BT = torch.zeros(len(ids), int(lengths_B.max()), dtype=torch.int64)
        for row, one in enumerate(ids):
            ids_BT[row, : len(one)] = torch.tensor(one)
        width = int(model.get_input_embeddings().weight.shape[1])
        nothing = Prompt(embeds_BKD=torch.empty(len(ids), 0, width))
        found: list[float] = causal_nll(model, nothing, ids_BT, lengths_B, bos_id=bos_id).sum(dim=1).tolist()
        return found

    def _load(self) -> tuple[Any, Any, int]:
        if self._loaded is None:
            model, tokenizer = load_causal_lm(self.model)
            marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
            bos_id = next((mark for mark in marks if isinstance(mark, int)), None)
            if bos_id is None:
                raise ModelError(f"{self.model}: the tokenizer has neither BOS nor EOS; choose a model that has one")
            model.train(False)
            self._loaded = model, tokenizer, bos_id
        return self._loaded
