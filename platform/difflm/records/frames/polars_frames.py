"""What Arrow does not keep of a polars frame: enumerated types; and those that no table file has."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from difflm.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def arrow_of_polars(frame: pl.DataFrame, name: str) -> pa.Table:
    """Convert a frame to Arrow.

    Raises:
        DataError: a column is of a type that no table file has; the message begins with ``name``.
    """
    for label, dtype in frame.schema.items():
        if str(dtype) in ("Object", "Int128", "UInt128"):
            raise DataError(
                f"{name}: column {label!r} is of the type {dtype}, which no table file has; cast it, such as "
                f"pl.col({label!r}).cast(pl.String), or drop it"
            )
    return frame.to_arrow()


def known_types(empty: bytes, listed: Sequence[Collection[str]]) -> bytes:
    """Return a frame without rows, in Arrow's IPC form, whose enumerated types have only what is listed of a column."""
    import polars as pl

    schema, sink = pl.read_ipc_stream(io.BytesIO(empty)).schema, io.BytesIO()
    kinds = {name: _known(kind, names) for (name, kind), names in zip(schema.items(), listed, strict=True)}
    pl.DataFrame(schema=kinds).write_ipc_stream(sink)
    return sink.getvalue()


def _known(kind: Any, listed: Collection[str]) -> Any:
    import polars as pl

    match kind:
        case pl.Enum():
            return pl.Enum([name for name in kind.categories if name in listed])
        case pl.List():
            return pl.List(_within(kind.inner))
        case pl.Array():
            return pl.Array(_within(kind.inner), kind.size)
        case pl.Struct():
            return pl.Struct({part.name: _within(part.dtype) for part in kind.fields})
        case _:
            return kind


def _within(kind: Any) -> Any:
    """Return a type within a list or struct, of whose values none are listed: text in the place of enumerated ones."""
    import polars as pl

    return pl.String() if isinstance(kind, pl.Enum) else _known(kind, ())


def polars_frame_like(empty: bytes, typed: pa.Table) -> pl.DataFrame:
    """Return rows as a frame with the dtypes of one without rows; enumerated types have what the rows hold as well."""
    import polars as pl

    made = pl.from_arrow(typed)
    assert isinstance(made, pl.DataFrame)
    for name, dtype in pl.read_ipc_stream(io.BytesIO(empty)).schema.items():
        is_text = dtype.is_nested() and made.schema.get(name) == pl.String  # what is none of its type
        if name not in made.columns or is_text:
            continue
        kind: Any = dtype
        if isinstance(dtype, pl.Enum):
            drawn = made[name].cast(pl.String).drop_nulls().unique().sort()
            kind = pl.Enum(list(dict.fromkeys([*dtype.categories, *drawn])))
        cast = made[name].cast(kind, strict=False)
        if _says(cast, made[name]):
            made = made.with_columns(cast)
    return made


def _says(cast: pl.Series, made: pl.Series) -> bool:
    """Whether a column says what another does, and not 30 of 30.5 or nothing of a number in a column of nothing."""
    if cast.null_count() > made.null_count():
        return False
    return not (cast.dtype.is_integer() and made.dtype.is_float()) or bool((cast == made).all())
