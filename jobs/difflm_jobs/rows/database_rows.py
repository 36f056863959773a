"""Rows from a bundle into a table of a database, or to wherever `write_rows` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from difflm.errors import ConfigError
from difflm.records.databases.urls import is_database
from difflm_jobs.inputs.databases import Delivery
from difflm_jobs.rows.bundle_rows import write_rows

if TYPE_CHECKING:
    from difflm_jobs.rows.bundle_rows import Audience, DatasetRequest, RowsWritten


def deliver_rows(wanted: DatasetRequest, *, overrides: Sequence[str], audience: Audience) -> RowsWritten:
    """Draw rows into ``wanted.out`` as `write_rows` does, or into the table that a database's URL names: when all of
    them are there, in one transaction.

    Raises:
        ConfigError: what `write_rows` raises, or a table that cannot be made or added to.
        DataError: the database cannot be reached or refuses a row.
    """
    if not is_database(wanted.out):
        return write_rows(wanted, overrides=overrides, audience=audience)
    if wanted.real is not None:
        raise ConfigError("--evaluate and a database do not go together: write a file or parts, and score those")
    asked = repr((replace(wanted, out=""), tuple(overrides)))
    delivery = Delivery.to(wanted.out, asked_by=asked, format_=wanted.format)
    written = write_rows(replace(wanted, out=str(delivery.file)), overrides=overrides, audience=audience)
    delivery.deliver()
    return replace(written, where=str(delivery.target))
