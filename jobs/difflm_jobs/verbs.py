"""The verbs of the command line in the order in which a reader looks for them, each with an example, and what the help
makes of both."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from difflm.errors import without_passwords

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

EXAMPLES = {
    "run": ("difflm run people.csv --target income --budget 10m", "difflm run demo"),
    "inspect": ("difflm inspect people.csv",),
    "plan": ("difflm plan people.csv --target income --quality best",),
    "init": ("difflm init people.csv --target income",),
    "config schema": ("difflm config schema",),
    "config show": ("difflm config show demo",),
    "show": ("difflm show runs/people", "difflm show people.difflm"),
    "synthesize": (
        "difflm synthesize runs/people --rows 1000 --out more.csv",
        "difflm synthesize runs/people --rows 9 --where 'age >= 40' --out some.csv",
    ),
    "impute": ("difflm impute runs/people gaps.csv --out filled.csv",),
    "serve": ("difflm serve runs/people --port 8000",),
    "serve-key": ("difflm serve-key alice --keys keys.yaml --rows-per-minute 100000",),
    "mcp": ("difflm mcp --root ~/tables",),
    "evaluate": ("difflm evaluate theirs.csv --train people.csv --test unseen.csv",),
    "diagnose": ("difflm diagnose runs/people --out diagnosis",),
    "compare": ("difflm compare runs/people runs/larger --out comparison",),
    "benchmark": ("difflm benchmark people.csv --methods real,cart,compact --minutes 5",),
    "protocol": ("difflm protocol adult --synthetic rows.csv",),
    "judge tools": ("difflm judge tools synthetic.jsonl --real real.jsonl --model M",),
    "judge preference": ("difflm judge preference synthetic.jsonl real.jsonl --model M",),
    "judge rubric": ("difflm judge rubric tickets.csv --rubric rubric.yaml --model M",),
    "judge export-pairs": ("difflm judge export-pairs synthetic.jsonl real.jsonl --out pairs.html",),
    "judge read-pairs": ("difflm judge read-pairs pairs.key.json answers-ann.json answers-bob.json",),
    "passk": ("difflm passk samples.jsonl --problems HumanEval.jsonl.gz --k 10",),
    "report-schema": ("difflm report-schema > report.schema.json",),
    "export": ("difflm export runs/people people.difflm --licence cc-by-4.0",),
    "push": ("difflm push runs/people ada/people",),
    "sign": ("difflm sign --make-key ~/.ssh/difflm", "difflm sign people.difflm --key ~/.ssh/difflm"),
    "verify": ("difflm verify runs/people", "difflm verify people.difflm --signer difflm.pub"),
    "purge": ("difflm purge runs/people",),
    "export-tools": ("difflm export-tools synthetic.jsonl --out tools-as-toolbench.jsonl",),
    "ablate": ("difflm ablate people.csv --vary 'prior.kind=[diffusion, gmm]' --seeds 0,1,2",),
    "study": ("difflm study runs/people --times 1,2,4",),
    "flywheel": ("difflm flywheel people.csv --rounds 3 --gate 'shape < 5'",),
    "downstream": ("difflm downstream lm.yaml",),
    "submit": ("difflm submit run adult --runs /shared/runs",),
    "prepare": ("difflm prepare people.csv --target income",),
    "fit-decoder": ("difflm fit-decoder people.csv --set decoder_fit.steps=2000",),
    "train-autoencoder": ("difflm train-autoencoder people.csv --target income",),
    "encode": ("difflm encode people.csv --target income",),
    "train-diffusion": ("difflm train-diffusion people.csv --set prior.steps=4000",),
    "train-conditional": ("difflm train-conditional people.csv --set conditions.enabled=true",),
    "assemble": ("difflm assemble people.csv --target income",),
}
"""What a verb is called with, below its help."""


def examples_shown(name: str) -> str | None:
    """Return the examples of a verb as the end of its help, in the markup of rich; None where it has none."""
    lines = [example.replace("[", r"\[") for example in EXAMPLES.get(name, ())]
    return "\n".join(["For example:", *lines]) if lines else None


class GroupedVerbs(TyperGroup):
    """A group of commands whose help shows them under the titles of `GROUPS`, in that order."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the names of the commands as `GROUPS` has them; one that it lacks comes last."""
        known = super().list_commands(ctx)
        ordered = [name for names in GROUPS.values() for name in names if name in known]
        return [*ordered, *(name for name in known if name not in ordered)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, which knows the title that it stands under and its examples."""
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None:
            command.rich_help_panel = next((title for title, names in GROUPS.items() if cmd_name in names), None)
            command.epilog = examples_shown(cmd_name)
            for name, verb in getattr(command, "commands", {}).items():
                verb.epilog = examples_shown(f"{cmd_name} {name}")
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that is named; what is wrong with how it was called is said without the passwords of URLs."""
        try:
            return super().invoke(ctx)
        except Exception as error:  # typer shows the arguments that it could not take
            if isinstance(message := getattr(error, "message", None), str):
                with suppress(AttributeError):  # a group of exceptions does not let go of its message
                    error.message = without_passwords(message)  # type: ignore[attr-defined]
            raise


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
