"""Map stages: shards of an index range worked on by a pool of actors, those already committed left out.

Exporting: the parts of a synthesis as one file, a part in memory at a time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from difflm.artifacts.atomic import storage_errors, temporary_sibling
from difflm.artifacts.dataset import JOB_NAME, Dataset, Shard, ShardEntry, missing_ranges, part_name
from difflm.artifacts.formats import FILE_FORMATS, Form, table_writer
from difflm.artifacts.storage import LocalStore
from difflm.errors import ConfigError
from difflm.regular_files import written_path
from difflm.telemetry import JSON
from difflm_jobs.pipeline.stage import Report, StageContext

if TYPE_CHECKING:
    from difflm.models.precision import Precision, PrecisionSetting
    from difflm.runtime.compute import Compute
    from difflm.runtime.shard_actor import ShardWorker
    from difflm_jobs.config import MapConfig


def file_format(path: Path) -> str:
    """Return the format of a file name's ending.

    Raises:
        ConfigError: names the endings that can be written.
    """
    if path.suffix[1:] not in FILE_FORMATS:
        endings = ", ".join(f".{name}" for name in FILE_FORMATS)
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; give a name that ends in {endings}")
    return path.suffix[1:]


def export(parts: Path, path: Path, *, safe_csv: bool = False, form: Form | None = None) -> int:
    """Write all `part-*.parquet` of a folder, in order, as one file of the format of its ending; return the row count.

    `safe_csv` and `form` are those of `table_writer`.

    Raises:
        ConfigError: the ending of ``path`` says no known format, or it is a pipe or a device.
        StorageError: the disk is full or writing is not permitted; nothing half-written stays behind.
    """
    import pyarrow.parquet as pq

    format_, path = file_format(path), written_path(path)
    rows = 0
    temporary = temporary_sibling(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        found = sorted(parts.glob("part-*.parquet"))
        try:
            with temporary.open("wb") as sink:
                with table_writer(format_, sink, pq.read_schema(found[0]), safe_csv=safe_csv, form=form) as write:
                    for part in found:
                        table = pq.read_table(part)
                        write(table)
                        rows += table.num_rows
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return rows


OUTPUT = "output"
PRECISION = "precision"
SHARD_FOLDER = "shards"
_MAX_NAMED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """The entries of all parts, also of those an earlier run committed, and what this call cost.

    ``compute_seconds`` is that of the busiest actor: with one actor, the time its shards took. ``precision`` is what
    all parts were drawn in, None where nothing was drawn.
    """

    entries: Sequence[ShardEntry]
    compute_seconds: float
    peak_rss_mib: Mapping[str, float]
    precision: Precision | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has come in so far, and how fast: figures for one line of progress. It holds sums, whatever the rows."""

    total: int
    done: int
    began: int = field(init=False)
    rows: int = 0
    attempts: int = 0
    seconds: dict[Any, float] = field(default_factory=lambda: defaultdict(float))
    _since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.began = self.done

    def add(self, account: Mapping[str, Any]) -> None:
        """Take the account of a piece."""
        self.done += int(account["stop"]) - int(account["start"])
        self.rows += int(account.get("rows", 0))
        self.attempts += int(account.get("attempts", 0))
        if "pid" in account:
            self.seconds[account["pid"]] += float(account["seconds"])

    def text(self) -> str:
        """Format progress, such as: 4,096 of 10,000 rows, 310 rows/s, 99.8 % of draws valid."""
        said = f"{self.done:,} of {self.total:,} rows"
        if self.done > self.began:
            rate = (self.done - self.began) / max(time.monotonic() - self._since, 1e-9)
            said += f", {rate:,.3g} rows/s" if rate < 100 else f", {rate:,.0f} rows/s"
        if self.attempts:
            said += f", {100 * self.rows / self.attempts:.1f} % of draws valid"
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class MapJob:
    """What is to be mapped: a worker class with its arguments over the indices 0 ... rows - 1 into a dataset.

    ``folders`` are arguments too: folders that are brought to the nodes. ``fingerprint`` is what the dataset's job
    says; workers look for it. ``may_give_up`` says whether an index may end without a row. ``precision`` is the setting
    of jobs that draw; what `auto` comes to is decided once for all workers, and kept when the job goes on elsewhere.
    """

    dataset: Dataset
    fingerprint: str
    rows: int
    worker: type[ShardWorker]
    args: Mapping[str, JSON]
    folders: Mapping[str, Path] = field(default_factory=dict)
    may_give_up: bool = False
    precision: PrecisionSetting | None = None


class Follower(Protocol):
    """Goes along with a map, on the driver, without holding it up; what it raises ends the map."""

    def begin(self, finished: Sequence[ShardEntry]) -> None:
        """Begin when the cluster is there; these parts were committed before."""
        ...

    def take(self, account: Mapping[str, Any]) -> None:
        """Take the account of a piece."""
        ...

    def text(self) -> str:
        """Return what to add to the line of progress."""
        ...

    def end(self, entries: Sequence[ShardEntry], report: Callable[[str], None]) -> None:
        """Finish after all parts are there; long work is announced with ``report``."""
        ...


def run_map(
    job: MapJob,
    config: MapConfig,
    report: Report,
    start: Callable[[], Compute],
    follower: Follower | None = None,
    metrics_name: str | None = None,
) -> Mapped:
    """Let workers commit the missing parts of a dataset.

    ``start`` returns the compute, and is not called when nothing is missing and there is no follower. Metrics
    count every account where they are given a name.

    Afterwards the dataset holds the parts of indices 0 ... rows - 1 and nothing else. Raises StorageError where parts
    were taken away meanwhile.
    """
    finished = job.dataset.sound_entries()
    job.dataset.remove_others(finished)
    ranges = missing_ranges([(entry.start, entry.stop) for entry in finished], job.rows, config.rows_per_shard)
    missing = [Shard(id=part_name(start, stop), start=start, stop=stop) for start, stop in ranges]
    tally = Tally(total=job.rows, done=job.rows - sum(shard.stop - shard.start for shard in missing))
    report(tally.done, job.rows, "starting actors" if missing else "nothing is missing")
    compute = start() if missing or follower is not None else None
    record = compute.metrics(metrics_name) if metrics_name is not None and compute is not None else None
    if follower is not None:
        follower.begin(finished)

    def on_result(account: Mapping[str, Any]) -> None:
        if "given_up" in account:
            start, stop, reason = int(account["start"]), int(account["stop"]), str(account["given_up"])
            job.dataset.give_up(start, stop, reason, account={})
        tally.add(account)
        if record is not None:
            record(account)
        if follower is not None:
            follower.take(account)
        report(tally.done, job.rows, tally.text() + (follower.text() if follower is not None else ""))

    output: dict[str, JSON] = {
        "url": job.dataset.store.url,
        "format": job.dataset.format,
        "safe_csv": job.dataset.safe_csv,
        "form": None if job.dataset.form is None else job.dataset.form.dumped().decode(),
        "fingerprint": job.fingerprint,
    }
    pool = config.pool if job.may_give_up else config.pool.model_copy(update={"max_given_up": 0})
    precision = _recorded_precision(finished)
    if missing and compute is not None and job.precision is not None:
        precision = _agreed_precision(job.precision, precision, compute, config)
    args = {**job.args, OUTPUT: output, **({} if precision is None else {PRECISION: precision})}
    peaks: Mapping[int, float] = {}
    if compute is not None:
        peaks = compute.map_shards(
            missing, job.worker, args, pool, on_result, config.timeout_s, folders=job.folders
        ).peak_rss_mib
    entries = job.dataset.entries()
    job.dataset.refuse_gaps(entries, job.rows)
    job.dataset.remove_others(entries)
    if follower is not None:
        follower.end(entries, lambda text: report(job.rows, job.rows, text))
    return Mapped(
        entries=entries,
        compute_seconds=max(tally.seconds.values(), default=0.0),
        peak_rss_mib={f"actor {number}": peak for number, peak in enumerate(peaks.values())},
        precision=precision,
    )


def _recorded_precision(entries: Sequence[ShardEntry]) -> Precision | None:
    """Read in what precision the parts that are there were drawn."""
    return next((entry.account[PRECISION] for entry in entries if PRECISION in entry.account), None)


def _agreed_precision(
    setting: PrecisionSetting, recorded: Precision | None, compute: Compute, config: MapConfig
) -> Precision:
    """Return the setting; for `auto`, what the finished parts were drawn in, or else what workers are fast in."""
    if setting == "auto":
        return recorded or compute.fast_precision(config.pool, config.timeout_s)
    return setting


def run_shards(
    context: StageContext,
    *,
    rows: int,
    worker: type[ShardWorker],
    args: Mapping[str, JSON],
    config: MapConfig,
    may_give_up: bool = False,
    precision: PrecisionSetting | None = None,
) -> Mapped:
    """Run `run_map` into the dataset ``context.work / "shards"`` of a stage, whose work folder is of this job alone."""
    folder = (context.work / SHARD_FOLDER).resolve()
    dataset = Dataset(store=LocalStore(folder))
    fingerprint = context.work.name
    dataset.write_json(JOB_NAME, {"fingerprint": fingerprint})
    job = MapJob(
        dataset=dataset,
        fingerprint=fingerprint,
        rows=rows,
        worker=worker,
        args=args,
        may_give_up=may_give_up,
        precision=precision,
    )

    return run_map(job, config, context.report, context.start_cluster)


def account_of(entries: Sequence[ShardEntry], rows: int) -> dict[str, JSON]:
    """Account for all draws: rows requested and emitted, attempts, rejections by reason, and the indices given up.

    These are ranges with their reasons (the first thousand ranges; each part's entry has all of its own).
    """
    rejections: Counter[str] = Counter()
    given_up: list[JSON] = []
    for entry in entries:
        rejections.update(entry.account.get("rejections", {}))
        given_up += [run.model_dump() for run in entry.given_up[: _MAX_NAMED - len(given_up)]]
    return {
        "rows_asked": rows,
        "rows_emitted": sum(entry.rows for entry in entries),
        "attempts": sum(int(entry.account.get("attempts", 0)) for entry in entries),
        "rejections": dict(rejections),
        "given_up_count": sum(entry.missing for entry in entries),
        "given_up": given_up,
    }


def deliver_shards(context: StageContext, mapped: Mapped, name: str) -> None:
    """Give the artifact's folder ``name`` the parts too; their entries stay behind.

    The work folder keeps its own until the artifact is whole: a kill or a full disk before that loses no shard.
    """
    source = context.work / SHARD_FOLDER
    target = context.output / name
    target.mkdir()
    for entry in mapped.entries:
        if entry.file is None:
            continue
        part = source / entry.file
        try:
            os.link(part, target / part.name)  # parts are never written to again, so that both may be the same file
        except OSError:  # a file system without links
            shutil.copyfile(part, target / part.name)
