"""A cell of a benchmark: one method with one seed, its rows and their scores, each an artifact that is made once.

Rows that came in time and jobs that were killed for time are kept: another run would end as they did. Any other failure
is tried again by the next run; its log stays in the work folder.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflm.artifacts import Artifact, ArtifactStore, hash_file, write_json_atomic
from difflm.artifacts.atomic import remove_tree
from difflm.errors import DiffLMError
from difflm_evaluators.evaluation import EvaluationConfig
from difflm_jobs.benchmark.environments import python_of
from difflm_jobs.benchmark.limited import Ended, run_limited
from difflm_jobs.benchmark.methods import Method
from difflm_jobs.benchmark.tables import SCHEMA, TRAIN_CSV, TRAIN_PARQUET, BenchmarkTable
from difflm_jobs.inputs.models import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, SCORES = "rows", "scores"
ROWS_CSV, FACTS, LOG = "rows.csv", "facts.json", "log.txt"
ROWS_VERSION = SCORES_VERSION = 1
GRACE_S = 10.0
"""Beyond the minutes, for writing the rows that came in time."""
LONGEST_REASON = 300
_CLASS = re.compile(r"^difflm\.errors\.\w+: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of a method and a seed: rows with what they cost, or the reason why there are none."""

    method: str
    seed: int
    rows: Path | None = None
    identity: str | None = None
    reason: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    report: Path | None = None
    protocol: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """All that cells share: the table, which lies in `folder`, what is asked for, and where things are kept."""

    table: BenchmarkTable
    store: ArtifactStore
    folder: Path
    hashes: Mapping[str, str]
    rows: int
    minutes: float
    cache: Path
    evaluation: EvaluationConfig
    protocol: bool
    """Whether the rows are scored by the published protocol as well."""
    say: Callable[[str], None]


def make_rows(bench: Bench, method: Method, seed: int) -> Cell:
    """Find the rows of a method, or make them; never raises for what goes wrong in it."""
    if not method.makes_rows:
        return _held_out_rows(bench, method, seed)
    config = {**method.identity, "rows": bench.rows, "minutes": bench.minutes, "seed": seed}
    try:
        inputs = {**bench.hashes, **_model_files(method)}
    except DiffLMError as error:
        return Cell(method=method.name, seed=seed, reason=str(error))
    identity = bench.store.identify(ROWS, ROWS_VERSION, config, inputs)
    found = bench.store.find(ROWS, identity)
    if found is None:
        bench.say(f"{method.name}, seed {seed}: at most {bench.minutes:g} minutes")
        folder = bench.store.work(ROWS, identity)
        try:
            python = python_of(method, bench.cache, bench.say)
            facts = _run_job(bench, method, seed, folder, python)
        except DiffLMError as error:
            return Cell(method=method.name, seed=seed, reason=str(error))
        if facts.get("again"):
            return Cell(method=method.name, seed=seed, reason=facts["reason"], facts=facts)
        found = _keep(bench, folder, identity, config, inputs, facts)
    facts = dict(found.manifest.facts)
    reason: Any = facts.get("reason")
    rows = None if reason is not None else found.path / ROWS_CSV
    return Cell(method=method.name, seed=seed, rows=rows, identity=identity, reason=reason, facts=facts)


def _model_files(method: Method) -> dict[str, str]:
    """Hash a model of this machine that a method is given; one of a hub, or behind an endpoint, is known by its name.

    Raises:
        ModelError: it is the path of no such folder.
    """
    model = _model_to_load(method)
    return {} if model is None else fingerprint(model, f"{method.name}.model")


def _model_to_load(method: Method) -> str | None:
    """Return the model that a method loads itself; one that answers at an endpoint is none."""
    from difflm.models.sources import is_own_model

    model = method.settings.get("model")
    asked = method.module == "icl" and (method.settings["base_url"] is not None or not is_own_model(str(model)))
    return model if isinstance(model, str) and not asked else None


def _settings(method: Method) -> dict[str, Any]:
    """Return the settings of a job, which runs in a folder of its own: the folder of a local model is absolute.

    The libraries of others load a GGUF file, or the one in a package, as the folder that it is unpacked into.

    Raises:
        ModelError, StorageError: it cannot be unpacked.
    """
    from difflm.models.loading import loadable
    from difflm.models.sources import is_own_model

    settings = dict(method.settings)
    model = _model_to_load(method)
    if model is not None:
        if method.script is not None and is_own_model(model):
            settings["model"] = str(Path(loadable(model)).expanduser().resolve())
        elif (folder := Path(model).expanduser()).exists():
            settings["model"] = str(folder.resolve())
    return settings


def _run_job(bench: Bench, method: Method, seed: int, folder: Path, python: Path) -> dict[str, Any]:
    """Run a method's job in a fresh folder; return its facts, with a `reason` where no rows came."""
    remove_tree(folder)
    (folder / "scratch").mkdir(parents=True)
    for name in (TRAIN_CSV, TRAIN_PARQUET, SCHEMA):
        (folder / name).symlink_to((bench.folder / name).resolve())
    spec = bench.table.spec
    job: dict[str, Any] = {
        "method": method.name,
        "rows": bench.rows,
        "seed": seed,
        "minutes": bench.minutes,
        "target": spec.target,
        "task": bench.table.schema.task,
        "columns": bench.table.columns(),
        "settings": _settings(method),
        "config": bench.table.experiment(bench.folder.resolve()),
        "scratch": str((folder / "scratch").resolve()),
    }
    write_json_atomic(folder / "job.json", job)
    paths = [os.path.abspath(path) for path in sys.path if path]  # this package, for our own methods
    ended = run_limited(
        method.command(python, (folder / "job.json").resolve()),
        seconds=60 * bench.minutes + GRACE_S,
        log=folder / LOG,
        environment={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        folder=folder,
    )
    return _facts(bench, folder, ended)


def _facts(bench: Bench, folder: Path, ended: Ended) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((folder / FACTS).read_bytes()) if (folder / FACTS).is_file() else {}
    facts = {
        **known,
        "wall_seconds": round(ended.seconds, 3),
        "peak_mib": round(max(ended.peak_mib, known.get("peak_mib", 0.0)), 1),
    }
    phase = facts.get("phase", "starting")
    if ended.status == 0 and phase == "done" and (folder / ROWS_CSV).is_file():
        return facts
    if ended.status is None:
        return facts | {"reason": f"killed after {bench.minutes:g} minutes, while {phase}"}
    return facts | {"reason": f"failed while {phase}: {_last_words(folder / LOG, ended.status)}", "again": True}


def _last_words(log: Path, status: int) -> str:
    """Return the last line that a job printed, or what its exit status says."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}" + (", which often means that memory was full" if name == "SIGKILL" else "")
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return _CLASS.sub("", lines[-1])[:LONGEST_REASON] if lines else f"exit status {status}"


def _keep(
    bench: Bench,
    folder: Path,
    identity: str,
    config: dict[str, Any],
    inputs: Mapping[str, str],
    facts: dict[str, Any],
) -> Artifact:
    with bench.store.create(ROWS, identity, version=ROWS_VERSION, config=config, inputs=inputs) as draft:
        for name in (ROWS_CSV, LOG):
            if (folder / name).is_file():
                (folder / name).rename(draft.path / name)
        draft.facts.update(facts)
    found = bench.store.find(ROWS, identity)
    assert found is not None
    return found


def halves(test: pa.Table, seed: int) -> tuple[pa.Table, pa.Table]:
    """Split held-out rows at random: those that stand in the place of synthetic ones, and those to score against."""
    import pyarrow as pa

    order_N = np.random.default_rng(seed).permutation(test.num_rows)
    half = test.num_rows // 2
    first, second = (test.take(pa.array(np.sort(part))) for part in (order_N[:half], order_N[half:]))
    return first, second


def _held_out_rows(bench: Bench, method: Method, seed: int) -> Cell:
    import pyarrow.csv

    first, _ = halves(bench.table.test, seed)
    path = bench.folder / f"real-{seed}.csv"
    pyarrow.csv.write_csv(first.slice(0, bench.rows), path)
    return Cell(method=method.name, seed=seed, rows=path, identity=hash_file(path))


def score_rows(bench: Bench, cell: Cell, *, real: bool) -> Cell:
    """Score the rows of a cell by both rulers; `real` ones against the other half of the held-out rows.

    Never raises for rows that cannot be scored.
    """
    from dataclasses import replace

    from difflm_jobs.stages.evaluate import Evaluate

    if cell.rows is None:
        return cell
    assert cell.identity is not None
    test = halves(bench.table.test, cell.seed)[1] if real else bench.table.test
    config = {
        "evaluation": bench.evaluation.model_dump(mode="json"),
        "ruler": Evaluate.version,
        "protocol": bench.protocol,
        "half": cell.seed if real else None,
    }
    inputs = {**bench.hashes, "rows": cell.identity, "test": hash_file(bench.folder / "test.csv")}
    identity = bench.store.identify(SCORES, SCORES_VERSION, config, inputs)
    found = bench.store.find(SCORES, identity)
    if found is None:
        bench.say(f"{cell.method}, seed {cell.seed}: scoring")
        try:
            with bench.store.create(SCORES, identity, version=SCORES_VERSION, config=config, inputs=inputs) as draft:
                _write_scores(bench, cell.rows, test, draft.path)
        except DiffLMError as error:
            return replace(cell, reason=f"its rows cannot be scored: {error}")
        found = bench.store.find(SCORES, identity)
        assert found is not None
    protocol = found.path / "protocol.json"
    return replace(
        cell,
        report=found.path / "report.json",
        protocol=json.loads(protocol.read_bytes()) if protocol.is_file() else None,
    )


def _write_scores(bench: Bench, rows: Path, test: pa.Table, folder: Path) -> None:
    from difflm.records.kinds.columns import conform_table
    from difflm_evaluators.api import NamedTable, evaluate_named
    from difflm_evaluators.protocol import evaluate_protocol
    from difflm_jobs.studies.protocol import read_rows

    table = bench.table
    made = conform_table(read_rows(rows), table.schema)
    report = evaluate_named(
        NamedTable(name=str(rows), table=made),
        NamedTable(name="the training rows", table=table.train),
        NamedTable(name="the held-out rows", table=test),
        schema=table.schema,
        config=bench.evaluation,
    )
    report.save(folder / "report.json")
    if bench.protocol:
        result = evaluate_protocol(made, table.train, test, table.spec)
        write_json_atomic(folder / "protocol.json", result.to_json())
