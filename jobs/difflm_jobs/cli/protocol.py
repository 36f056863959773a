"""`difflm protocol`: a table under the protocol of TabSyn, TabDiff and TabPC, beside their published figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm.errors import ConfigError
from difflm_jobs.cli.terminal import RUNS, Runs, Target, audience, output, print_line, progress_output

if TYPE_CHECKING:
    from difflm_evaluators.protocol import ProtocolResult, ProtocolSpec
    from difflm_jobs.studies.protocol import RealTables

protocol_app = typer.Typer()


@protocol_app.command()
def protocol(
    data_set: Annotated[
        str | None,
        typer.Argument(metavar="DATASET", help="adult, default, shoppers, magic or beijing; none for other tables."),
    ] = None,
    synthetic: Annotated[Path | None, typer.Option(help="The synthetic rows.")] = None,
    run: Annotated[str | None, typer.Option(help="Draw as many rows from this run or bundle as it learned.")] = None,
    prepare: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the protocol's splits and a configuration, and stop.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="The real rows that the generator was trained on.")] = None,
    test: Annotated[Path | None, typer.Option(help="Real rows that it never saw.")] = None,
    target: Target = None,
    categorical: Annotated[list[str] | None, typer.Option(help="Columns that are categories: A,B,C.")] = None,
    numeric: Annotated[list[str] | None, typer.Option(help="Columns that are numbers: A,B,C.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for protocol.json and protocol.md.")] = Path("protocol"),
    seed: Annotated[int, typer.Option(min=0, help="Of draws, folds and samples.")] = 0,
    runs: Runs = RUNS,
) -> None:
    """Score rows as TabSyn, TabDiff and TabPC are scored, by SDMetrics itself, beside their published figures."""
    given = _Given(
        data_set=data_set, synthetic=synthetic, run=run, train=train, test=test, seed=seed, out=out, runs=runs
    )
    if prepare is not None:
        _prepare(given, prepare)
        return
    given.check()
    from difflm_evaluators.protocol.sdmetrics_scores import require_sdmetrics

    require_sdmetrics()  # before any row is drawn
    kinds = {"target": target, "categorical": _names(categorical), "numeric": _names(numeric)}
    if data_set is not None and any(kinds.values()):
        raise ConfigError(
            f"{data_set}: its target and kinds are the protocol's; leave --target, --categorical and --numeric "
            "out, or give --train and --test without a name"
        )
    _score(given, target, _names(categorical), _names(numeric))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    data_set: str | None
    synthetic: Path | None
    run: str | None
    train: Path | None
    test: Path | None
    seed: int
    out: Path
    runs: Path

    def check(self) -> None:
        """Refuse what cannot be meant, before anything is read."""
        if (self.synthetic is None) == (self.run is None):
            raise ConfigError("give the rows to score: either --synthetic FILE or --run RUN")
        if (self.train is None) != (self.test is None):
            raise ConfigError("--train and --test go together: rows that were learned, and rows that were not")
        if self.data_set is None and self.train is None and self.run is None:
            raise ConfigError("give a table of the protocol by its name, or --train and --test")

    def folder(self) -> Path:
        """Find the run's or the bundle's folder."""
        from difflm.synthesis.sharing.places import is_generator
        from difflm_jobs.experiment import find_experiment

        assert self.run is not None
        return Path(self.run) if is_generator(self.run) else find_experiment(self.run, self.runs)

    def real(self, spec: ProtocolSpec | None) -> RealTables:
        """Read the real tables: the given files, the run's own splits, or the protocol's split."""
        from difflm_jobs.studies.protocol import data_set_tables, file_tables, run_tables

        if self.train is not None and self.test is not None:
            return file_tables(self.train, self.test)
        own = run_tables(self.folder()) if self.run is not None else None
        if own is not None:
            return own
        if spec is None:
            raise ConfigError(f"--run {self.run}: has no splits of its own; give --train and --test")
        return data_set_tables(spec)


def _names(given: list[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for part in given or () for name in part.split(",") if name.strip())


def _prepare(given: _Given, folder: Path) -> None:
    from difflm_evaluators.protocol import named_spec
    from difflm_jobs.studies.protocol import prepare_protocol

    if given.data_set is None:
        raise ConfigError(f"--prepare {folder}: give the table by its name, difflm protocol adult --prepare DIR")
    path = prepare_protocol(named_spec(given.data_set), folder, lambda line: print_line(progress_output(), line))
    print_line(output(), f"{path}: train with difflm run {path}")


def _score(given: _Given, target: str | None, categorical: tuple[str, ...], numeric: tuple[str, ...]) -> None:
    from difflm_evaluators.protocol import ProtocolConfig, evaluate_protocol, infer_spec, named_spec
    from difflm_evaluators.protocol.writing import write_protocol
    from difflm_jobs.inputs.places import refuse_others
    from difflm_jobs.studies.protocol import read_rows, sample_rows

    refuse_others(given.out, "protocol")
    console = progress_output()
    spec = named_spec(given.data_set) if given.data_set is not None else None
    real = given.real(spec)
    spec = spec or infer_spec(real.train, target=target, categorical=categorical, numeric=numeric)
    rows = given.synthetic
    if rows is None:
        rows = sample_rows(given.folder(), real.train.num_rows, seed=given.seed, out=given.out, audience=audience())
    result = evaluate_protocol(
        read_rows(rows),
        real.train,
        real.test,
        spec,
        ProtocolConfig(seed=given.seed),
        progress=lambda part: print_line(console, f"{part} ..."),
    )
    write_protocol(result, given.out, about={"real tables": real.about, "synthetic rows": str(rows)})
    _print(result, real.about)
    print_line(output(), f"details: {given.out / 'protocol.md'} and protocol.json")


def _print(result: ProtocolResult, real: str) -> None:
    from rich.table import Table

    from difflm_evaluators.protocol.writing import figure_rows, measured, notes

    heads, rows = figure_rows(result)
    table = Table(title=f"Published protocol: {result.spec.name or 'a table'}", title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head == "score" else "right")
    for row in rows:
        table.add_row(*row)
    console = output()
    console.print(table)
    print_line(console, f"real tables: {real}")
    for note in (*measured(result), *notes(result)):
        print_line(console, note)
