"""Fit and load, from Python: the stages of an experiment run in this process, or on a cluster where one is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.api import Generator
from difflm.artifacts.atomic import write_bytes_atomic
from difflm.errors import ConfigError
from difflm.records.frames.frames import TEMPLATE_NAME, Frame, is_path
from difflm.records.schema import read_schema
from difflm.regular_files import given_path
from difflm.synthesis.arguments import texts
from difflm_jobs.given_settings import privacy_overrides
from difflm_jobs.inputs.databases import table_or_file
from difflm_jobs.inputs.frame_files import GivenFrame, TemporaryFolder, refuse_no_folder
from difflm_jobs.opening import BUNDLED, FitRun, template_folder
from difflm_jobs.opening import load as load

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.loading import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def fit(
    table: Frame | str | Path,
    target: str | None = None,
    config: str | Path | Mapping[str, Any] | ExperimentConfig | None = None,
    out: str | Path | None = None,
    cluster: str | None = None,
    progress: bool = True,
    *,
    kind: str = "table",
    constraints: Sequence[str] = (),
    quality: str | None = None,
    budget: str | None = None,
    epsilon: float | None = None,
    protect_unit: str | None = None,
) -> Generator:
    """Learn a table and return what writes new rows of it.

    Args:
        table: a pandas, polars or Arrow table, or the path of one (or of tools, or code), or the URL of a database's.
        target: the column that a model would predict; None for none.
        config: settings: a preset's name, a YAML file, a mapping such as ``{"decoder_fit": {"steps": 500}}`` (dotted
            keys too), or an `ExperimentConfig`. They are those of `difflm run`.
        out: the folder of the run. Called again with the same table, settings and folder, a fit that was killed goes
            on, and one that has ended is there at once. Without it the run is gone when the generator is.
        cluster: None: in this process, without Ray; ``"auto"`` or ``"host:port"``: on a running Ray cluster;
            ``"local"``: on one that is started here.
        progress: show bars in a terminal or a notebook, lines elsewhere.
        kind: ``"table"``, ``"tools"`` or ``"code"``.
        constraints: what every row satisfies across columns, such as ``["start <= end", "total == n * unit"]``,
            beside the relations that are found (setting ``relations``: ``"auto"``, ``"off"`` or a list).
        quality: ``"fast"`` trains a third of the default steps, ``"balanced"`` all, ``"best"`` several times as many, a
            larger decoder where rows suffice. Settings that you give yourself in ``config`` stay; a preset's do not.
        budget: about how long the fit may take here, such as ``"90s"``, ``"10m"`` or ``"1h30m"``: what fits into that
            time a few steps say. With ``out`` a fit that was killed goes on with what was chosen.
        epsilon: differential privacy: of everything that is fitted to rows, together (settings ``privacy``).
        protect_unit: with it, the column that says whose a row is; without, every row is by itself.

    Raises:
        DataError: the table cannot be used, such as one without rows or without the target, or breaks a constraint.
        ConfigError: a setting cannot be used, or the budget is too small for anything; it says the least.
        TrainingError: training cannot go on.

    >>> import difflm, pandas
    >>> table = pandas.DataFrame({"age": [31, 45, 28, 60] * 40, "city": ["Rome", "Oslo", "Rome", "Lima"] * 40})
    >>> tiny = {"decoder": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64}}
    >>> tiny |= {"decoder_fit": {"steps": 60, "batch_size": 32, "clean_share": 0.1, "copied_below": 0.999}}
    >>> tiny |= {"autoencoder": {"steps": 30, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}}}
    >>> tiny |= {"prior": {"steps": 50, "width": 16, "blocks": 1}}  # seconds; leave settings out for a good model
    >>> generator = difflm.fit(table, config=tiny, progress=False)
    >>> rows = generator.sample(100, seed=7, columns=["city", "age"])
    >>> rows.columns.tolist(), set(rows["city"]) <= {"Rome", "Oslo", "Lima"}
    (['city', 'age'], True)
    """
    from difflm_jobs.planning.choice import Chooser, Wish

    kept = TemporaryFolder() if out is None else None
    folder = kept.path / "fit" if kept is not None else given_path(out, name="out")
    if NAME.fullmatch(folder.name) is None:
        raise ConfigError(f"out: {folder}: its last part names the run; use letters, digits, '.', '_' and '-' only")
    if cluster is not None and not isinstance(cluster, str):
        raise ConfigError(f"cluster is {cluster!r}; give 'auto', 'local' or an address as text")
    target = None if target is None else str(target)  # a label of pandas may be a number
    table = table_or_file(table, folder)
    frame = None if is_path(table) else GivenFrame.of(table, folder)
    given = str(table) if frame is None else str(frame.path)
    wish = Wish(quality=quality, budget=budget)
    settings = _settings(given, target, config, folder.name, kind, cluster, texts(constraints, name="constraints"))
    settings = replace(settings, overrides=[*settings.overrides, *privacy_overrides(epsilon, protect_unit)])
    experiment = settings.experiment()
    _refuse_undrawable(experiment)
    refuse_no_folder(folder)
    if frame is not None:
        frame.lay_down(experiment.data.target)
    chooser = Chooser(settings=settings, runs=folder.parent, in_process=cluster is None, last=BUNDLED)
    choice = chooser.choose(wish, keep=True)
    experiment = choice.experiment
    run = FitRun(choice=choice, folder=folder, in_process=cluster is None, progress=progress)
    bundle = run.bundle()
    template = None if frame is None else frame.template.kept(read_schema(bundle))
    if template is not None:
        write_bytes_atomic(template_folder(folder, bundle) / TEMPLATE_NAME, template.dumped())
    return Generator(
        bundle,
        template=template,
        sampling=experiment.sampling,
        make_report=partial(run.report, bundle),
        find_report=partial(run.found_report, bundle),
        kept=kept,
    )


def _refuse_undrawable(experiment: ExperimentConfig) -> None:
    """Refuse, before hours of training, what no row could be drawn with afterwards."""
    from difflm_jobs.pipeline.engine_check import check_engine, check_json

    check_engine(experiment.sampling, experiment.runtime)
    check_json(experiment.sampling, holds_json=experiment.data.record_kind.holds_json)


def _settings(
    given: str,
    target: str | None,
    config: str | Path | Mapping[str, Any] | ExperimentConfig | None,
    name: str,
    kind: str,
    cluster: str | None,
    constraints: Sequence[str],
) -> Settings:
    """Return the settings of a run: those that were given, about this table and on this cluster."""
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.loading import Settings, over, preset_names, read_settings

    if isinstance(config, ExperimentConfig):
        found = _own(config.model_dump(mode="json", by_alias=True, exclude_unset=True))
    elif isinstance(config, Mapping):
        found = _own(_nested(config))
    elif is_path(config):
        found = read_settings(str(config))
    elif config is not None:
        raise ConfigError(
            f"config: a {type(config).__name__} is none; give a preset's name, a YAML file, a mapping or an "
            "ExperimentConfig"
        )
    else:
        found = _own({})
    settings = dict(found.merged)
    if given in preset_names():
        settings = over(read_settings(given).merged, settings)
    data = settings.get("data", {})
    if not isinstance(data, Mapping):
        raise ConfigError(f"config: data: expected an object; found {data!r}")
    data = dict(data)
    if given not in preset_names():
        data = {**{key: value for key, value in data.items() if key != "test"}, "train": given}
    if target is not None:
        data["target"] = target
    if kind != "table":
        data["kind"] = kind
    if data.get("kind") == "tools" and "engine" not in settings.get("sampling", {}):
        settings = over(settings, {"sampling": {"engine": {"kind": "builtin", "constraint": "llguidance"}}})
    if cluster is not None:
        settings = over(settings, {"runtime": {"cluster": {"address": cluster}}})
    merged = {**settings, "name": name, "data": data}
    return Settings(merged=merged, source=found.source, own=found.own, constraints=constraints)


def _own(settings: Mapping[str, Any]) -> Settings:
    from difflm_jobs.loading import Settings

    return Settings(merged=settings, source="config", own=(settings,))


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with their dotted keys unfolded."""
    from difflm_jobs.loading import over

    found: dict[str, Any] = {}
    for key, value in settings.items():
        if not isinstance(key, str):
            raise ConfigError(f"config: the key {key!r} is no text; give names of settings")
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"config: {key!r}: {section!r} is {place!r} elsewhere; give one of the two")
        inner = _nested(value) if isinstance(value, Mapping) else value
        place.update(over(place, {last: inner}))
    return found
