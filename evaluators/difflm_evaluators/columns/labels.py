"""Labels: a column of texts as the places of its distinct values."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels(Sequence[str | None]):
    """Reads like a tuple of texts, None where missing. `codes_N` numbers `values`, and is -1 where missing."""

    values: tuple[str, ...]
    codes_N: IntArray

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> "Labels":
        """Take any texts as labels; labels as they are."""
        return texts if isinstance(texts, Labels) else cls.read(pa.chunked_array([pa.array(texts, pa.string())]))

    @classmethod
    def read(cls, texts: pa.ChunkedArray) -> "Labels":
        """Wrap an Arrow column of type string, or of a dictionary of strings, which is kept as it is."""
        whole = texts.unify_dictionaries().combine_chunks()
        encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
        if encoded.dictionary.null_count:  # missing in the dictionary and not among the rows
            encoded = encoded.dictionary_decode().dictionary_encode()
        codes_N: IntArray = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(values=tuple(encoded.dictionary.to_pylist()), codes_N=codes_N)

    def spelled(self, spell: Callable[[str], str]) -> "Labels":
        """Spell every value another way."""
        return Labels(values=tuple(spell(value) for value in self.values), codes_N=self.codes_N)

    @property
    def missing_N(self) -> npt.NDArray[np.bool_]:
        """True where there is no text."""
        return self.codes_N < 0

    def lookup(self, number: Callable[[str | None], int]) -> IntArray:
        """Return `number(text)` of every row, None being the missing text; call it once per distinct value."""
        table = np.array([number(value) for value in (*self.values, None)], dtype=np.int64)
        return table[self.codes_N]

    def take(self, rows: IntArray) -> "Labels":
        """Select the labels at these positions."""
        return Labels(values=self.values, codes_N=self.codes_N[rows])

    def __len__(self) -> int:
        return len(self.codes_N)

    def __iter__(self) -> Iterator[str | None]:
        known = (*self.values, None)
        return (known[code] for code in self.codes_N.tolist())

    @overload
    def __getitem__(self, rows: int) -> str | None: ...
    @overload
    def __getitem__(self, rows: slice) -> "Labels": ...
    def __getitem__(self, rows: int | slice) -> "str | Labels | None":
        if isinstance(rows, slice):
            return Labels(values=self.values, codes_N=self.codes_N[rows])
        code = int(self.codes_N[rows])
        return None if code < 0 else self.values[code]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # two spellings of the same texts would differ
