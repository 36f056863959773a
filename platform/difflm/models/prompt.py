"""The prompt: what a frozen decoder reads of a latent, whatever wrote it.

Shape legend: B records, K positions in front of the text, D width of token embeddings, L layers, X keys and values (2),
H key heads, E head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """K positions in front of BOS, and what is added to every token embedding behind them.

    The positions are embeddings that the decoder reads like tokens (`embeds_BKD`), or what its layers would have made
    of tokens there: keys, already turned to their positions, and values (`memory_BLXHKE`; then `embeds_BKD` has no
    positions). `added_BD` is added to the embeddings of BOS and of every token of the text.
    """

    embeds_BKD: Tensor
    memory_BLXHKE: Tensor | None = None
    added_BD: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.embeds_BKD)

    @property
    def positions(self) -> int:
        """K."""
        return int(self.embeds_BKD.shape[1] if self.memory_BLXHKE is None else self.memory_BLXHKE.shape[4])

    def rows(self, rows: Tensor | slice) -> Prompt:
        """The prompts of some records."""
        return self._each(lambda part: part[rows])

    def to(self, dtype: torch.dtype) -> Prompt:
        """The same in another precision."""
        return self._each(lambda part: part.to(dtype))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prompt:
        memory, added = self.memory_BLXHKE, self.added_BD
        return Prompt(
            embeds_BKD=change(self.embeds_BKD),
            memory_BLXHKE=None if memory is None else change(memory),
            added_BD=None if added is None else change(added),
        )


def joined_prompts(parts: Sequence[Prompt]) -> Prompt:
    """The prompts of several batches, which one injector wrote."""
    if len(parts) == 1:
        return parts[0]
    memories = [part.memory_BLXHKE for part in parts if part.memory_BLXHKE is not None]
    added = [part.added_BD for part in parts if part.added_BD is not None]
    return Prompt(
        embeds_BKD=torch.cat([part.embeds_BKD for part in parts]),
        memory_BLXHKE=torch.cat(memories) if memories else None,
        added_BD=torch.cat(added) if added else None,
    )
