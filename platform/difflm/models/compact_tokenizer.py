"""The compact decoder's tokenizer: byte-level BPE fitted to the training split.

Fixed texts, category literals and the JSON words are single tokens, every digit is its own token, and what is left
(free text) is byte-level BPE of about `vocabulary_size` entries. Nothing is downloaded, and every byte string can be
written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
JSON_WORDS = ("null", "true", "false")
LEAST_PAIRS = 3  # what fewer places have is not learned: the tokenizer goes into the bundle, which holds no row


def fit_compact_tokenizer(
    *,
    fixed_texts: Sequence[str],
    category_literals: Iterable[str],
    texts: Iterable[str],
    vocabulary_size: int = 1000,
    most_categories: int = 4000,
) -> PreTrainedTokenizerFast:
    """Fit the tokenizer.

    `category_literals` are literals with repetition or in order of frequency: the `most_categories` most frequent
    become tokens, the rest is spelled by BPE. `texts` are the literals of free-text fields (and rare categories) that
    the merges are learned from.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        min_frequency=LEAST_PAIRS,
        vocab_size=max(vocabulary_size, 256 + len(SPECIAL_TOKENS)),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    frequent = [literal for literal, _ in Counter(category_literals).most_common(most_categories)]
    whole = dict.fromkeys([*fixed_texts, *JSON_WORDS, *frequent])
    added = [AddedToken(text, normalized=False, special=False) for text in whole if len(text.encode()) > 1]
    tokenizer.add_tokens(added)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False
    )
