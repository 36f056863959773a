"""The verbs before a run: `difflm inspect`, `init`, `config show` and `config schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflm_jobs.cli.terminal import Given, Name, Set, Target, output, print_line

config_app = typer.Typer(help="About configuration files.", no_args_is_help=True)
configuration_app = typer.Typer()


@configuration_app.command()
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="The records to learn: a file, or a folder of code.")],
    target: Target = None,
    kind: Annotated[str, typer.Option(help="What the records are: table, tools or code.")] = "table",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write; by default NAME-OF-THE-TABLE.yaml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there already.")] = False,
) -> None:
    """Write a commented configuration for a table: its columns, and the settings that are changed first."""
    from shlex import quote

    from difflm_jobs.cli.starting_file import write_starting_file
    from difflm_jobs.inputs.record_kinds import record_kind

    made = write_starting_file(table, target=target, kind=record_kind(kind), out=out, force=force)
    print_line(output(), f"{made.path}: a configuration for {made.records:,} records of {made.columns:,} columns")
    print_line(output(), f"go on with: difflm plan {quote(str(made.path))}, then difflm run {quote(str(made.path))}")


@configuration_app.command()
def inspect(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="The records to learn: a file, a folder of code, a database's URL.")
    ],
    target: Target = None,
    changes: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show what each column of a table is taken for, why, and the setting that changes it; nothing is trained."""
    from difflm_jobs.cli.inspection import document, inspected, print_inspected

    looked = inspected(table, target=target, overrides=changes or ())
    if as_json:
        print(document(table, looked))
        return
    print_inspected(output(), looked)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of configuration files, for editors that check YAML."""
    import json

    from difflm_jobs.loading import file_schema

    print(json.dumps(file_schema(), indent=2))


@config_app.command("show")
def config_show(config: Given, changes: Set = None, target: Target = None, name: Name = None) -> None:
    """Print a configuration with every default written out."""
    from difflm.config import dump_yaml
    from difflm_jobs.loading import load_experiment

    print(dump_yaml(load_experiment(config, overrides=changes or (), target=target, name=name)), end="")
