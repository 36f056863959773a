"""What the critic of a bundle does: the same bundle drawn from with it and without it.

    python tests/benchmarks/critic.py runs/protocol/seed-0/magic-protocol [OTHER ...] [--rows N]

The runs are those of `protocol_runs.py`, or any of tables whose bundle has a critic. For each: how well XGBoost's
default classifier tells as many training rows from the draws (ROC-AUC over 3 folds), by the columns and with the 64
differences and ratios of columns that tell the most; shape (mean over columns of the Kolmogorov-Smirnov statistic or
the total variation, in %); rows a second of one thread, by turns; and how well the critic's trees tell training rows
from test rows. The record keeps other tables. About five minutes of one core for each table.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from provenance import provenance
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from xgboost import XGBClassifier

from difflm.records.schema import read_schema
from difflm.synthesis.critic.features import Floats, Pairs, RowNumbers, find_pairs
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.training.record_data import read_split

RECORD = Path(__file__).parent / "results" / "critic.json"
TURN = 1024


def main(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs")],
    rows: Annotated[int, typer.Option(help="draws of each kind")] = 12_288,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RECORD,
) -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    for run in runs:
        found = measured(run, rows)
        record = json.loads(out.read_text()) if out.is_file() else {}
        record[run.name] = {"command": f"tests/benchmarks/critic.py {run.name} --rows {rows}", **provenance(), **found}
        out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        print(run.name, json.dumps(found, indent=1), flush=True)


def measured(run: Path, rows: int) -> dict[str, Any]:
    """Draw from the run's bundle by turns, and compare."""
    bundle, prepared = (_newest(run, kind) for kind in ("bundle", "table"))
    schema = read_schema(bundle)
    numbers = RowNumbers(schema)
    train, test = (numbers.of_table(read_split(prepared, split, schema)) for split in ("train", "test"))
    sides = {name: OpenBundle(bundle, SamplingConfig(critic=name == "critic")) for name in ("plain", "critic")}
    drawn: dict[str, list[Floats]] = {name: [] for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for first in range(0, rows, TURN):
        for name, opened in sides.items():
            started = time.process_time()
            made, _ = opened.synthesizer().draw_valid(range(first, first + TURN), seed=11)
            seconds[name].append((time.process_time() - started) / len(made))
            drawn[name].append(numbers.of_table(opened.bundle.codec.table_of([record for _, record in made])))
    tables = {name: np.concatenate(parts) for name, parts in drawn.items()}
    real = train[np.random.default_rng(0).permutation(len(train))[: len(tables["plain"])]]
    pairs = find_pairs(real, tables["plain"], numbers.ordered, 64)
    found: dict[str, Any] = {
        name: {**_told(real, table, pairs), "rows_per_second": round(1 / float(np.median(seconds[name])))}
        for name, table in tables.items()
    }
    found["test rows"] = _told(real, test, pairs)
    critic = sides["critic"].bundle.critic
    if critic is not None:
        sums = [[critic.trees(critic.pairs(row)) for row in each[:5000]] for each in (train, test)]
        found["trees tell training from test rows"] = _auc(*map(np.array, sums))
    return found


def _newest(run: Path, kind: str) -> Path:
    return max((run / "artifacts").glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime)


def _told(real: Floats, made: Floats, pairs: Pairs) -> dict[str, float]:
    real = real[: len(made)]
    return {
        "c2st": _c2st(real, made[: len(real)]),
        "c2st_with_pairs": _c2st(pairs(real), pairs(made[: len(real)])),
        "shape": round(100 * float(np.mean([_apart(*both) for both in zip(real.T, made.T, strict=True)])), 2),
    }


def _c2st(real: Floats, made: Floats) -> float:
    features, label = np.concatenate([real, made]), np.repeat([1, 0], [len(real), len(made)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    chance = cross_val_predict(XGBClassifier(n_jobs=1), features, label, cv=folds, method="predict_proba")[:, 1]
    return round(float(roc_auc_score(label, chance)), 4)


def _auc(first: Floats, second: Floats) -> float:
    label = np.repeat([1, 0], [len(first), len(second)])
    return round(float(roc_auc_score(label, np.concatenate([first, second]))), 4)


def _apart(real: Floats, made: Floats) -> float:
    values, both = np.unique(np.concatenate([real, made])), (real, made)
    if len(values) < 40:
        shares = [np.array([np.mean(each == value) for value in values]) for each in both]
        return float(np.abs(shares[0] - shares[1]).sum()) / 2
    there = [each[~np.isnan(each)] for each in both]
    return float(ks_2samp(*there).statistic)


if __name__ == "__main__":
    typer.run(main)
