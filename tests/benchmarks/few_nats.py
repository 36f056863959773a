"""What a latent of few nats still says: the target read from z, and variations by strength.

    python tests/benchmarks/few_nats.py BUNDLE TABLE

BUNDLE is a bundle of a table with a class as its target, TABLE the prepared table's artifact of the same run.

- target_auc: a logistic regression from the posteriors' means of training rows to the target, scored on the validation
  split (one class against the others: the rarest); 0.5 says nothing.
- variations: for given training rows, the share of cells, and of targets, that `--like` leaves as they are, by
  strength; 1 is any record, so its figures are what chance gives. Numbers count where they are equal to the last digit.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
from provenance import provenance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from difflm.synthesis.bundle import Bundle, encode_table, load_bundle
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.training.record_data import read_split

RESULTS = Path(__file__).parent / "results" / "few_nats.json"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEED = 7


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle")],
    table: Annotated[Path, typer.Argument(help="the prepared table that it was trained on")],
    target: Annotated[str, typer.Option(help="a column of classes")] = "income",
    rows: Annotated[int, typer.Option(help="given rows, and training rows of the probe times 20")] = 500,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS,
) -> None:
    """Measure, print and write the record."""
    config = SamplingConfig()
    loaded = load_bundle(bundle, solver=config.solver_settings, precision=torch.float32)
    train, validation = (read_split(table, split, loaded.schema) for split in ("train", "validation"))
    train = train.take(np.random.default_rng(SEED).permutation(len(train))[: 20 * rows])
    record: dict[str, Any] = {"command": f"few_nats.py {bundle.name} --target {target}", **provenance()}
    record |= {"target": target, "target_auc": target_auc(loaded, train, validation, target), "variations": []}
    plans, given = DrawPlans(loaded, text_tokens=config.text_tokens), train.slice(0, rows)
    for strength in STRENGTHS:
        synthesizer = Synthesizer(loaded, config, plan=plans.varied(given, strength=strength))
        drawn, _ = synthesizer.draw_valid(range(rows), seed=SEED)
        made = loaded.codec.table_of(found for _, found in drawn)
        asked = given.take([index for index, _ in drawn])
        same = {name: share_equal(made.column(name), asked.column(name)) for name in given.column_names}
        cells = float(np.mean(list(same.values())))
        record["variations"].append({"strength": strength, "cells": cells, "target": same[target]})
        print(f"strength {strength}: {100 * cells:.1f} % of cells stay, {100 * same[target]:.1f} % of {target}")
    print(f"{target} from z: ROC-AUC {record['target_auc']:.3f}")
    out.write_text(json.dumps(record, indent=2) + "\n")


def target_auc(bundle: Bundle, train: pa.Table, validation: pa.Table, target: str) -> float:
    """ROC-AUC of the rarest class against the others, read linearly from the posteriors' means."""
    rarest = Counter(train.column(target).to_pylist()).most_common()[-1][0]
    sides = []
    for table in (train, validation):
        parts = encode_table(bundle.autoencoder, bundle.parts, bundle.shape, table, bundle.schema)
        means = torch.cat([posterior.mean_BZ for posterior in parts]).numpy()
        sides.append((means, np.array([value == rarest for value in table.column(target).to_pylist()])))
    scaler = StandardScaler().fit(sides[0][0])
    probe = LogisticRegression(max_iter=1000).fit(scaler.transform(sides[0][0]), sides[0][1])
    return float(roc_auc_score(sides[1][1], probe.decision_function(scaler.transform(sides[1][0]))))


def share_equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> float:
    """Share of cells that are equal, missing ones too."""
    return float(np.mean([a == b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)]))


if __name__ == "__main__":
    typer.run(main)
