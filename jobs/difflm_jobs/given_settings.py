"""Settings that an option of the command line or an argument in Python stands for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from difflm.errors import ConfigError

if TYPE_CHECKING:
    from difflm.records.files.frames import FrameTemplate


def privacy_overrides(epsilon: float | None, unit: str | None) -> list[str]:
    """Return what an epsilon and the column of a unit set, as `--set` has it.

    Raises:
        ConfigError: the epsilon is no number.
    """
    try:
        number = None if epsilon is None else float(epsilon)
    except (TypeError, ValueError):
        raise ConfigError(f"epsilon is {epsilon!r:.80}; give a number above 0, such as 3") from None
    given = {"epsilon": number, "unit": unit}
    return [f"privacy.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def refuse_listed_categories(template: FrameTemplate) -> None:
    """Refuse, under differential privacy, columns whose type lists all their values: it comes with every made frame.

    Raises:
        ConfigError: names the column.
    """
    import pyarrow as pa

    for field in pa.ipc.open_stream(template.empty).schema:
        if pa.types.is_dictionary(field.type):
            raise ConfigError(
                f"column {field.name!r} is categorical: its type lists every value, also those of one row, and "
                f"privacy.epsilon protects no types; give it as text, such as table[{field.name!r}].astype(str)"
            )
