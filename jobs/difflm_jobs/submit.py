"""Submitting: any verb as a job on a Ray cluster that never installed the project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from difflm.errors import ConfigError

RUNTIME_ENV = Path("infra/ray/runtime-env.yaml")


def submission_command(verb: Sequence[str], *, address: str, wait: bool) -> list[str]:
    """The `ray job submit` command for a verb, to be run from the root of a checkout.

    A relative or missing `--runs` becomes absolute: the job's own folder on the cluster is thrown away when it ends.
    """
    script = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address]
    script += [] if wait else ["--no-wait"]
    script += ["--working-dir", ".", "--runtime-env", str(RUNTIME_ENV), "--"]
    return [*script, "python", "-m", "difflm_jobs", *_absolute_runs(verb)]


def _absolute_runs(verb: Sequence[str]) -> list[str]:
    arguments = list(verb)
    if arguments and arguments[0] in {"submit", "config", "synthesize", "evaluate"}:
        return arguments
    for position, argument in enumerate(arguments):
        if argument == "--runs" and position + 1 < len(arguments):
            arguments[position + 1] = str(Path(arguments[position + 1]).resolve())
            return arguments
        if argument.startswith("--runs="):
            arguments[position] = f"--runs={Path(argument.removeprefix('--runs=')).resolve()}"
            return arguments
    return [*arguments, "--runs", str(Path(os.environ.get("DIFFLM_RUNS", "runs")).resolve())]


def submit_job(verb: Sequence[str], *, address: str | None, wait: bool) -> int:
    """Submit a verb from the root of a checkout and return the exit code of `ray job submit`.

    Raises:
        ConfigError: no verb, no address, or the present folder is no checkout.
    """
    if not verb:
        raise ConfigError("submit: no verb given; for example: difflm submit run adult --runs /shared/runs")
    if not address:
        raise ConfigError("submit: no cluster given; set RAY_ADDRESS or give --address http://HEAD:8265")
    if not RUNTIME_ENV.is_file():
        raise ConfigError(f"submit: {RUNTIME_ENV} is not in {Path.cwd()}; run it from the root of a checkout")
    return subprocess.run(submission_command(verb, address=address, wait=wait), check=False).returncode
