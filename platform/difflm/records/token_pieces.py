"""Pieces of a tokenizer that enough texts have: a merge says what it is made of, and goes wherever the tokenizer goes.

Counting pairs of tokens, as training does, is not counting rows: one row may have a word many times.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BETWEEN: Final = "\n"  # of no byte's stand-in


def with_common_pieces(tokenizer: Tokenizer, texts: Sequence[str], least: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer without the merges whose piece stands in fewer than `least` of the texts.

    What is made of such a piece stands in fewer texts still, so that all other merges stay possible.
    """
    if least <= 1:
        return tokenizer
    from tokenizers import Tokenizer

    described: dict[str, Any] = json.loads(tokenizer.to_str())
    model = described["model"]
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    words = [_BETWEEN.join(word for word, _ in split(text)) for text in dict.fromkeys(texts)] if model["merges"] else []
    rows = dict.fromkeys(texts, 0)
    for text in texts:
        rows[text] += 1
    counts = list(rows.values())
    kept = [pair for pair in model["merges"] if _is_common("".join(_pair(pair)), words, counts, least)]
    made = {"".join(_pair(pair)) for pair in model["merges"]} - {"".join(_pair(pair)) for pair in kept}
    names = [name for name in sorted(model["vocab"], key=model["vocab"].get) if name not in made]
    described["model"] = {**model, "merges": kept, "vocab": {name: place for place, name in enumerate(names)}}
    return Tokenizer.from_str(json.dumps(described))


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _is_common(piece: str, words: Sequence[str], counts: Sequence[int], least: int) -> bool:
    """Whether enough texts have a piece; most pieces are found after a few of them."""
    found = 0
    for word, count in zip(words, counts, strict=True):
        if piece in word:
            found += count
            if found >= least:
                return True
    return False
