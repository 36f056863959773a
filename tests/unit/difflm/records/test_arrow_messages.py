"""What an Arrow file unpacks to is known before it is unpacked."""

from __future__ import annotations

import io
import random
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.arrow_messages import unpacked_size
from difflm.records.files.reading import read_table


def table() -> pa.Table:
    return pa.table({"n": list(range(50_000)), "text": pa.array(["x" * 40, "y"] * 25_000).dictionary_encode()})


def written(compression: str | None, *, stream: bool, rows: pa.Table | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    whole = table() if rows is None else rows
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(sink, whole.schema, options=options) as writer:
        writer.write_table(whole)
    return sink.getvalue()


@pytest.mark.parametrize("stream", [True, False])
def test_the_sizes_of_compressed_buffers_add_up(stream: bool) -> None:
    plain = unpacked_size(written(None, stream=stream))
    assert plain == 0, "the bytes as they are"
    for codec in ("zstd", "lz4"):
        assert unpacked_size(written(codec, stream=stream)) == pytest.approx(50_000 * 12, rel=0.01)


def test_one_batch_that_fills_the_memory_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(written("zstd", stream=False, rows=pa.table({"text": ["x" * 2**20] * 300})))
    monkeypatch.setattr(pa.ipc, "open_file", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="unpack to more than 256 MiB"):
        read_table(path)


@pytest.mark.parametrize("stream", [True, False])
def test_damaged_messages_are_a_value_error(stream: bool) -> None:
    good, generator = written("zstd", stream=stream, rows=table().slice(0, 20)), random.Random(1)
    for _ in range(500):
        content = bytearray(good)
        for _ in range(generator.choice((1, 2, 8))):
            content[generator.randrange(len(content))] = generator.randrange(256)
        with suppress(ValueError, OSError):
            unpacked_size(bytes(content))
