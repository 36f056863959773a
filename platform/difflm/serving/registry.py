"""The registry: which version of each bundle is served now, and what is known of it without loading it.

What a path leads to is looked at every few seconds. Another version is loaded first and served then; requests under way
stay with the version they began with.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from difflm.artifacts.manifest import BUNDLE_KIND, REPORT_KIND, ROW_DETAILS, SCORES_NAME
from difflm.artifacts.store import ArtifactStore
from difflm.errors import DiffLMError, SynthesisError
from difflm.printable import printable
from difflm.privacy.budget import is_private
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes_of_form import refuse_unnamed
from difflm.records.schema import RecordSchema, one_digit, read_schema
from difflm.regular_files import read_file
from difflm.serving.backend import VERSION_DIGITS, BundleRef, bundle_ref
from difflm.serving.config import ServeConfig
from difflm.serving.problems import Problem, invalid, loading
from difflm.synthesis.bundle import bundle_folder
from difflm.telemetry import JSON, parse_json

REPORT_NAME = "report.json"
Stamp = frozenset[tuple[str, int, int]]
"""The names, sizes and times of all files of a bundle: as long as they are the same, its version is."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBundle:
    """A bundle of one version; `quality` is its evaluation, where its experiment has one."""

    ref: BundleRef
    schema: RecordSchema
    codec: JsonRecordCodec
    quality: dict[str, JSON] | None

    @property
    def columns(self) -> frozenset[str]:
        """The names of its columns."""
        return frozenset(self.schema.names)

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise Problem where one of them is no column, or comes twice."""
        known = self.columns
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            there = ", ".join(map(repr, self.schema.names))
            raise invalid("columns", f"there is no column {unknown!r}; columns are {there}")
        if len(set(names)) != len(names):
            raise invalid("columns", "a column is named twice")

    def check_names(self, start: int, n: int) -> None:
        """Raise Problem where an identifier has no name for the last of the rows from `start` on."""
        try:
            refuse_unnamed(self.schema, start + n)
        except SynthesisError as error:
            raise invalid("start" if start else "n", str(error)) from None


class Registry:
    """The bundles of a server by name."""

    def __init__(self, config: ServeConfig, load: Callable[[BundleRef], Awaitable[None]]) -> None:
        self._config, self._load = config, load
        self._served: dict[str, ServedBundle] = {}
        self._seen: dict[str, tuple[Path, Stamp]] = {}
        self._faults: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """Names of all bundles, those that are not loaded yet too."""
        return [bundle.name for bundle in self._config.bundles]

    @property
    def ready(self) -> bool:
        """Whether every bundle can be asked for."""
        return len(self._served) == len(self._config.bundles)

    @property
    def faults(self) -> dict[str, str]:
        """By name, what keeps a bundle's present version from being served."""
        return dict(self._faults)

    def get(self, name: str | None) -> ServedBundle:
        """Return the served version of a bundle, of the first one without a name.

        Raises:
            Problem: there is no such bundle (404), or it is not loaded yet (503).
        """
        wanted = name if name is not None else self.names[0]
        if wanted in self._served:
            return self._served[wanted]
        if wanted in self.names:
            raise loading(f"bundle {wanted!r} is being loaded")
        raise Problem(404, "unknown_bundle", f"bundles are {', '.join(map(repr, self.names))}", field="bundle")

    def columns(self, name: str | None) -> frozenset[str]:
        """Return the columns of a bundle; raise as `get` does."""
        return self.get(name).columns

    async def refresh(self) -> None:
        """Look at every path, and serve what is new there once it is loaded."""
        for bundle in self._config.bundles:
            try:
                await self._refresh(bundle.name, Path(bundle.path))
            except Exception as error:  # whatever it is, those behind it can be served
                if str(error) != self._faults.get(bundle.name):
                    defect = not isinstance(error, DiffLMError | OSError | ValueError)
                    _log.error("bundle %s: %s", bundle.name, printable(str(error)), exc_info=defect)
                self._faults[bundle.name] = str(error)
            else:
                self._faults.pop(bundle.name, None)

    async def _refresh(self, name: str, path: Path) -> None:
        folder = bundle_folder(path).resolve()
        seen = (folder, await asyncio.to_thread(_stamp, folder))
        if self._seen.get(name) == seen:
            return
        ref = await asyncio.to_thread(bundle_ref, name, folder)
        await self._load(ref)
        schema = read_schema(folder)
        self._served[name] = ServedBundle(
            ref=ref, schema=schema, codec=JsonRecordCodec(schema), quality=_quality(path, folder)
        )
        self._seen[name] = seen


def _stamp(folder: Path) -> Stamp:
    """Look at the files of a bundle, which may be replaced one by one, without reading them."""
    found = ((path.relative_to(folder).as_posix(), path.stat()) for path in folder.rglob("*") if path.is_file())
    return frozenset((name, facts.st_size, facts.st_mtime_ns) for name, facts in found)


def _quality(path: Path, bundle: Path) -> dict[str, JSON] | None:
    """Read the scores that a bundle carries, or else those of the newest report about it in its experiment.

    A private bundle has none: its report compares with real rows, outside of the guarantee.
    """
    if is_private(bundle):
        return None
    carried = bundle / SCORES_NAME
    if carried.is_file():
        return _read(carried)
    roots = [root for root in (path, bundle.parent.parent) if (root / "artifacts").is_dir()]
    if not roots:
        return None
    reports = [
        artifact
        for artifact in ArtifactStore(roots[0]).finished()
        if artifact.kind == REPORT_KIND
        and bundle.name == f"{BUNDLE_KIND}-{artifact.manifest.inputs.get('assemble', '')[:VERSION_DIGITS]}"
    ]
    if not reports:
        return None
    return _read(reports[-1].path / REPORT_NAME)


def _read(path: Path) -> dict[str, JSON] | None:
    try:
        report = parse_json(read_file(path))
        json.dumps(report, allow_nan=False, ensure_ascii=False).encode()  # no answer could hold what is none
    except (OSError, ValueError) as error:
        report = error
    if not isinstance(report, dict):  # the bundle can be served all the same
        _log.warning("%s: no report can be read from it; evaluate again", path)
        return None
    return _shared(report)


def _shared(report: dict[str, JSON]) -> dict[str, JSON]:
    """Return what a server tells of a report: no settings, which name files, and nothing that shows rows."""
    evaluations = report.get("evaluations")
    found = {key: report.get(key) for key in ("title", "rows", "target", "task", "verdict")}
    if isinstance(rows := found["rows"], dict):  # how many real ones there are is not told exactly
        real = {role: one_digit(count) for role, count in rows.items() if role != "synthetic" and type(count) is int}
        found["rows"] = {**rows, **real}
    if not isinstance(evaluations, list):
        return {**found, "evaluations": []}
    kept: list[JSON] = [
        {**one, "details": {}} if isinstance(one, dict) and one.get("name") in ROW_DETAILS else one
        for one in evaluations
    ]
    return {**found, "evaluations": kept}
