"""Rows from a bundle into a table of a database, or to wherever `write_rows` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.errors import ConfigError, UserError
from difflm.records.databases.urls import is_database
from difflm_jobs.inputs.databases import Delivery
from difflm_jobs.inputs.places import refuse_over
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.runlog import CONFIG_NAME
from difflm_jobs.rows.bundle_rows import write_rows
from difflm_jobs.rows.destinations import single_file

if TYPE_CHECKING:
    from difflm_jobs.rows.bundle_rows import Audience, DatasetRequest, RowsWritten


def deliver_rows(wanted: DatasetRequest, *, overrides: Sequence[str], audience: Audience) -> RowsWritten:
    """Draw rows into ``wanted.out`` as `write_rows` does, or into the table that a database's URL names: when all of
    them are there, in one transaction.

    Raises:
        ConfigError: what `write_rows` raises, a table that cannot be made or added to, or a file that is a table which
            is read here or was learned.
        DataError: the database cannot be reached or refuses a row.
    """
    if not is_database(wanted.out):
        if (file := single_file(wanted.out, wanted.format)) is not None:
            refuse_over(file, [*_tables_read(wanted), *_tables_learned(wanted.bundle)])
        return write_rows(wanted, overrides=overrides, audience=audience)
    if wanted.real is not None:
        raise ConfigError("--evaluate and a database do not go together: write a file or parts, and score those")
    asked = repr((replace(wanted, out=""), tuple(overrides)))
    delivery = Delivery.to(wanted.out, asked_by=asked, format_=wanted.format)
    written = write_rows(replace(wanted, out=str(delivery.file)), overrides=overrides, audience=audience)
    delivery.deliver()
    return replace(written, where=str(delivery.target))


def _tables_read(wanted: DatasetRequest) -> list[Path | None]:
    real = [] if wanted.real is None else [wanted.real.train, wanted.real.holdout]
    return [*real, None if wanted.given is None else wanted.given.path]


def _tables_learned(bundle: Path) -> Iterator[Path]:
    """Yield the tables that a run was made from, as far as its configuration can be read and they are files."""
    from difflm_jobs.inputs.sources import FileSource, locate

    for folder in (bundle, bundle.absolute().parent.parent):  # a run, or its bundle in `artifacts`
        with suppress(UserError):
            data = load_experiment(str(folder / CONFIG_NAME)).data if (folder / CONFIG_NAME).is_file() else None
            for source in (data.train, data.test) if data is not None else ():
                if isinstance(source, FileSource):
                    yield locate(source, "data", folders=True)
