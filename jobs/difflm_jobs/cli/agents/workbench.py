"""What agents may do: look at tables, train, draw rows, evaluate and read reports, within some folders and limits.

Paths lead nowhere but into those folders, links followed; nothing that is there is replaced or removed. What cannot be
done is a `Problem`, as over HTTP.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import difflm
from difflm.config import load_yaml
from difflm.errors import ConfigError
from difflm.records.databases.urls import is_database
from difflm.serving.config import LimitsConfig
from difflm.serving.problems import Problem, invalid
from difflm_jobs.cli.agents.trainings import LOGS, Trainings
from difflm_jobs.loading import TABLE_SUFFIXES, name_of, suffix_of
from difflm_jobs.pipeline.runlog import CONFIG_NAME

if TYPE_CHECKING:
    from difflm_evaluators import Report

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_GENERATORS = 2  # that are kept in memory
_MAX_LISTED = 100
_SCORE = ("name", "title", "value", "unit", "direction", "ideal", "baseline", "undefined_because", "warning", "meaning")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """How much one call may ask for."""

    rows: int = 200
    rows_in_file: int = LimitsConfig().rows_per_request
    table_bytes: int = 256 * 2**20
    trainings: int = 1


class Workbench:
    """Tables and runs in some folders; use it as a context, which ends its trainings."""

    def __init__(self, roots: Sequence[Path], runs: Path, limits: AgentLimits, trainings: Trainings) -> None:
        self.limits = limits
        self._roots = tuple(roots)
        self._runs = runs
        self._trainings = trainings
        self._generators: OrderedDict[str, difflm.Generator] = OrderedDict()

    @classmethod
    def over(cls, roots: Sequence[Path], *, runs: Path | None = None, limits: AgentLimits | None = None) -> Self:
        """Open some folders.

        Raises:
            ConfigError: one of them is no folder, or the one of runs, where it is not given, is a link out of it.
        """
        for root in roots:
            if not root.is_dir():
                raise ConfigError(f"--root {root}: no such folder; give one that is there")
        limits = limits or AgentLimits()
        resolved = [root.resolve() for root in roots]
        folder = Path(os.path.realpath(resolved[0] / "runs" if runs is None else runs))
        if runs is None and not folder.is_relative_to(resolved[0]):  # whoever made the folder may have made the link
            raise ConfigError(f"{resolved[0] / 'runs'}: leads to {folder}; give --runs {folder} if that is meant")
        return cls(resolved, folder, limits, Trainings(folder, most=limits.trainings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._trainings.close()

    def inspect_table(self, table: str, target: str | None) -> dict[str, Any]:
        """See `Tools.inspect_table`."""
        from difflm_jobs.cli.inspection import inspected, notice_line

        path = self.table(table, "table")
        found = inspected(path, target=target, overrides=())
        return {
            "table": str(path),
            "columns": [asdict(line) for line in found.lines],
            "relations": list(found.relations[:_MAX_LISTED]),
            "notices": [notice_line(notice) for notice in found.notices[:_MAX_LISTED]],
        }

    def train(
        self, table: str, target: str | None, name: str | None, quality: str | None, budget: str | None
    ) -> dict[str, Any]:
        """See `Tools.train`."""
        path = self.table(table, "table")
        if target is not None and "\0" in target:  # which no argument of a process can hold
            raise invalid("target", "there is no such column; give a name of inspect_table")
        named = self._name(name_of(path) if name is None else name)
        options = {"target": target, "name": named, "quality": quality, "budget": budget, "runs": str(self._runs)}
        given = [f"--{key}={value}" for key, value in options.items() if value is not None]
        self._generators.pop(named, None)
        self._trainings.start(named, [str(path), *given])
        return self.training_status(named)

    def training_status(self, run: str) -> dict[str, Any]:
        """See `Tools.training_status`."""
        name = self._name(run)
        if not self._trainings.knows(name) and not (self._runs / name).is_dir():
            raise self._no_run(name)
        said = self._trainings.said(name)
        state = self._trainings.state(name, reported=self._report_folder(name) is not None)
        return {"run": name, "state": state, "said": said}

    def cancel_training(self, run: str) -> dict[str, Any]:
        """See `Tools.cancel_training`."""
        name = self._name(run)
        return {"run": name, "cancelled": self._trainings.cancel(name)}

    def list_runs(self) -> dict[str, Any]:
        """See `Tools.list_runs`."""
        found = sorted(path.parent.name for path in self._runs.glob("*/config.yaml"))
        return {
            "runs": [
                {"run": name, "report": self._report_folder(name) is not None}
                for name in found
                if NAME.fullmatch(name) and name != LOGS
            ][:_MAX_LISTED]
        }

    def sample(
        self,
        run: str,
        rows: int,
        seed: int,
        where: str | None,
        balance: str | None,
        columns: list[str] | None,
        out: str | None,
    ) -> dict[str, Any]:
        """See `Tools.sample`."""
        import pyarrow as pa

        most = self.limits.rows if out is None else self.limits.rows_in_file
        if rows > most:
            more = f"; with out, a file takes {self.limits.rows_in_file:,}" if out is None else ""
            raise Problem(413, "too_large", f"{rows:,} rows, and {most:,} are the most{more}", field="rows")
        target = None if out is None else self.new_file(out, "out")
        generator = self._generator(self._name(run))
        batches = generator.batches(rows, seed=seed, where=where, balance=balance, columns=columns)
        table = pa.Table.from_batches(batches)
        if target is None:
            return {"rows": table.to_pylist()}
        _write(table, target)
        return {"file": str(target), "written": table.num_rows}

    def evaluate(self, synthetic: str, train: str, test: str | None, target: str | None) -> dict[str, Any]:
        """See `Tools.evaluate`."""
        paths = {"synthetic": synthetic, "train": train, "test": test}
        tables = {key: None if given is None else self.table(given, key) for key, given in paths.items()}
        made, real = tables["synthetic"], tables["train"]
        assert made is not None
        assert real is not None
        return shown_report(difflm.evaluate(made, train=real, test=tables["test"], target=target))

    def read_report(self, run: str) -> dict[str, Any]:
        """See `Tools.read_report`."""
        name = self._name(run)
        folder = self._report_folder(name)
        if folder is None:
            raise Problem(404, "not_found", f"run {name!r} has no report yet; ask for its status", field="run")
        return {"run": name, "report": str(folder / "report.html"), **shown_report(difflm.Report.read(folder))}

    def table(self, given: str, field: str) -> Path:
        """Find the file of a table.

        Raises:
            Problem: it lies elsewhere, is no table, too large or not there.
        """
        path = self._inside(given, field)
        if suffix_of(path) not in TABLE_SUFFIXES:
            raise invalid(field, f"{given}: no kind of table; give one of {', '.join(TABLE_SUFFIXES)}")
        if not path.is_file():
            raise Problem(404, "not_found", f"{given}: no such file", field=field)
        size, most = path.stat().st_size, self.limits.table_bytes
        if size > most:
            raise Problem(413, "too_large", f"{given}: {size:,} bytes, and {most:,} are the most", field=field)
        return path

    def new_file(self, given: str, field: str) -> Path:
        """Find where a file may be written.

        Raises:
            Problem: it lies elsewhere, is there already, or is of no format that rows are written in.
        """
        from difflm.artifacts.formats import FILE_FORMATS

        path = self._inside(given, field)
        if path.suffix[1:] not in FILE_FORMATS:
            raise invalid(field, f"{given}: rows are written as {', '.join(f'.{name}' for name in FILE_FORMATS)}")
        if path.exists():
            raise Problem(409, "conflict", f"{given}: is there already; give another name", field=field)
        if not path.parent.is_dir():
            raise Problem(404, "not_found", f"{given}: there is no such folder", field=field)
        return path

    def _inside(self, given: str, field: str) -> Path:
        """Resolve a path, links followed; relative ones begin in the first folder."""
        if is_database(given) or "\0" in given or "${" in given:  # which a run takes for what the environment holds
            raise invalid(field, "this is no path of a file; give one in the folders of this server")
        try:
            path = (self._roots[0] / given).resolve()
            path.exists()
        except (OSError, RuntimeError):  # a circle of links, or a name that is too long
            raise invalid(field, "this path cannot be followed; give another one") from None
        if not any(path.is_relative_to(root) for root in self._roots):
            folders = ", ".join(map(str, self._roots))
            raise Problem(
                403, "forbidden", f"{given}: lies outside of the folders of this server: {folders}", field=field
            )
        return path

    def _name(self, run: str) -> str:
        if NAME.fullmatch(run) is None:
            raise invalid("run", "a run's name has up to 64 letters, digits, '.', '_' and '-'")
        own = (self._runs / run, self._runs / LOGS / f"{run}.log", *_links(self._runs / run))
        if not all(Path(os.path.realpath(path)).is_relative_to(self._runs) for path in own):
            raise Problem(403, "forbidden", f"run {run!r} lies outside of the folder of runs", field="run")
        return run

    def _no_run(self, name: str) -> Problem:
        known = ", ".join(entry["run"] for entry in self.list_runs()["runs"]) or "none"
        return Problem(404, "not_found", f"there is no run {name!r}; there is: {known}", field="run")

    def _report_folder(self, name: str) -> Path | None:
        from difflm.artifacts import ArtifactStore
        from difflm.artifacts.manifest import REPORT_KIND

        if not (self._runs / name / "artifacts").is_dir():
            return None
        found = [
            artifact.path for artifact in ArtifactStore(self._runs / name).finished() if artifact.kind == REPORT_KIND
        ]
        return found[-1] if found else None

    def _generator(self, name: str) -> difflm.Generator:
        if not (self._runs / name).is_dir():
            raise self._no_run(name)
        if name not in self._generators:
            _refuse_extended(self._runs / name)
            self._generators[name] = difflm.load(self._runs / name)
            if len(self._generators) > _GENERATORS:
                self._generators.popitem(last=False)
        self._generators.move_to_end(name)
        return self._generators[name]


def _links(folder: Path) -> Iterator[Path]:
    """Yield the links in a folder at any depth; a run makes none, and what they lead to would be taken for its own."""
    for inside, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(inside, name)).is_symlink())


def _refuse_extended(run: Path) -> None:
    """Refuse settings of a run that extend others: those of its own are whole, and errors would show what is in them.

    Raises:
        Problem: they do.
        ConfigError: they cannot be read.
    """
    if (run / CONFIG_NAME).is_file() and "extends" in load_yaml(run / CONFIG_NAME):
        raise Problem(403, "forbidden", f"the settings of run {run.name!r} lead to other files", field="run")


def shown_report(report: Report) -> dict[str, Any]:
    """Return the verdict, scores, warnings and the worst columns and pairs of a report."""
    rows: Mapping[str, int] = report.rows
    return {
        "rows": dict(rows),
        "verdict": report.verdict.model_dump(mode="json"),
        "scores": [{key: getattr(score, key) for key in _SCORE} for score in report.scores],
        "warnings": list(report.warnings),
        "worst_columns": [dict(column) for column in report.worst_columns],
        "worst_pairs": [dict(pair) for pair in report.worst_pairs],
    }


def _write(table: Any, path: Path) -> None:
    """Write rows to a file that appears whole."""
    from difflm.artifacts.atomic import storage_errors, temporary_sibling
    from difflm.artifacts.formats import table_writer

    temporary = temporary_sibling(path)
    with storage_errors(path):
        try:
            with temporary.open("xb") as sink, table_writer(path.suffix[1:], sink, table.schema) as write:
                write(table)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
