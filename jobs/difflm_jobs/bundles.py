"""`difflm synthesize BUNDLE`: rows from a finished bundle into one file, without an experiment around it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from difflm.artifacts import ArtifactStore, ShardFolder
from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.config import apply_overrides, validate
from difflm.errors import BundleError
from difflm_jobs.assemble import BUNDLE_KIND
from difflm_jobs.export import check_format, export
from difflm_jobs.mapping import SHARD_FOLDER
from difflm_jobs.progress import reporting
from difflm_jobs.stage import StageContext
from difflm_jobs.stages import cluster_of
from difflm_jobs.synthesize import account_of, draw_rows


def find_bundle(given: Path) -> Path:
    """The bundle in a folder: the folder itself, or the newest one of an experiment.

    Raises:
        BundleError: there is none, or it is of another version.
    """
    from difflm.synthesis.bundle import read_facts

    folder = given
    if not (given / "bundle.json").is_file() and (given / "artifacts").is_dir():
        bundles = [artifact for artifact in ArtifactStore(given).finished() if artifact.kind == BUNDLE_KIND]
        if not bundles:
            raise BundleError(f"{given}: this experiment has no bundle yet; run it up to the stage assemble")
        folder = bundles[-1].path
    read_facts(folder)
    return folder


def synthesize_bundle(
    given: Path, *, rows: int, seed: int, out: Path, overrides: Sequence[str], console: Console
) -> str:
    """Draw rows 0 ... rows - 1 of a bundle into the file ``out`` and return a sentence about them.

    Finished shards are kept beside ``out`` until the file is complete: run again after a kill, it goes on.

    Raises:
        BundleError: there is no bundle, or it is of another version.
        ConfigError: an override is no key of the settings, or the ending of ``out`` says no known format.
        StorageError: the disk is full or writing is not permitted.
    """
    from difflm_jobs.config import SynthesisSettings

    check_format(out)
    settings = validate(SynthesisSettings, apply_overrides({}, overrides), "--set", overrides)
    bundle = find_bundle(given)
    asked = [str(bundle.resolve()), rows, seed, settings.sampling.model_dump(mode="json")]
    label = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    work = out.with_name(f".{out.name}.work-{label}")
    with storage_errors(out), _removed_if_empty(work):
        with ExitStack() as stack, reporting(console) as reporter, reporter.stage("synthesize") as report:
            context = StageContext(
                inputs={},
                output=work,
                work=work,
                report=report,
                start_cluster=lambda: stack.enter_context(cluster_of(settings.runtime)()),
            )
            pool = settings.runtime.synthesis
            mapped = draw_rows(context, bundle, rows=rows, seed=seed, sampling=settings.sampling, pool=pool)
        written = export(work / SHARD_FOLDER, out)
        remove_tree(work)
    account = account_of(mapped, rows)
    said = f"{out}: {written:,} rows from {account['attempts']:,} draws, rejected: {account['rejections'] or 'none'}"
    if written < rows:
        tries = settings.sampling.attempts
        said += f"; {rows - written:,} indices are left out, none of their {tries} draws was valid (sampling.attempts)"
    return said


@contextmanager
def _removed_if_empty(work: Path) -> Iterator[None]:
    """The work folder, removed again after a failure that left no finished shard in it."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not ShardFolder(work / SHARD_FOLDER).finished():
            remove_tree(work)
        raise
