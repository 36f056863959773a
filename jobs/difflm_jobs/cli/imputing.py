"""`difflm impute`: the missing cells of a table, filled in from a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflm_jobs.cli.sharing.signing import SignedBy, signer_setting
from difflm_jobs.cli.terminal import Dialect, SafeCsv, Set, audience, is_plain, output, print_line

imputing_app = typer.Typer()


@imputing_app.command()
def impute(
    bundle: Annotated[Path, typer.Argument(help="A bundle, a .difflm file, hf://owner/name, or a run.")],
    table: Annotated[Path, typer.Argument(help="A table with the bundle's columns, in which cells are missing.")],
    out: Annotated[str, typer.Option(help="A file (.csv, .jsonl, .parquet, .arrow, .xlsx, .ods), or a folder or URL.")],
    column: Annotated[list[str] | None, typer.Option(help="Only this column; may be given several times.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other values: multiple imputation.")] = 0,
    safe_csv: SafeCsv = False,
    dialect: Dialect = "source",
    signed_by: SignedBy = None,
    changes: Set = None,
) -> None:
    """Fill in the missing cells of a table; the other cells and the order of the rows stay as they are."""
    from difflm.synthesis.plans.request import Impute, PlanRequest
    from difflm_jobs.cli.summary import rows_line
    from difflm_jobs.inputs.given_tables import GivenFile
    from difflm_jobs.rows.bundle_rows import DatasetRequest
    from difflm_jobs.rows.database_rows import deliver_rows

    wanted = DatasetRequest(
        bundle=bundle,
        rows=None,
        seed=seed,
        out=out,
        format=None,
        resume="if-possible",
        plan=PlanRequest(),
        given=GivenFile(path=table, use=Impute(columns=tuple(column) if column else None)),
        safe_csv=safe_csv,
        plain=is_plain(dialect),
    )
    overrides = [*(changes or ()), *signer_setting(signed_by, "sampling")]
    print_line(output(), rows_line(deliver_rows(wanted, overrides=overrides, audience=audience())))
