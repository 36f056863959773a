"""The form of a JSON file: what its objects hold that a table of single values does not."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict


class JsonForm(BaseModel):
    """Columns that hold lists or objects, those whose missing values have no key, and names of the file by column."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    nested: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    names: dict[str, str] = {}

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as the file has it; a nested value that is no JSON stays the text that it is."""
        made = {}
        for name, value in row.items():
            if value is None and name in self.absent:
                continue
            made[self.names.get(name, name)] = _value(value) if name in self.nested else value
        return made

    def parsed(self, content: bytes, schema: pa.Schema) -> pa.Table:
        """Read lines that are such rows, in the types of a schema."""
        rows = [json.loads(line) for line in content.decode().split("\n") if line]
        columns = []
        for field in schema:
            values = [row.get(self.names.get(field.name, field.name)) for row in rows]
            if field.name in self.nested:
                values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
            columns.append(pa.array(values, field.type))
        return pa.Table.from_arrays(columns, schema=schema)


def _value(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text
