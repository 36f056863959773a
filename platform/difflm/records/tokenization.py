"""Tokenization of records, segment by segment, with any decoder's tokenizer.

Shape legend: N records, T tokens of a padded sequence, G cells of the value grid.

A record is tokenized as the concatenation of its segments (fixed text, value literal, fixed text, ...), each tokenized
on its own; numbers and dates are tokenized character by character. Training, constrained decoding and encoding share
this one segmentation, so a grammar over token ids is exact for every tokenizer. The price is a few more tokens than a
merge across segment borders would give.

A tokenizer that has number tokens (`records.number_tokens`) writes numbers in pairs of digits instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from difflm.errors import ModelError
from difflm.records.number_tokens import is_number, number_bytes, number_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = npt.NDArray[np.int64]

CHARACTER_KINDS = frozenset({"integer", "decimal", "datetime"})
NUMBER_KINDS = frozenset({"integer", "decimal"})
SPELLED_KINDS = CHARACTER_KINDS | {"code", "identifier"}
"""Kinds whose literals are tokens of one character each; of those in `CHARACTER_KINDS` the digits are a number."""
NO_TOKEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLayout:
    """Fixed places of value tokens: field f owns `widths[f]` consecutive cells of the value grid.

    Widths come from the training split and a bound on them; tokens beyond a field's width have no cell.
    """

    widths: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.widths)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first cell of every field."""
        return tuple(accumulate(self.widths, initial=0))[:-1]

    @property
    def field_G(self) -> IntArray:
        return np.repeat(np.arange(len(self.widths)), self.widths)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """Token ids of N records: `ids_NT` padded on the right, `lengths_N`, and the same value tokens laid out as
    `grid_NG`.
    """

    ids_NT: IntArray
    lengths_N: IntArray
    grid_NG: IntArray

    def __len__(self) -> int:
        return len(self.lengths_N)


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """Return the bytes of every vocabulary entry; special tokens have none.

    Supports byte-level BPE and SentencePiece.
    """
    tokens = [tokenizer.convert_ids_to_tokens(index) for index in range(len(tokenizer))]
    marked = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special = marked | set(tokenizer.all_special_tokens)
    added = set(tokenizer.get_added_vocab())
    byte_level = _is_byte_level(tokenizer)
    return [
        b"" if not isinstance(token, str) or token in special else _bytes_of(token, byte_level, token in added)
        for token in tokens
    ]


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    vocabulary = tokenizer.get_vocab()
    return "Ġ" in vocabulary and "▁" not in vocabulary


def _bytes_of(token: str, byte_level: bool, added: bool) -> bytes:
    if added:
        return number_bytes(token) if is_number(token) else token.encode()
    if byte_level:
        table = _unicode_to_byte()
        return bytes(table[c] for c in token) if all(c in table for c in token) else token.encode()
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


@cache
def _unicode_to_byte() -> dict[str, int]:
    """Map the printable stand-ins of byte-level BPE (Radford et al. 2019) to the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class PieceTokenizer:
    """Tokenizes short pieces of text so that the ids' bytes are exactly the piece's bytes, whatever the tokenizer adds
    in front.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.bytes_V = token_bytes(tokenizer)
        added = tokenizer.get_added_vocab()
        self._whole = {token: index for token, index in added.items() if self.bytes_V[index] == token.encode()}
        self.numbers: Mapping[str, int] = {token: index for token, index in added.items() if is_number(token)}
        self._pieces: dict[str, tuple[int, ...]] = {}

    @cached_property
    def _single(self) -> dict[bytes, int]:
        """The token of every byte that has one: the ordinary one before SentencePiece's `<0x30>`, which no text has."""
        ordinary: dict[bytes, int] = {}
        fallback: dict[bytes, int] = {}
        for index, value in enumerate(self.bytes_V):
            if len(value) == 1:
                token = self.tokenizer.convert_ids_to_tokens(index)
                (fallback if len(str(token)) == 6 else ordinary).setdefault(value, index)
        return fallback | ordinary

    def characters(self, text: str) -> tuple[int, ...]:
        """Return one token per byte of `text` (numbers and dates); ModelError if the vocabulary lacks such a token."""
        try:
            return tuple(self._single[bytes([b])] for b in text.encode())
        except KeyError:
            raise ModelError(
                f"the tokenizer has no single-byte token for a character of {text!r}; "
                "choose a decoder whose vocabulary has digits"
            ) from None

    def number(self, literal: str) -> tuple[int, ...]:
        """Return the tokens of a number: of its pairs of digits where the tokenizer has them, or of its characters.

        Raises ModelError if the vocabulary lacks such a token.
        """
        magnitude, exponent, power = literal.removeprefix("-").partition("e")
        ids = [self.numbers.get(name, NO_TOKEN) for name in number_pieces(magnitude)] if self.numbers else [NO_TOKEN]
        if NO_TOKEN in ids:
            return self.characters(literal)
        sign = self.characters("-") if literal.startswith("-") else ()
        return (*sign, *ids, *self.characters(exponent + power))

    def piece(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a piece; ModelError for a lossy tokenizer (lower-cases, drops white space, ...)."""
        known = self._pieces.get(text)
        if known is None:
            known = self._known(text)
            if len(self._pieces) < 200_000:
                self._pieces[text] = known
        return known

    def _known(self, text: str) -> tuple[int, ...]:
        if not text:
            return ()
        return (self._whole[text],) if text in self._whole else self._lossless(text)

    def _lossless(self, text: str) -> tuple[int, ...]:
        want = text.encode()
        ids = list(self.tokenizer.encode(text, add_special_tokens=False))
        if self._joined(ids) == want:
            return tuple(ids)
        # SentencePiece puts a space in front of the first word: let a line break take it, then drop the line break.
        ids = list(self.tokenizer.encode("\n" + text, add_special_tokens=False))
        for start in range(1, min(4, len(ids)) + 1):
            if self._joined(ids[start:]) == want:
                return tuple(ids[start:])
        return self.characters(text)

    def _joined(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.bytes_V[i] for i in ids)


class RecordTokenizer:
    """Tokens of records whose fields are `kinds`, with the fixed texts between them (len(kinds) + 1 of them)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, kinds: Sequence[str], fixed_texts: Sequence[str]) -> None:
        if len(fixed_texts) != len(kinds) + 1:
            raise ValueError(f"{len(kinds)} fields need {len(kinds) + 1} fixed texts, got {len(fixed_texts)}")
        self.tokenizer = tokenizer
        self.pieces = PieceTokenizer(tokenizer)
        self.kinds = tuple(kinds)
        self.fixed_ids = tuple(self.pieces.piece(text) for text in fixed_texts)
        self.bos_id = _first(tokenizer, "bos_token_id", "cls_token_id", "eos_token_id")
        self.pad_id = _first(tokenizer, "pad_token_id", "eos_token_id", "bos_token_id")

    @property
    def opening_ids(self) -> tuple[int, ...] | None:
        """The token that each field begins with; None where a field has none of its own.

        That is so beside JSON, whose values may have keys that are written as those of the record.
        """
        if "json" in self.kinds:
            return None
        opening = [ids[0] for ids in self.fixed_ids[:-1] if len(ids) == 1]
        alone = len(self.fixed_ids[-1]) == 1 and len(set(opening)) == len(self.kinds) == len(opening)
        return tuple(opening) if alone else None

    def literal_ids(self, field: int, literal: str) -> tuple[int, ...]:
        """Return the token ids of one value literal.

        `null` is a piece even in a number's place; the quotes of free text are tokens of their own.
        """
        if literal == "null":
            return self.pieces.piece(literal)
        if self.kinds[field] in NUMBER_KINDS:
            return self.pieces.number(literal)
        if self.kinds[field] in SPELLED_KINDS:
            return self.pieces.characters(literal)
        if self.kinds[field] == "text":
            quote = self.pieces.characters('"')
            return quote + self.pieces.piece(literal[1:-1]) + quote
        return self.pieces.piece(literal)

    def in_order(self, tokens: Sequence[int]) -> list[int]:
        """Return a record's tokens with its fields in the table's order, from any order of them.

        Every field's own text is one token here, no two of them alike.
        """
        opening = {ids[0]: place for place, ids in enumerate(self.fixed_ids[:-1])}
        parts: dict[int, list[int]] = {}
        place = 0
        for token in tokens[:-1]:
            place = opening.get(token, place)
            parts.setdefault(place, []).append(token)
        return [token for place in sorted(parts) for token in parts[place]] + list(tokens[-1:])

    def partly_read(self, literals: Sequence[Sequence[str]], layout: GridLayout) -> tuple[int, ...]:
        """Count, by field, the values that have more tokens than the field has cells."""
        return tuple(
            sum(len(self.literal_ids(field, literal)) > width for literal in column)
            for field, (column, width) in enumerate(zip(literals, layout.widths, strict=True))
        )

    def layout(self, literals: Sequence[Sequence[str]], *, longest: int = 64) -> GridLayout:
        """Choose grid widths for all values of `literals` (one sequence per field), at most `longest` tokens each."""
        widths = []
        for field, column in enumerate(literals):
            width = max((len(self.literal_ids(field, literal)) for literal in set(column)), default=1)
            widths.append(min(width, longest))
        return GridLayout(widths=tuple(widths))

    def encode(self, literals: Sequence[Sequence[str]], layout: GridLayout) -> TokenTable:
        """Tokenize N records given column by column: `literals[f][n]` is the value literal of field f in record n."""
        count = len(literals[0])
        columns: list[IntArray] = []
        cells: list[IntArray] = []
        for field, column in enumerate(literals):
            values_NW = self._column(field, column)
            columns += [np.tile(np.array(self.fixed_ids[field], dtype=np.int64), (count, 1)), values_NW]
            cells.append(_fit(values_NW, layout.widths[field]))
        columns.append(np.tile(np.array(self.fixed_ids[-1], dtype=np.int64), (count, 1)))
        ids_NT, lengths_N = _compact(np.concatenate(columns, axis=1), self.pad_id)
        grid_NG = np.concatenate(cells, axis=1)
        return TokenTable(
            ids_NT=ids_NT, lengths_N=lengths_N, grid_NG=np.where(grid_NG == NO_TOKEN, self.pad_id, grid_NG)
        )

    def _column(self, field: int, column: Sequence[str]) -> IntArray:
        index = {literal: i for i, literal in enumerate(dict.fromkeys(column))}
        rows = [self.literal_ids(field, literal) for literal in index]
        table = np.full((len(rows), max(len(row) for row in rows)), NO_TOKEN, dtype=np.int64)
        for i, row in enumerate(rows):
            table[i, : len(row)] = row
        return table[np.fromiter((index[literal] for literal in column), dtype=np.int64, count=len(column))]


def _fit(values_NW: IntArray, width: int) -> IntArray:
    if values_NW.shape[1] >= width:
        return values_NW[:, :width]
    return np.pad(values_NW, ((0, 0), (0, width - values_NW.shape[1])), constant_values=NO_TOKEN)


def _compact(sparse_NT: IntArray, pad_id: int) -> tuple[IntArray, IntArray]:
    """Move the holes (NO_TOKEN) of every row to its end and fill them with padding."""
    holes = sparse_NT == NO_TOKEN
    order = np.argsort(holes, axis=1, kind="stable")
    lengths_N = (~holes).sum(axis=1)
    ids_NT = np.take_along_axis(sparse_NT, order, axis=1)[:, : int(lengths_N.max())]
    return np.where(ids_NT == NO_TOKEN, pad_id, ids_NT), lengths_N


def _first(tokenizer: PreTrainedTokenizerBase, *names: str) -> int:
    for name in names:
        value: Any = getattr(tokenizer, name, None)
        if isinstance(value, int):
            return value
    raise ModelError(
        f"the tokenizer has none of {', '.join(names)}; choose a model whose tokenizer marks where text begins or ends"
    )
