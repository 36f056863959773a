"""The verbs about configuration files: `difflm config show` and `config schema`."""

from __future__ import annotations

import typer

from difflm_jobs.cli.terminal import Given, Name, Set, Target

config_app = typer.Typer(help="About configuration files.", no_args_is_help=True)
configuration_app = typer.Typer()


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
