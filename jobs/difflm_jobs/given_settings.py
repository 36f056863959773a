"""Settings that an option of the command line or an argument in Python stands for."""

from __future__ import annotations

import json

from difflm.errors import ConfigError


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
