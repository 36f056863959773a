"""The command line: `difflm VERB ...`, the same as `python -m difflm_jobs VERB ...`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from difflm.errors import ConfigError, DiffLMError, StorageError, without_passwords
from difflm.lifetime import end_with_parent
from difflm.printable import PrintableFormatter, printable
from difflm_jobs.cli.agents.verb import agents_app
from difflm_jobs.cli.at_rest import at_rest_app, purged
from difflm_jobs.cli.benchmark import benchmark_app
from difflm_jobs.cli.compare import report_app
from difflm_jobs.cli.configuration import config_app, configuration_app
from difflm_jobs.cli.diagnose import diagnose_app
from difflm_jobs.cli.imputing import imputing_app
from difflm_jobs.cli.judging import judge_app
from difflm_jobs.cli.protocol import protocol_app
from difflm_jobs.cli.scoring_verbs import scoring_app
from difflm_jobs.cli.serve import serve_app
from difflm_jobs.cli.sharing.signing import SignedBy, signer_setting, signing_app
from difflm_jobs.cli.sharing.verbs import sharing_app
from difflm_jobs.cli.study_verbs import study_app
from difflm_jobs.cli.submit import submit_app
from difflm_jobs.cli.terminal import (
    RUNS,
    Budget,
    Constraints,
    Dialect,
    Epsilon,
    Gates,
    Given,
    Name,
    Protect,
    ProtectUnit,
    Quality,
    Runs,
    SafeCsv,
    Set,
    Target,
    audience,
    changed,
    describe_failure,
    is_plain,
    output,
    print_line,
    print_warning,
    progress_output,
    spell_unknown_letters,
)
from difflm_jobs.given_settings import privacy_overrides
from difflm_jobs.inputs.databases import from_database
from difflm_jobs.verbs import GroupedVerbs, options

app = typer.Typer(
    name="difflm",
    cls=GroupedVerbs,
    help="Synthetic records from a latent-diffusion language model: one table in, a scored synthetic table out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130

app.callback()(options)
app.add_typer(config_app, name="config")
app.add_typer(at_rest_app)
app.add_typer(agents_app)
app.add_typer(benchmark_app)
app.add_typer(judge_app, name="judge")
app.add_typer(configuration_app)
app.add_typer(imputing_app)
app.add_typer(diagnose_app)
app.add_typer(protocol_app)
app.add_typer(report_app)
app.add_typer(serve_app)
app.add_typer(scoring_app)
app.add_typer(sharing_app)
app.add_typer(signing_app)
app.add_typer(study_app)
app.add_typer(submit_app)


def main() -> None:
    """Run the command line; ends with code 0, with 2 where the user can mend it, and with 1 otherwise."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries would tear this program's own
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    signal.signal(signal.SIGTERM, _interrupt)
    spell_unknown_letters()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())
    try:
        end_with_parent()
        app()
    except KeyboardInterrupt:  # before typer takes it
        sys.exit(_fail("interrupted", INTERRUPTED))
    except DiffLMError as error:
        sys.exit(_fail(str(error), error.exit_code))
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what typer makes of KeyboardInterrupt, without a word
            _fail("interrupted; run the same command again to go on", INTERRUPTED)
        raise
    except Exception as error:
        if (message := describe_failure(error)) is None:
            raise
        sys.exit(_fail(message, StorageError.exit_code))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt  # a SIGTERM, as of a scheduler, ends a command as Ctrl-C does


def _fail(message: str, code: int) -> int:
    print("error:", printable(without_passwords(" ".join(message.split()))), file=sys.stderr)
    return code


def _asked(
    changes: list[str] | None, target: str | None, name: str | None, constraints: list[str] | None
) -> dict[str, Any]:
    """Return what stands beside a configuration on the command line, as `read_settings` takes it."""
    return {"overrides": changes or (), "target": target, "name": name, "constraints": constraints or ()}


@app.command()
def run(
    config: Given,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop after this stage, such as prepare or assemble.")
    ] = None,
    constraint: Constraints = None,
    changes: Set = None,
    target: Target = None,
    name: Name = None,
    quality: Quality = None,
    budget: Budget = None,
    protect: Protect = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Afterwards remove what holds real rows: all but bundle, rows and report.")
    ] = False,
    epsilon: Epsilon = None,
    protect_unit: ProtectUnit = None,
    runs: Runs = RUNS,
) -> None:
    """Learn a table, make a synthetic one and score it; stages that are done already are not run again.

    --quality fast, balanced or best and --budget 10m choose how long to train; difflm plan says how long that takes.
    """
    overrides = changed([*(changes or ()), *privacy_overrides(epsilon, protect_unit)], protect)
    asked = _asked(overrides, target, name, constraint)
    if purge and until is not None:
        raise ConfigError(f"--purge and --until {until}: what is removed would be needed to go on; give one of them")
    experiment = _run(config, until, runs, asked, {"quality": quality, "budget": budget})
    if purge:
        print_line(output(), purged(runs / experiment))


def _run(given: str, until: str | None, runs: Path, asked: Mapping[str, Any], wished: Mapping[str, Any]) -> str:
    """Run an experiment up to a stage; return its name."""
    import psutil

    from difflm_jobs.loading import read_settings, refuse_missing

    started = psutil.Process().create_time()
    given, asked = from_database(given, asked, runs)
    refuse_missing(given, asked["overrides"])
    settings = read_settings(given, **asked)
    settings.experiment()
    from difflm_jobs.cli.summary import choice_line, print_reports, print_summary
    from difflm_jobs.planning.choice import Chooser, Wish

    wish = Wish(**wished)
    choice = Chooser(settings=settings, runs=runs).choose(wish, keep=True)
    if wish:
        print_line(progress_output(), choice_line(choice))
    experiment = choice.experiment
    from difflm_jobs.experiment import refuse_failed_run, run_experiment
    from difflm_jobs.inputs.gates import table_gates
    from difflm_jobs.pipeline.progress import reporting

    shown, out = partial(reporting, progress_output()), output()
    record, artifacts = run_experiment(
        experiment, runs, last=until, started=started, reporting=shown, predicted=choice.times
    )
    print_summary(out, record, artifacts)
    print_reports(out, artifacts)
    refuse_failed_run(table_gates(experiment.gates, experiment.data.kind), artifacts, partial(print_warning, out))
    return experiment.name


def _stage_verb(stage: str, summary: str) -> None:
    def verb(
        config: Given,
        constraint: Constraints = None,
        changes: Set = None,
        target: Target = None,
        name: Name = None,
        quality: Quality = None,
        budget: Budget = None,
        protect: Protect = None,
        runs: Runs = RUNS,
    ) -> None:
        asked = _asked(changed(changes, protect), target, name, constraint)
        _run(config, stage, runs, asked, {"quality": quality, "budget": budget})

    command: Callable[[Callable[..., Any]], Callable[..., Any]] = app.command(name=stage, help=summary)
    command(verb)


for _stage, _summary in (
    ("prepare", "Read, split and describe the table."),
    ("fit-decoder", "Fit the compact decoder to the training split (and what comes before)."),
    ("train-autoencoder", "Train encoder and injector around the frozen decoder (and what comes before)."),
    ("encode", "Extract the latents of the training split (and what comes before)."),
    ("train-diffusion", "Fit the prior over the latents (and what comes before)."),
    ("train-conditional", "Teach the prior conditions, where conditions.enabled is set (and what comes before)."),
    ("assemble", "Put together the bundle that synthesis needs (and what comes before)."),
):
    _stage_verb(_stage, _summary)


@app.command()
def plan(
    config: Given,
    constraint: Constraints = None,
    changes: Set = None,
    target: Target = None,
    name: Name = None,
    quality: Quality = None,
    budget: Budget = None,
    runs: Runs = RUNS,
) -> None:
    """Say what would run, how large it is, how long it takes here and how much memory it needs; runs nothing.

    The time comes from a few steps of the real trainings on a sample of the table.
    """
    from difflm_jobs.loading import read_settings

    asked = _asked(changes, target, name, constraint)
    config, asked = from_database(config, asked, runs)
    settings = read_settings(config, **asked)
    settings.experiment()
    from difflm_jobs.cli.plan import print_plan
    from difflm_jobs.planning.choice import Chooser, Wish

    print_plan(Chooser(settings=settings, runs=runs), Wish(quality=quality, budget=budget), output())


@app.command()
def synthesize(
    bundle: Annotated[Path, typer.Argument(help="A bundle, a .difflm file, hf://owner/name, or a run.")],
    rows: Annotated[int, typer.Option(help="Rows to make.")],
    out: Annotated[
        str, typer.Option(help="A file (.csv, .jsonl, .parquet, .arrow, .xlsx, .ods), a folder, s3://..., a database.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same rows.")] = 0,
    format_: Annotated[
        str | None, typer.Option("--format", help="Of the parts: parquet (default), jsonl, csv or arrow.")
    ] = None,
    resume: Annotated[
        str, typer.Option(help="Whether to go on from parts that are there: never, always or if-possible.")
    ] = "if-possible",
    where: Annotated[
        str | None, typer.Option(help="What every row satisfies, such as 'age >= 40 and income == \">50K\"'.")
    ] = None,
    balance: Annotated[str | None, typer.Option(help="A column whose values all come up equally often.")] = None,
    constraint: Constraints = None,
    like: Annotated[Path | None, typer.Option(help="A table whose records are varied, by turns.")] = None,
    strength: Annotated[float, typer.Option(help="How far --like goes: 0 the records themselves, 1 any record.")] = 0.3,
    between: Annotated[
        Path | None, typer.Option(help="A table of two records; the rows lead from one to the other.")
    ] = None,
    evaluate_own: Annotated[
        bool, typer.Option("--evaluate", help="Score the rows while they are made, against the run's own splits.")
    ] = False,
    evaluate_against: Annotated[
        Path | None, typer.Option(help="The same against this table, which the bundle was trained on.")
    ] = None,
    holdout: Annotated[
        Path | None, typer.Option(help="Real rows that were not trained on, for --evaluate-against.")
    ] = None,
    gate: Gates = None,
    safe_csv: SafeCsv = False,
    dialect: Dialect = "source",
    signed_by: SignedBy = None,
    changes: Set = None,
) -> None:
    """Make rows from a finished run or a generator; given again after a kill, or with more rows, it goes on."""
    from difflm.synthesis.plans.request import PlanRequest
    from difflm_jobs.cli.summary import rows_line
    from difflm_jobs.inputs.given_tables import given_file, real_files
    from difflm_jobs.rows.bundle_rows import DatasetRequest
    from difflm_jobs.rows.database_rows import deliver_rows
    from difflm_jobs.rows.resume import resume_mode

    wanted = DatasetRequest(
        bundle=bundle,
        rows=rows,
        seed=seed,
        out=out,
        format=format_,
        resume=resume_mode(resume),
        plan=PlanRequest(where=where, balance=balance, constraints=tuple(constraint or ())),
        given=given_file(like, between, strength, rows),
        real=real_files(bundle, of_run=evaluate_own, train=evaluate_against, holdout=holdout),
        gates=tuple(gate or ()),
        safe_csv=safe_csv,
        plain=is_plain(dialect),
    )
    overrides = [*(changes or ()), *signer_setting(signed_by, "sampling")]
    print_line(output(), rows_line(deliver_rows(wanted, overrides=overrides, audience=audience())))
