"""What is protected: a threshold of rows, and the columns that somebody excepts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic import Field as Option

Switch: TypeAlias = Literal["on", "off"]
FEWEST_THRESHOLDS: Final = 5
"""A table has to have this many times the threshold of training rows: in a smaller one hardly a value can be hidden."""


class ProtectConfig(BaseModel):
    """Values that fewer than `threshold` training rows have are in no bundle, report or log, and are never drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = True
    threshold: Annotated[int, Option(ge=1)] = 8
    """Training rows that share a value of a column before it may be learned."""
    rare: Literal["resample", "merge"] = "resample"
    """Rare categories are drawn as the others of their column, so that rows stay valid wherever the source is, or
    become one category of their own."""
    columns: dict[str, Switch] = {}
    """Columns that are protected or not, whatever they hold: `{diagnosis: off}`."""

    def covers(self, column: str) -> bool:
        """Whether a column is protected."""
        return self.enabled and self.columns.get(column, "on") == "on"

    @property
    def least_rows(self) -> int:
        """The fewest training rows that are accepted."""
        return FEWEST_THRESHOLDS * self.threshold if self.enabled else 1


def _switched(value: Any) -> Any:
    if isinstance(value, bool):  # YAML of other tools writes on and off as true and false
        return {"enabled": value}
    return {"enabled": value == "on"} if value in ("on", "off") else value


Protection: TypeAlias = Annotated[ProtectConfig, BeforeValidator(_switched)]
"""A section `protect`; a plain `off` is short for all of it."""

PROTECTED: Final = ProtectConfig()
UNPROTECTED: Final = ProtectConfig(enabled=False)


class Protected(BaseModel):
    """In a schema: how its values were protected, and which columns were not."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threshold: Annotated[int, Option(ge=1)]
    unprotected: tuple[str, ...] = ()


def protection_line(config: ProtectConfig) -> str:
    """Say in a sentence what a run protects."""
    if not config.enabled:
        return "protection is off: values of single training rows may be learned, written and drawn (protect: off)"
    left_out = [name for name, switch in config.columns.items() if switch == "off"]
    but = f", but for those of {', '.join(map(repr, left_out))}" if left_out else ""
    return f"values that fewer than {config.threshold} training rows have are not learned, written or drawn{but}"
