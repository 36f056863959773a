"""What the messages of an Arrow IPC file or stream unpack to, before anything of it is unpacked.

A compressed buffer begins with its size once it is unpacked, and so much is asked for at once: a few kilobytes may say
hundreds of gigabytes. See Message.fbs and File.fbs of Arrow's format; both are flatbuffers, of which this reads little.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_MAGIC = b"ARROW1"
_DICTIONARY, _BATCH = 2, 3  # of MessageHeader
_BLOCK = struct.Struct("<qi4xq")  # offset, length of metadata, length of body


def unpacked_size(data: bytes) -> int:
    """Return how many bytes the compressed buffers of an IPC file or stream say that they unpack to.

    Raises:
        ValueError: it is none, or damaged.
    """
    try:
        return sum(_size(metadata, body) for metadata, body in _messages(data))
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"a message is damaged ({error})") from error


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer: where it stands in its bytes."""

    content: Any
    place: int

    @classmethod
    def root(cls, content: Any) -> _Table:
        return cls(content, _number("<I", content, 0))

    def field(self, number: int) -> int | None:
        """Return where a field stands; None where the table has none."""
        entries = self.place - _number("<i", self.content, self.place)
        if 4 + 2 * number >= _number("<H", self.content, entries):
            return None
        offset = _number("<H", self.content, entries + 4 + 2 * number)
        return self.place + offset if offset else None

    def table(self, number: int) -> _Table | None:
        place = self.field(number)
        return None if place is None else _Table(self.content, place + _number("<I", self.content, place))

    def vector(self, number: int) -> tuple[int, int]:
        """Return where the entries of a vector begin, and how many there are."""
        place = self.field(number)
        if place is None:
            return 0, 0
        place += _number("<I", self.content, place)
        return place + 4, _number("<I", self.content, place)


def _number(form: str, content: Any, place: int) -> int:
    if place < 0:
        raise ValueError("a message leads out of itself")
    return int(struct.unpack_from(form, content, place)[0])


def _messages(data: bytes) -> Iterator[tuple[Any, Any]]:
    """Yield metadata and body of every message, those of a file as its footer lists them."""
    if not data.startswith(_MAGIC):
        reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(data))
        while True:
            try:
                message = reader.read_next_message()
            except StopIteration:
                return
            yield memoryview(message.metadata), memoryview(message.body or b"")
    view = memoryview(data)
    end = len(data) - len(_MAGIC) - 4
    footer = _Table.root(view[end - _number("<i", view, end) : end])
    for vector in (2, 3):  # dictionaries, record batches
        begin, count = footer.vector(vector)
        for number in range(count):
            offset, length, _ = _BLOCK.unpack_from(footer.content, begin + number * _BLOCK.size)
            if offset < 0 or length < 0:
                raise ValueError("its footer leads out of the file")
            marked = _number("<i", view, offset) == -1  # files of before 2019 have the length alone
            yield view[offset + (8 if marked else 4) : offset + length], view[offset + length :]


def _size(metadata: Any, body: Any) -> int:
    message = _Table.root(metadata)
    kind = message.field(1)
    header = message.table(2)
    found = None if kind is None else metadata[kind]
    batch = header if found == _BATCH else header.table(1) if found == _DICTIONARY and header is not None else None
    if batch is None or batch.field(3) is None:  # not compressed: the bytes are as they are
        return 0
    begin, count = batch.vector(2)
    size = 0
    for number in range(count):
        offset, length = struct.unpack_from("<qq", metadata, begin + 16 * number)
        if length >= 8:
            said = _number("<q", body, offset)
            size += length if said < 0 else said
    return size
