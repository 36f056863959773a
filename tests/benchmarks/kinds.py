"""The tables of the protocol and demo, as an older commit and as this one understand their columns, scored alike.

    python tests/benchmarks/kinds.py                                  # beside the commit before kinds of messy columns
    python tests/benchmarks/kinds.py --table demo --rows 600 --before CHECKOUT     # another state, fewer rows

Both sides get the same rows as CSV, train for about as long (this one its default steps, the older one fewer than its
own, for each takes longer), and draw as many rows. Both files of rows are scored by this checkout, and beside each
figure stands that of real test rows. `valid_rows` are those that fit the schema which this checkout finds: every cell
is spelled as training spells it, in its range. `training_s` is what the trainings took, in seconds of one process
beside whatever else ran. One run a side, on a part of the rows: small differences are chance.
"""

import csv
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import provenance

from difflm_evaluators import evaluate
from difflm_jobs.inputs.arff import arff_to_csv
from difflm_jobs.inputs.sources import locate
from difflm_jobs.loading import load_experiment

REPOSITORY = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "kinds.json"
TABLES = ("adult", "default", "shoppers", "magic", "beijing", "demo")
BEFORE = "85fa81e"
"""The last commit without numbers in dress, codes of a form and spellings of dates."""
OLDER_STEPS = ("decoder_fit.steps=120", "autoencoder.steps=180", "prior.steps=900")
"""Of 600, 1,200 and 12,000 by default: as many as fit into the time of today's."""
NEWER = ("protect=off",)
"""What rare values cost is no matter of kinds, and the older commit does not hide them."""
TRAININGS = ("fit-decoder", "train-autoencoder", "train-diffusion")
SCORES = ("shape_error", "trend_error", "c2st_auc", "mle_auc", "mle_rmse", "conforming_share")
SEED = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows of a table as files, and what is asked of them."""

    train: Path
    test: Path
    target: str
    task: str
    rows: int
    transform: str | None


def main(
    table: Annotated[list[str] | None, typer.Option(help="presets; by default the five and demo")] = None,
    before: Annotated[str, typer.Option(help="an older commit, or a checkout of one")] = BEFORE,
    rows: Annotated[int, typer.Option(help="most training rows, and test rows, of a table")] = 800,
    draws: Annotated[int, typer.Option(help="most rows that are drawn and scored")] = 800,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULT,
) -> None:
    """Run both sides on every table and write the record after each."""
    record: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), **provenance()}
    record["threads"] = os.environ.get("OMP_NUM_THREADS", "all")
    with tempfile.TemporaryDirectory() as folder, checkout_of(before, Path(folder)) as older:
        record["before"] = _git(older, "rev-parse", "--short", "HEAD")
        record["tables"] = {}
        for name in table or TABLES:
            sample = sampled(name, Path(folder) / name, rows)
            count = min(draws, sample.rows)
            sides = {"before": (older, OLDER_STEPS if before == BEFORE else NEWER), "now": (REPOSITORY, NEWER)}
            found: dict[str, Any] = {"training_rows": sample.rows, "drawn": count}
            for side, (checkout, changes) in sides.items():
                made, spent = drawn(sample, Path(folder) / name / side, checkout, (*changes, f"rows={count}"))
                found[side] = spent | scores(made, sample)
                print(name, side, json.dumps(found[side]), flush=True)
            record["tables"][name] = found
            out.write_text(json.dumps(record, indent=1) + "\n")


@contextmanager
def checkout_of(before: str, folder: Path) -> Iterator[Path]:
    """Give a working tree of an older commit, gone afterwards; a folder that is one stays."""
    if Path(before).is_dir():
        yield Path(before).resolve()
        return
    checkout = folder / "older"
    _git(REPOSITORY, "worktree", "add", "--detach", "--quiet", str(checkout), before)
    try:
        yield checkout
    finally:
        _git(REPOSITORY, "worktree", "remove", "--force", str(checkout))


def _git(where: Path, *arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True)
    return found.stdout.strip()


def sampled(name: str, folder: Path, rows: int) -> Sample:
    """Write training and test rows of a preset's table, cells as its file spells them."""
    experiment = load_experiment(name)
    data, target = experiment.data, str(experiment.data.target)
    head, cells = read_rows(locate(data.train, "data.train"), folder)
    kept = [at for at, column in enumerate(head) if column not in (data.read.drop or ())]
    if data.read.columns:
        kept = [head.index(column) for column in data.read.columns]
    suffix, place = (data.read.strip_suffix or {}).get(target, ""), head.index(target)
    cells = [row for row in cells if row[place] not in ("", "NA")]
    draw = random.Random(SEED)
    if data.test is None:
        draw.shuffle(cells)
        tested = round(data.test_share * len(cells))
        parts = {"test": cells[:tested], "train": cells[tested:]}
    else:
        parts = {"train": cells, "test": read_rows(locate(data.test, "data.test"), folder)[1]}
    for part, found in parts.items():
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([head[at] for at in kept])
            for row in draw.sample(found, min(rows, len(found))):
                row[place] = row[place].removesuffix(suffix)
                writer.writerow([row[at] for at in kept])
    utility = experiment.evaluation.utility
    return Sample(
        train=folder / "train.csv",
        test=folder / "test.csv",
        target=target,
        task=str(experiment.schema_.task),
        rows=min(rows, len(parts["train"])),
        transform=None if utility is None else utility.regression_transform,
    )


def read_rows(path: Path, folder: Path) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of a packed CSV or ARFF."""
    folder.mkdir(parents=True, exist_ok=True)
    if ".arff" in path.name:
        plain = folder / "plain.csv"
        arff_to_csv(path, plain)
        head, *cells = csv.reader(plain.open(encoding="utf-8", newline=""))
        return head, cells
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        head, *cells = csv.reader(file)
    return head, cells


def drawn(sample: Sample, folder: Path, checkout: Path, changes: tuple[str, ...]) -> tuple[Path, dict[str, float]]:
    """Run a checkout up to its rows; return these and the seconds it took."""
    sources = [str(checkout / root) for root in ("platform", "evaluators", "jobs")]
    call = [sys.executable, "-m", "difflm_jobs", "run", str(sample.train), "--name", "rows", "--runs", str(folder)]
    call += ["--target", sample.target, "--until", "synthesize"]
    settings = (f"data.test={sample.test}", f"schema.task={sample.task}", *changes)
    started = time.perf_counter()
    subprocess.run(
        [*call, *(part for change in settings for part in ("--set", change))],
        check=True,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
        stdout=subprocess.DEVNULL,
    )
    spent = time.perf_counter() - started
    stages = json.loads((folder / "rows" / "runs.jsonl").read_text().splitlines()[-1])["stages"]
    print(checkout.name, {stage["stage"]: round(stage["seconds"], 1) for stage in stages}, file=sys.stderr, flush=True)
    trained = sum(stage["compute_seconds"] for stage in stages if stage["stage"] in TRAININGS)
    (made,) = (folder / "rows" / "artifacts").glob("*/synthetic.csv")
    return made, {"whole_s": round(spent, 1), "training_s": round(trained, 1)}


def scores(made: Path, sample: Sample) -> dict[str, Any]:
    """Score rows by this checkout; beside each figure what real test rows get."""
    utility: dict[str, Any] = {"seeds": (0,), "threads": 1}
    if sample.transform is not None:
        utility["regression_transform"] = sample.transform
    nothing = dict.fromkeys(("fidelity", "privacy", "membership", "attacks", "projection"))
    report = evaluate(
        made, train=sample.train, test=sample.test, target=sample.target, config={**nothing, "utility": utility}
    )
    found: dict[str, Any] = {}
    for evaluation in report.evaluations:
        for score in evaluation.scores:
            if score.name in SCORES and score.value is not None:
                found[score.name] = round(score.value, 4)
                found[f"{score.name}_of_real"] = None if score.baseline is None else round(score.baseline, 4)
    (validity,) = (evaluation for evaluation in report.evaluations if evaluation.name == "validity")
    rows = report.rows["synthetic"]
    found["rows"], found["valid_rows"] = rows, round(rows * found["conforming_share"] / 100)
    return found | {"faults": validity.details["faults"]}


if __name__ == "__main__":
    typer.run(main)
