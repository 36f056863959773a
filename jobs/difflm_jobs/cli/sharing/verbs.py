"""`difflm export`, `difflm push` and `difflm show`: generators as files and in repositories, and what they are."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm.errors import ConfigError
from difflm_jobs.cli.terminal import RUNS, Runs, output, print_line, print_warning, progress_output

if TYPE_CHECKING:
    from rich.console import Console

    from difflm.api import Generator
    from difflm_evaluators import Report

Shared = Annotated[str, typer.Argument(metavar="RUN", help="A run by name or folder, a bundle, or a .difflm file.")]
Licence = Annotated[
    str | None, typer.Option(metavar="NAME", help="Under which others may use it, such as cc-by-4.0; the card says so.")
]

sharing_app = typer.Typer()


@sharing_app.command()
def export(
    run: Shared,
    out: Annotated[Path, typer.Argument(help="A new file that ends in .difflm, or a new folder.")],
    licence: Licence = None,
    runs: Runs = RUNS,
) -> None:
    """Write a generator into one file: what draws rows, its scores and a model card, and no row of the table."""
    generator = _opened(run, runs)
    generator.save(out, licence=licence)
    size = sum(path.stat().st_size for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file())
    print_line(output(), f"{out}: {size / 2**20:,.1f} MiB; difflm show {out} says what it is")
    _warn_of(generator, progress_output())


@sharing_app.command()
def push(
    run: Shared,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Made, and private, where it is not there.")],
    licence: Licence = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it.")] = False,
    runs: Runs = RUNS,
) -> None:
    """Put a generator into a repository of a Hugging Face hub, from which hf://owner/name loads it.

    The token is that of HF_TOKEN or of `hf auth login`; HF_ENDPOINT names another hub.
    """
    from difflm.synthesis.sharing import hub

    hub.check_repository(repository.removeprefix("hf://"))
    repository = repository.removeprefix("hf://")
    generator = _opened(run, runs)
    _warn_of(generator, progress_output())
    with tempfile.TemporaryDirectory(prefix="difflm-push-") as temporary:
        folder = generator.bundle
        if not (folder / "README.md").is_file():
            folder = generator.save(Path(temporary) / "bundle", licence=licence)
        elif licence is not None:
            raise ConfigError(f"--licence {licence}: {run} has a card already; difflm export RUN names its licence")
        page = hub.push(folder, repository, public=public, message="Generator of synthetic records (difflm push)")
    print_line(output(), f"{page}: load it with difflm.load('hf://{repository}')")


@sharing_app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, a bundle, a .difflm file, or hf://owner/name.")],
    runs: Runs = RUNS,
) -> None:
    """Show the stages, scores and overhead of an experiment's last run; of a generator, what it is and its scores."""
    from difflm.synthesis.sharing.places import is_generator

    if is_generator(run):
        _print_generator(run, output())
        return
    from difflm_jobs.cli.summary import print_experiment

    print_experiment(run, runs, output())


def _opened(run: str, runs: Path) -> Generator:
    """Open what a command line names: a path, a repository, or the name of a run."""
    from difflm.synthesis.sharing.hub import HubPlace
    from difflm_jobs.experiment import find_experiment
    from difflm_jobs.opening import load

    there = HubPlace.is_one(run) or Path(run).exists()
    return load(run if there else find_experiment(run, runs))


def _warn_of(generator: Generator, console: Console) -> None:
    """Say before a generator is handed on what its scores say of privacy, and that there are none."""
    report = generator.found_report()
    if report is None:
        print_line(console, "it carries no scores: difflm run makes the report of a run, which then goes along")
        return
    for answer in report.verdict.answers:
        if answer.question == "private" and answer.colour == "red":
            print_warning(console, f"private: {answer.word}. {answer.sentence}")


def _print_generator(given: str, console: Console) -> None:
    from difflm_jobs.cli.columns_shown import described
    from difflm_jobs.opening import load

    generator = load(given)
    schema = generator.schema
    target = "" if schema.target is None else f", target {schema.target!r}"
    print_line(console, f"{given}: learned from {schema.row_count:,} rows, {len(schema.fields)} columns{target}")
    for field in schema.fields:
        print_line(console, f"  {field.name}: {described(field)}")
    signer = _signer(generator.bundle)
    print_line(console, "not signed" if signer is None else f"signed with {signer} (difflm verify --signer checks it)")
    report = generator.found_report()
    if report is None:
        print_line(console, "not measured: it carries no report")
        return
    _print_report(report, console)


def _print_report(report: Report, console: Console) -> None:
    from difflm_jobs.cli.summary import print_scores, print_verdict
    from difflm_jobs.stages.evaluate import headlines

    print_scores(console, headlines(report))
    print_verdict(console, report.verdict)


def _signer(bundle: Path) -> str | None:
    """Return the key that a bundle says it is signed with, which nobody has checked here."""
    from difflm.artifacts.manifest import SIGNATURE_NAME
    from difflm.regular_files import read_file
    from difflm.telemetry import parse_json

    path = bundle / SIGNATURE_NAME
    try:
        signer = parse_json(read_file(path))["signer"] if path.is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return signer if isinstance(signer, str) else None
