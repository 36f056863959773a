"""Quality for minutes: levels between hardly trained and trained to the end, and what settings they are short for.

A level multiplies the settings that would hold without it, those of a preset or of defaults; what a person gave stays.
The table below is all there is to tune.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from difflm.errors import ConfigError

if TYPE_CHECKING:
    from difflm.telemetry import JSON
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.loading import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """By how much the steps of every training, and the decoder's passes over the rows, are multiplied."""

    decoder: float
    passes: float
    autoencoder: float
    prior: float
    conditions: float


LEAST = Level(decoder=0.15, passes=0.5, autoencoder=0.3, prior=0.15, conditions=0.15)
"""Below it, rows look like those of another table; only a budget goes so low."""
LEVELS = {
    "fast": Level(decoder=0.33, passes=1.0, autoencoder=0.5, prior=0.4, conditions=0.4),
    "balanced": Level(decoder=1.0, passes=1.0, autoencoder=1.0, prior=1.0, conditions=1.0),
    "best": Level(decoder=4.0, passes=2.0, autoencoder=2.0, prior=2.0, conditions=2.0),
}
LENGTHENED = {"fast": 1.0, "best": 1.0}
"""How many times longer the decoder's fit may become, by level: `best` has its steps from the start, `balanced` leaves
what the settings say.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A size of the compact decoder, from how many training rows on, and the place of its least level.

    `rate` is its learning rate over that of the default size.
    """

    hidden_size: int
    layers: int
    heads: int
    rate: float
    rows: int
    least: float

    @property
    def intermediate_size(self) -> int:
        """As of the default size, three times the width."""
        return 3 * self.hidden_size


LARGE = (
    Size(hidden_size=192, layers=6, heads=6, rate=0.7, rows=20_000, least=2.5),
    Size(hidden_size=192, layers=5, heads=6, rate=0.7, rows=5_000, least=2.5),
)
"""For `best`, and for budgets that train them for as long as this."""
SMALL = (
    Size(hidden_size=96, layers=3, heads=3, rate=1.2, rows=0, least=0.0),
    Size(hidden_size=64, layers=2, heads=2, rate=1.5, rows=0, least=0.0),
)
"""For budgets in which the default size cannot be trained at all."""
PLACES = {"fast": 1.0, "balanced": 2.0, "best": 3.0}
"""Of the levels on a line that begins with `LEAST` at 0."""

TRAININGS = {
    "decoder_fit.steps": "decoder",
    "decoder_fit.epochs": "passes",
    "autoencoder.steps": "autoencoder",
    "prior.steps": "prior",
    "conditions.steps": "conditions",
}
_DECODER = ("decoder.hidden_size", "decoder.layers", "decoder.heads", "decoder.intermediate_size")


def refuse_unknown(quality: str | None) -> None:
    """Refuse a name that is no level's.

    Raises:
        ConfigError: names the levels.
    """
    if quality is not None and quality not in LEVELS:
        raise ConfigError(f"quality {quality!r}: no such level; give one of {', '.join(LEVELS)}")


def level_at(place: float) -> Level:
    """Return the level at a place between 0 (`LEAST`) and 3 (`best`), on a logarithmic scale between its neighbours."""
    levels = [LEAST, *LEVELS.values()]
    below = min(int(place), len(levels) - 2)
    share = place - below
    ends = [[getattr(level, part.name) for part in fields(Level)] for level in (levels[below], levels[below + 1])]
    values = [math.exp((1 - share) * math.log(low) + share * math.log(high)) for low, high in zip(*ends, strict=True)]
    return Level(**dict(zip((part.name for part in fields(Level)), values, strict=True)))


def sized(settings: Settings, base: ExperimentConfig) -> bool:
    """Say whether the size of the decoder may be chosen: it is a compact one, and no part of its size was given."""
    return base.decoder.kind == "compact" and not any(map(settings.fixed, (*_DECODER, "decoder.key_heads")))


def large_size(rows: int) -> Size | None:
    """Return the size of the decoder for the most quality that so many training rows carry; None for the default."""
    return next((size for size in LARGE if rows >= size.rows), None)


def expand(
    settings: Settings, base: ExperimentConfig, level: Level, size: Size | None, *, lengthened: float | None
) -> dict[str, JSON]:
    """Return the dotted keys that a level and a size of the decoder change in `base`, with their values.

    `base` is what the settings are without them; None keeps its size, and how much longer the fit may become.
    """
    wanted = dict(_scaled(base, level))
    if lengthened is not None and base.decoder.kind == "compact":
        wanted["decoder_fit.lengthened"] = lengthened
    if size is not None and sized(settings, base):
        wanted |= {key: getattr(size, key.partition(".")[2]) for key in _DECODER}
        wanted["decoder_fit.loop.learning_rate"] = float(f"{size.rate * base.decoder_fit.loop.learning_rate:.2g}")
    return {key: value for key, value in wanted.items() if not settings.fixed(key) and value != value_of(base, key)}


def _scaled(base: ExperimentConfig, level: Level) -> Iterator[tuple[str, JSON]]:
    for key, part in TRAININGS.items():
        found, factor = value_of(base, key), getattr(level, part)
        if found is None or (key.startswith("conditions") and not base.conditions.enabled):
            continue
        if key.startswith("decoder_fit") and base.decoder.kind != "compact":
            continue
        value = found * factor
        if key.endswith("epochs"):
            yield key, float(f"{value:.2g}")
        else:
            yield key, max(1, int(float(f"{value:.2g}")))


def value_of(config: ExperimentConfig, key: str) -> Any:
    """Look up a dotted key; None where the section has no such key, such as the steps of a mixture."""
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name, None)
    return found


_MAX_SPAN_S = 10 * 365 * 86_400.0
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_span(text: str) -> float:
    """Read a span of time such as 90s, 10m, 1h or 1h30m, in seconds.

    Raises:
        ConfigError: it is none, or nothing.
    """
    match = _SPAN.fullmatch(str(text).strip().lower())  # Python callers may give a number
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    span = 3600 * hours + 60 * minutes + seconds
    if not 0 < span <= _MAX_SPAN_S:
        raise ConfigError(f"budget {text!r:.80}: expected a span of time, such as 90s, 10m, 1h or 1h30m")
    return span


def span_text(seconds: float) -> str:
    """Write a span of time as `parse_span` reads it, in whole seconds below ten minutes and whole minutes above."""
    whole = math.ceil(seconds) if seconds < 600 else 60 * math.ceil(seconds / 60)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (left, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
