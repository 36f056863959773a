"""`difflm mcp`: tables and runs of some folders for agents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflm.extras import require

agents_app = typer.Typer()


@agents_app.command("mcp")
def mcp(
    root: Annotated[
        list[Path], typer.Option("--root", help="A folder whose files agents may read and add to; may be repeated.")
    ],
    runs: Annotated[Path | None, typer.Option(help="Folder that holds the runs; by default runs/ in the root.")] = None,
    max_rows: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows in one answer.")] = 200,
    max_rows_in_file: Annotated[int, typer.Option(min=1, help="Most rows that are written to a file.")] = 10_000,
    max_table_mib: Annotated[int, typer.Option(min=1, help="Largest table that is read.")] = 256,
    max_trainings: Annotated[int, typer.Option(min=1, help="Trainings at a time; they share this machine.")] = 1,
) -> None:
    """Offer tables and runs of these folders to agents, over standard input and output (MCP); see docs/mcp.md."""
    require("mcp", "difflm mcp")
    from difflm_jobs.cli.agents.server import make_server
    from difflm_jobs.cli.agents.workbench import AgentLimits, Workbench

    limits = AgentLimits(
        rows=max_rows, rows_in_file=max_rows_in_file, table_bytes=max_table_mib * 2**20, trainings=max_trainings
    )
    with Workbench.over(root, runs=runs, limits=limits) as workbench:
        try:
            make_server(workbench).run("stdio")
        except* BrokenPipeError:
            pass  # the client went away in the middle of a call, which ends the server as its farewell does
