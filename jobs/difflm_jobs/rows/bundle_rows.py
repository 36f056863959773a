"""Rows from a finished bundle, as a dataset of parts or as one file, gone on with after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import difflm
from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.artifacts.dataset import DATA, DATASET_MANIFEST, EVALUATION_NAME, EVENTS, Dataset
from difflm.artifacts.formats import FORMATS
from difflm.artifacts.hashing import hash_folder
from difflm.artifacts.storage import LocalStore, Store, open_store
from difflm.config import apply_overrides, validate
from difflm.errors import ConfigError
from difflm.records.files.source import SourceForm
from difflm.records.kinds.codes_of_form import refuse_unnamed
from difflm.records.schema import read_schema
from difflm.synthesis.arguments import MAX_ROWS
from difflm.synthesis.plans.request import PlanRequest
from difflm.telemetry import JSON, Stopwatch, peak_rss_mib
from difflm_jobs.inputs.given_tables import GivenFile, RealFiles, laid_down, laid_down_real
from difflm_jobs.inputs.models import find_bundle
from difflm_jobs.pipeline.engine_check import check_engine, check_json
from difflm_jobs.pipeline.mapping import MapJob, Mapped, account_of, export, run_map
from difflm_jobs.rows.destinations import refuse_within, single_file
from difflm_jobs.rows.live_evaluation import LiveEvaluation, LiveRequest
from difflm_jobs.rows.resume import FORMAT_VERSION, KIND, SHORT, JobIdentity, Resume, claimed
from difflm_jobs.rows.row_gates import ScreenedSynthesisWorker, row_gates, screen_facts, screen_of
from difflm_jobs.stages.stages import cluster_of
from difflm_jobs.stages.synthesize import refuse_nothing

if TYPE_CHECKING:
    from difflm.runtime.compute import Compute
    from difflm_evaluators.live.gates import Gate
    from difflm_jobs.config import SynthesisSettings
    from difflm_jobs.pipeline.pipeline import ClusterFactory
    from difflm_jobs.pipeline.progress import Reporting


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRequest:
    """Rows of a bundle, to be written to a file or a dataset; without ``rows``, as many as there are given records."""

    bundle: Path
    rows: int | None
    seed: int
    out: str
    format: str | None
    resume: Resume
    plan: PlanRequest
    given: GivenFile | None = None
    real: RealFiles | None = None
    gates: tuple[str, ...] = ()
    safe_csv: bool = False
    plain: bool = False  # rows are written plainly, not as the file of the table was


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsWritten:
    """Where rows were written, what became of all draws (see `account_of`), and how many draws an index had at most."""

    where: str
    account: Mapping[str, Any]
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who hears of a job while it runs: its progress, what was not taken as it was given, and warnings."""

    reporting: Reporting
    tell: Callable[[str], None]
    warn: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is to be drawn, all of it checked."""

    rows: int
    identity: JobIdentity
    folders: Mapping[str, Path]
    settings: SynthesisSettings
    resume: Resume
    audience: Audience
    compute: ClusterFactory
    real: Path | None
    gates: tuple[Gate, ...]
    form: SourceForm | None


def write_rows(
    wanted: DatasetRequest, *, overrides: Sequence[str], audience: Audience, compute: ClusterFactory | None = None
) -> RowsWritten:
    """Draw rows 0 ... rows - 1 of a bundle into ``wanted.out``.

    A name that ends in a format becomes one file, everything else a dataset. Run again after a kill, it goes on from
    the parts that are there; those of a single file are kept beside it until it is complete.

    Raises:
        ConfigError: a number, name, URL or setting that cannot be used, or a folder that holds another job.
        BundleError: there is no bundle, it is of another version, or its base model is missing.
        DataError: the given records do not fit the bundle.
        StorageError: the disk is full, writing is not permitted, or a bucket is missing.
        SynthesisError: not one draw was valid.
        EvaluationError: a gate that stops the job does not hold.
    """
    file, format_ = _destination(wanted)
    (settings, bundle), gates = _opened(wanted.bundle, overrides), row_gates(wanted.gates, wanted.real)
    check_engine(settings.sampling, settings.runtime)
    check_json(settings.sampling, holds_json=any(field.kind == "json" for field in read_schema(bundle).fields))
    with ExitStack() as stack:
        plan, rows, folders = wanted.plan, wanted.rows, {"bundle": bundle}
        given_form: SourceForm | None = None
        if wanted.given is not None:
            given = stack.enter_context(laid_down(wanted.given, read_schema(bundle), settings.data.read, audience.tell))
            plan = plan.model_copy(update={"given": given.request})
            rows, folders["given"] = rows or given.count, given.folder
            given_form = given.form
        assert rows is not None
        plan.check(bundle, schema := read_schema(bundle))
        refuse_unnamed(schema, rows)
        real = screen = None
        if wanted.real is not None:
            real = stack.enter_context(laid_down_real(wanted.real, bundle, settings.data.read))
            if (config := screen_of(gates, read_schema(bundle))) is not None:
                screen, folders["real"] = screen_facts(config, real), real
        identity = JobIdentity(
            bundle_sha256=hash_folder(bundle),
            sampling=settings.sampling.model_dump(mode="json", exclude={"signed_by"}),  # looked at, and no row changes
            plan=plan.model_dump(mode="json"),
            seed=wanted.seed,
            rows_per_shard=settings.runtime.synthesis.rows_per_shard,
            format=format_,
            screen=screen,
            safe_csv=wanted.safe_csv,
            written="plain" if wanted.plain else None if given_form is None else given_form.sha256,
        )
        job = _Job(
            rows=rows,
            identity=identity,
            folders=folders,
            settings=settings,
            resume=wanted.resume,
            audience=audience,
            compute=compute or cluster_of(settings.runtime),
            real=real,
            gates=gates,
            form=None if wanted.plain else given_form or SourceForm.read(bundle),
        )
        refuse_within(wanted.out if file is None else str(file), bundle)
        if file is not None:
            return _one_file(file, job)
        dataset = Dataset(store=open_store(wanted.out), format=format_, safe_csv=identity.safe_csv, form=job.form)
        stack.enter_context(claimed(dataset, identity, rows=rows, resume=wanted.resume))
        account = _draw(dataset, job, dataset.store)
        return RowsWritten(where=dataset.store.shown, account=account, attempts=settings.sampling.attempts)


def _opened(given: Path, overrides: Sequence[str]) -> tuple[SynthesisSettings, Path]:
    """Find the bundle, and how it is drawn from: as its generator was saved, where it was, changed by `overrides`."""
    from difflm.synthesis.saved_sampling import read_sampling
    from difflm_jobs.config import SynthesisSettings

    trust = validate(SynthesisSettings, apply_overrides({}, overrides), "--set", overrides).sampling
    bundle = find_bundle(given, allow_local_base=trust.allow_local_base, signed_by=trust.signed_by)
    saved = read_sampling(bundle)
    base = {} if saved is None else {"sampling": saved.model_dump(mode="json")}
    return validate(SynthesisSettings, apply_overrides(base, overrides), "--set", overrides), bundle


def _destination(wanted: DatasetRequest) -> tuple[Path | None, str]:
    """Return the file that is asked for, if it is one, and the format of the parts.

    Raises:
        ConfigError: a number, name or format that cannot be used.
    """
    if wanted.rows is not None and not 1 <= wanted.rows <= MAX_ROWS:
        raise ConfigError(f"--rows {wanted.rows}: give a number from 1 to {MAX_ROWS:,}")
    file = single_file(wanted.out, wanted.format)
    format_ = "parquet" if file is not None else wanted.format or "parquet"
    named = file.suffix[1:] if file is not None else format_
    if format_ not in FORMATS:
        raise ConfigError(f"--format {format_}: unknown; give one of {', '.join(FORMATS)}")
    if wanted.safe_csv and named != "csv":
        reason = f"{wanted.out} is written as {named}, which spreadsheets do not run; leave it out"
        raise ConfigError(f"--safe-csv: {reason}")
    return file, format_


def _one_file(file: Path, job: _Job) -> RowsWritten:
    """Draw into a hidden dataset beside the file, which is exported and removed at the end."""
    work = file.absolute().with_name(f".{file.name}.work-{job.rows}-{job.identity.fingerprint[:SHORT]}")
    dataset = Dataset(store=LocalStore(work))
    own = claimed(dataset, job.identity, rows=job.rows, resume=job.resume)
    with storage_errors(file), own, _removed_if_empty(work, dataset):
        account = _draw(dataset, job, LocalStore(file.absolute().parent), prefix=f"{file.stem}.")
        export(work / DATA, file, safe_csv=job.identity.safe_csv, form=job.form)
        remove_tree(work)
    return RowsWritten(where=str(file), account=account, attempts=job.settings.sampling.attempts)


def _draw(dataset: Dataset, job: _Job, beside: Store, prefix: str = "") -> dict[str, Any]:
    """Fill a claimed dataset, write its manifest, and return the final account. The evaluation goes into ``beside``."""
    identity, bundle = job.identity, job.folders["bundle"]
    live = _live(dataset, job, beside, prefix)
    with Stopwatch() as watch, ExitStack() as stack, job.audience.reporting() as reporter:

        def start() -> Compute:
            return stack.enter_context(job.compute())

        with reporter.stage("synthesize") as report:
            pool, name = job.settings.runtime.synthesis, identity.fingerprint[:SHORT]
            mapped = run_map(_mapping(dataset, job), pool, report, start, live, metrics_name=name)
    account = account_of(mapped.entries, job.rows)
    if live is not None:
        account["evaluation"] = live.summary
    refuse_nothing(account, bundle)
    dataset.write_json(DATASET_MANIFEST, _manifest(mapped, identity, account, watch.seconds, bundle))
    return account


def _mapping(dataset: Dataset, job: _Job) -> MapJob:
    from difflm.synthesis.workers import SynthesisWorker

    asked = job.identity
    args: dict[str, JSON] = {"sampling": dict(asked.sampling), "plan": dict(asked.plan), "seed": asked.seed}
    screen = {} if asked.screen is None else {"screen": dict(asked.screen)}
    return MapJob(
        dataset=dataset,
        fingerprint=asked.fingerprint,
        rows=job.rows,
        worker=ScreenedSynthesisWorker if screen else SynthesisWorker,
        args={**args, **screen},
        folders=job.folders,
        may_give_up=True,
        precision=job.settings.sampling.precision,
    )


def _live(dataset: Dataset, job: _Job, beside: Store, prefix: str) -> LiveEvaluation | None:
    """Prepare the evaluation that goes along with the map; None where none is asked for."""
    if job.real is None:
        return None
    request = LiveRequest(
        real=job.real,
        gates=job.gates,
        config=job.settings.live,
        store=beside,
        result=prefix + EVALUATION_NAME,
        log=prefix + EVENTS,
        warn=job.audience.warn,
    )
    return LiveEvaluation(request=request, dataset=dataset, rows=job.rows, job=job.identity.fingerprint[:SHORT])


def _manifest(
    mapped: Mapped, identity: JobIdentity, account: dict[str, JSON], seconds: float, bundle: Path
) -> dict[str, JSON]:
    """Build manifest.json: what was asked, what came of it, and every part. ``seconds`` is this run's wall time."""
    peaks = {name: round(peak, 1) for name, peak in mapped.peak_rss_mib.items()}
    own = {"given_up", "account"}
    shards: list[JSON] = [
        {**part.model_dump(mode="json", exclude=own), "given_up": part.missing, **part.account}
        for part in mapped.entries
    ]
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": identity.fingerprint,
        "platform_version": difflm.__version__,
        "format": identity.format,
        "settings": identity.facts(),
        "precision": mapped.precision,
        "totals": account,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "peak_rss_mib": {"driver": round(peak_rss_mib(), 1), **peaks},
        "schema": read_schema(bundle).published().model_dump(mode="json"),
        "shards": shards,
    }


@contextmanager
def _removed_if_empty(work: Path, dataset: Dataset) -> Iterator[None]:
    """Remove the work folder again after a failure that left no finished part in it."""
    try:
        yield
    except BaseException:
        if work.exists() and not dataset.entries():
            remove_tree(work)
        raise
