"""`difflm submit`: any verb as a job on a Ray cluster that never installed the project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from difflm.errors import ClusterError, ConfigError
from difflm.extras import require
from difflm.records.databases.urls import refuse_database
from difflm_jobs.cli.terminal import REFERENCE

RUNTIME_ENV = Path("infra/ray/runtime-env.yaml")
_FILES = {
    "synthesize": ("bundle", "out", "like", "between", "evaluate_against", "holdout"),
    "impute": ("bundle", "table", "out"),
    "evaluate": ("records", "train", "test", "out", "judge"),
    "passk": ("samples", "problems", "out"),
    "export-tools": ("records", "out"),
    "compare": ("out",),
    "diagnose": ("out", "train", "test"),
    "ablate": ("out",),
    "study": ("out",),
}
"""Verbs that read and write files of any name, and the arguments that say which."""

Verbs: TypeAlias = Mapping[str, Any]
"""The commands of the command line, by name."""

submit_app = typer.Typer()


@submit_app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def submit(
    context: typer.Context,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="The cluster, such as http://head:8265.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Show the job's output until it ends.")] = True,
) -> None:
    """Run any verb as a job on a Ray cluster that never installed the project: `difflm submit run adult`."""
    verbs: Verbs = context.find_root().command.commands  # type: ignore[attr-defined]
    sys.exit(submit_job(context.args, verbs, address=address, wait=wait))


def submission_command(verb: Sequence[str], verbs: Verbs, *, address: str, wait: bool) -> list[str]:
    """Compose the `ray job submit` command for a verb, to be run from the root of a checkout.

    A relative or missing `--runs` becomes absolute: the job's own folder on the cluster is thrown away when it ends.
    """
    script = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address]
    script += [] if wait else ["--no-wait"]
    script += ["--working-dir", ".", "--runtime-env", str(RUNTIME_ENV), "--"]
    return [*script, "python", "-m", "difflm_jobs", *_absolute_runs(verb, verbs)]


def _absolute_runs(verb: Sequence[str], verbs: Verbs) -> list[str]:
    arguments = list(verb)
    if not arguments or not _takes_runs(verbs.get(arguments[0])):
        return arguments
    for position, argument in enumerate(arguments):
        if argument == "--runs" and position + 1 < len(arguments):
            arguments[position + 1] = str(Path(arguments[position + 1]).resolve())
            return arguments
        if argument.startswith("--runs="):
            arguments[position] = f"--runs={Path(argument.removeprefix('--runs=')).resolve()}"
            return arguments
    return [*arguments, "--runs", str(Path(os.environ.get("DIFFLM_RUNS", "runs")).resolve())]


def _takes_runs(command: Any) -> bool:
    return command is not None and any(parameter.name == "runs" for parameter in command.params)


def check_files(verb: Sequence[str], verbs: Verbs) -> None:
    """Refuse files that the job would not find, or would leave in a folder that is thrown away when it ends.

    Raises:
        ConfigError: an argument of one of these verbs is a relative path; names it.
        typer.BadParameter: the verb's own arguments are wrong.
    """
    name = verb[0]
    if name not in _FILES:
        return
    given = _given(verb, verbs)
    for key in _FILES[name]:
        path = str(given[key]) if given.get(key) is not None else None
        if (name, path) == ("passk", REFERENCE):  # a word, no file
            continue
        if path is not None and "://" not in path and not Path(path).is_absolute():
            raise ConfigError(
                f"submit {name}: {key} {path!r} is a relative path, and the job runs in another folder on the cluster; "
                "give an absolute path on storage that all its machines share"
            )


def check_settings(verb: Sequence[str], verbs: Verbs) -> None:
    """Refuse settings that no cluster can draw rows with.

    What is installed on its machines the job itself finds out, and ends with the same error before any work.

    Raises:
        ConfigError: names the setting and the remedy.
        typer.BadParameter: the verb's own arguments are wrong.
    """
    if verb[0] not in ("run", "plan", "synthesize"):
        return
    given = _given(verb, verbs)
    changes = given["changes"] or ()
    from difflm.config import apply_overrides, validate
    from difflm_jobs.config import SynthesisSettings
    from difflm_jobs.loading import YAML_SUFFIXES, load_experiment
    from difflm_jobs.pipeline.engine_check import check_room, draws_rows
    from difflm_jobs.pipeline.pipeline import until
    from difflm_jobs.stages.stages import build_stages

    if verb[0] == "synthesize":
        settings = validate(SynthesisSettings, apply_overrides({}, changes), "--set", changes)
        check_room(settings.sampling, settings.runtime)
    elif not given["config"].endswith(YAML_SUFFIXES) or Path(given["config"]).is_file():  # else it is on the cluster
        asked = {"target": given["target"], "name": given["name"], "constraints": given.get("constraint") or ()}
        config = load_experiment(given["config"], overrides=changes, **asked)
        if draws_rows(until(build_stages(config), given.get("until"))):
            check_room(config.sampling, config.runtime)


def _given(verb: Sequence[str], verbs: Verbs) -> dict[str, Any]:
    """Read a verb's arguments, by name."""
    name, *arguments = verb
    params: dict[str, Any] = verbs[name].make_context(name, arguments).params
    return params


def submit_job(verb: Sequence[str], verbs: Verbs, *, address: str | None, wait: bool) -> int:
    """Submit a verb from the root of a checkout and return the exit code of `ray job submit`.

    Raises:
        ConfigError: no verb, no address, a file the job would not find, settings that no cluster can draw rows with,
            or the present folder is no checkout.
        ClusterError: the cluster did not take the job.
    """
    if not verb:
        raise ConfigError("submit: no verb given; for example: difflm submit run adult --runs /shared/runs")
    if not address:
        raise ConfigError("submit: no cluster given; set RAY_ADDRESS or give --address http://HEAD:8265")
    require("cluster", "difflm submit")
    for argument in verb:
        refuse_database(argument.partition("=")[2] if argument.startswith("--") else argument, "submit")
    check_files(verb, verbs)
    check_settings(verb, verbs)
    if not RUNTIME_ENV.is_file():
        raise ConfigError(f"submit: {RUNTIME_ENV} is not in {Path.cwd()}; run it from the root of a checkout")
    return _run(submission_command(verb, verbs, address=address, wait=wait), address)


def _run(command: Sequence[str], address: str) -> int:
    """Run `ray job submit`, its output as it comes; the traceback with which it answers a refusal becomes one line."""
    traceback = list[str]()
    environment = os.environ | {"RAY_ADDRESS": address}  # Ray takes the variable rather than the argument
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if traceback or line.startswith("Traceback (most recent call last)"):
                traceback.append(line)
            else:
                sys.stderr.write(line)
                sys.stderr.flush()
    if traceback:
        raise ClusterError(
            f"the cluster at {address} did not take the job, or was lost ({traceback[-1].strip()[:300]}); check the "
            "address, that its dashboard runs, and RAY_AUTH_MODE and RAY_AUTH_TOKEN where it asks for a token"
        )
    return process.returncode
