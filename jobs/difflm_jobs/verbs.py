"""The verbs of the command line in the order in which a reader looks for them, and what `difflm --help` makes of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

GROUPS = {
    "From a table to its report": ("run", "inspect", "plan", "init", "config", "show"),
    "Rows from a finished run": ("synthesize", "impute", "serve", "serve-key", "mcp"),
    "Scores": ("evaluate", "diagnose", "compare", "benchmark", "protocol", "judge", "passk", "report-schema"),
    "Sharing and safety": ("export", "push", "sign", "verify", "purge", "export-tools"),
    "Many runs, and other machines": ("ablate", "study", "flywheel", "downstream", "submit"),
    "Single stages of a run": (
        "prepare",
        "fit-decoder",
        "train-autoencoder",
        "encode",
        "train-diffusion",
        "train-conditional",
        "assemble",
    ),
}


class GroupedVerbs(TyperGroup):
    """A group of commands whose help shows them under the titles of `GROUPS`, in that order."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the names of the commands as `GROUPS` has them; one that it lacks comes last."""
        known = super().list_commands(ctx)
        ordered = [name for names in GROUPS.values() for name in names if name in known]
        return [*ordered, *(name for name in known if name not in ordered)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, which knows the title that it stands under."""
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None:
            command.rich_help_panel = next((title for title, names in GROUPS.items() if cmd_name in names), None)
        return command


def print_version(asked: bool) -> None:
    """Print the version and end, where it was asked for."""
    from difflm import __version__

    if asked:
        print(f"difflm {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Take what stands before a verb."""
