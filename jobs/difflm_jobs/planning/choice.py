"""Choosing settings for a quality or a budget of time, once for every command: a run goes on with what was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from difflm.artifacts import ArtifactStore
from difflm.artifacts.atomic import storage_errors, write_json_atomic
from difflm.errors import ConfigError
from difflm.regular_files import read_file
from difflm.telemetry import JSON, parse_json
from difflm_jobs.planning import quality as levels
from difflm_jobs.planning.quality import (
    LENGTHENED,
    LEVELS,
    PLACES,
    SMALL,
    Size,
    expand,
    large_size,
    level_at,
    parse_span,
    span_text,
)
from difflm_jobs.planning.speed import Speedometer, TableSample, look_at, measure, unmeasurable
from difflm_jobs.planning.times import predict, whole
from difflm_jobs.stages.prepare import Prepare
from difflm_jobs.stages.stages import build_stages

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.loading import Settings

FILE = "quality.json"
"""In the folder of an experiment: what was chosen for which request, the latest last."""
TRAINED = {"data", "schema_", "relations", "decoder", "decoder_fit", "autoencoder", "prior", "conditions"}
"""Sections that a choice depends on."""
BISECTIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks for instead of settings: a level of quality, a budget of time, both, or neither."""

    quality: str | None = None
    budget: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no level, and what is no span of time, with ConfigError."""
        levels.refuse_unknown(self.quality)
        if self.budget is not None:
            parse_span(self.budget)

    def __bool__(self) -> bool:
        return self.quality is not None or self.budget is not None

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else parse_span(self.budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An experiment with the settings that were chosen for it, by dotted keys, and the seconds that each stage is
    expected to take; `unknown` says why there are none.
    """

    experiment: ExperimentConfig
    chosen: Mapping[str, JSON] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    unknown: str | None = None
    kept: bool = False
    """Whether it was made for an earlier run of the same command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """Chooses for settings on this machine. `stages` are those that count, None: all; `in_process` is without Ray."""

    settings: Settings
    runs: Path
    in_process: bool = False
    last: str | None = None
    speedometer: Speedometer | None = None

    def choose(self, wish: Wish, *, keep: bool) -> Choice:
        """Expand a wish into settings, those of an earlier run of the same command if there was one.

        With `keep` they are remembered in the folder of the run.

        Raises:
            ConfigError: a setting cannot be used, or no settings fit into the budget; says the least one that would.
            DataError: the table cannot be read.
        """
        base = self.settings.experiment()
        if not wish:
            return Choice(experiment=base)
        if base.privacy is not None:
            raise ConfigError(
                "--quality and --budget look at the rows to choose settings, which privacy.epsilon does not allow; "
                "give the settings themselves"
            )
        folder = self.runs / base.name
        request = _request(wish, base)
        entries = _read(folder / FILE)
        known = [entry for entry in entries if entry.get("request") == request]
        if known:
            chosen, times = known[-1]["chosen"], known[-1]["times"]
            return Choice(experiment=self.settings.experiment(chosen), chosen=chosen, times=times, kept=True)
        choice = self._chosen(wish, base, look_at(base, prepared_table(base, self.runs)))
        if keep:
            entry: dict[str, JSON] = {"request": request, "chosen": dict(choice.chosen), "times": dict(choice.times)}
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                write_json_atomic(folder / FILE, [*entries, entry])
        return choice

    def expected(self, experiment: ExperimentConfig) -> Choice:
        """Predict the times of an experiment as it is.

        Raises:
            DataError: the table cannot be read.
        """
        if (unknown := unmeasurable(experiment)) is not None:
            return Choice(experiment=experiment, unknown=unknown)
        sample = look_at(experiment, prepared_table(experiment, self.runs))
        return Choice(experiment=experiment, times=self._times(experiment, sample))

    def _chosen(self, wish: Wish, base: ExperimentConfig, sample: TableSample) -> Choice:
        unknown = unmeasurable(base)
        if wish.budget_s is not None:
            if unknown is not None:
                raise ConfigError(
                    f"budget {wish.budget}: the time of {base.name} is not known before it ran: {unknown}"
                )
            return self._within(wish.budget_s, wish, base, sample)
        assert wish.quality is not None, "there is a wish"
        size = large_size(sample.rows) if wish.quality == "best" else None
        longest = LENGTHENED.get(wish.quality)
        chosen = expand(self.settings, base, LEVELS[wish.quality], size, lengthened=longest)
        experiment = self.settings.experiment(chosen)
        times = {} if unknown is not None else self._times(experiment, sample)
        return Choice(experiment=experiment, chosen=chosen, times=times, unknown=unknown)

    def _within(self, budget_s: float, wish: Wish, base: ExperimentConfig, sample: TableSample) -> Choice:
        """Find the most that fits: the largest decoder that can be trained enough, and as many steps as there is time.

        Raises:
            ConfigError: nothing fits.
        """
        most = PLACES[wish.quality] if wish.quality is not None else PLACES["best"]
        least_s = 0.0
        for size in self._sizes(base, sample, most):
            below = 0.0 if size is None else size.least
            fitting = self._at(below, size, base, sample)
            least_s = whole(fitting.times)
            if least_s > budget_s:
                continue
            fits, fails = below, most
            whole_most = self._at(most, size, base, sample)
            if whole(whole_most.times) <= budget_s:
                return whole_most
            for _ in range(BISECTIONS):
                place = (fits + fails) / 2
                tried = self._at(place, size, base, sample)
                if whole(tried.times) <= budget_s:
                    fits, fitting = place, tried
                else:
                    fails = place
            return fitting
        raise ConfigError(
            f"budget {wish.budget}: too little for {base.name} on this machine: {span_text(least_s)} is the least"
            f"{self._fixed()}; give --budget {span_text(least_s)}"
        )

    def _fixed(self) -> str:
        given = [key for key in levels.TRAININGS if self.settings.fixed(key)]
        return f" with {', '.join(given)} as given" if given else ""

    def _sizes(self, base: ExperimentConfig, sample: TableSample, most: float) -> Sequence[Size | None]:
        """Return the sizes of the decoder to try, from large to small; None is that of the settings."""
        if not levels.sized(self.settings, base):
            return [None]
        large = large_size(sample.rows)
        return [*([large] if large is not None and most >= PLACES["best"] else []), None, *SMALL]

    def _at(self, place: float, size: Size | None, base: ExperimentConfig, sample: TableSample) -> Choice:
        chosen = expand(self.settings, base, level_at(place), size, lengthened=1.0)  # it has to end in time
        experiment = self.settings.experiment(chosen)
        return Choice(experiment=experiment, chosen=chosen, times=self._times(experiment, sample))

    def _times(self, experiment: ExperimentConfig, sample: TableSample) -> dict[str, float]:
        names = [stage.name for stage in build_stages(experiment)]
        if self.last is not None:
            names = names[: names.index(self.last) + 1]
        speed = (self.speedometer or measure)(experiment, sample)
        return predict(experiment, sample, speed, names, in_process=self.in_process)


def _request(wish: Wish, base: ExperimentConfig) -> dict[str, JSON]:
    """Describe what a choice is made for: the wish, the table's content, and the settings of all that is trained."""
    (stage,) = [stage for stage in build_stages(base) if isinstance(stage, Prepare)]
    given = base.model_dump(mode="json", include=TRAINED)
    for source in ("train", "test"):  # by their content, wherever they lie
        given["data"].pop(source)
    given["data"]["read"].pop("max_unpacked_mib")  # changes no rows
    found: dict[str, Any] = {"quality": wish.quality, "budget_s": wish.budget_s, "given": given}
    found["sources"] = dict(stage.sources())
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


class _Kept(BaseModel):
    """A choice of before: of what, the settings, and the seconds that stages take."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    request: dict[str, Any]
    chosen: dict[str, JsonValue]
    times: dict[str, float]


_KEPT: Final = TypeAdapter(list[_Kept])


def _read(path: Path) -> list[dict[str, Any]]:
    """Read what was chosen before; nothing where there is no file."""
    try:
        found = _KEPT.validate_python(parse_json(read_file(path)))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: cannot be read ({reason}); remove it to have settings chosen anew") from None
    return [entry.model_dump() for entry in found]


def prepared_table(config: ExperimentConfig, runs: Path) -> Path | None:
    """Find the finished artifact of `prepare`; None where there is none."""
    from difflm_jobs.pipeline.pipeline import resolve

    store = ArtifactStore(runs / config.name)
    stages = [stage for stage in build_stages(config) if isinstance(stage, Prepare)]
    (step,) = resolve(stages, store)
    artifact = store.find(step.stage.output, step.identity)
    return None if artifact is None else artifact.path
