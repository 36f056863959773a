"""Settings that an option of the command line or an argument in Python stands for."""

from __future__ import annotations

import json


def privacy_overrides(epsilon: float | None, unit: str | None) -> list[str]:
    """Return what an epsilon and the column of a unit set, as `--set` has it."""
    given = {"epsilon": None if epsilon is None else float(epsilon), "unit": unit}
    return [f"privacy.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
