"""LiRA on a small table: the decoder's losses of records, beside those of a few shadow fits.

    python tests/benchmarks/lira.py [--table magic] [--rows 400] [--shadows 8] [--set A.B=C] [--protect on]

Each of the shadows, and the attacked generator, is fitted to a random half of the records. Records are members where
they are among the training rows of a fit; validation and test rows of it are not. The attacker has the bundle itself
and knows everything but who was in: no attack by rows that were drawn can do better.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from provenance import provenance

import difflm
from difflm.config import apply_overrides
from difflm.models.decoder_store import read_parts, read_tensors
from difflm.models.steered import SteeredDecoderFit
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import read_schema
from difflm.training.any_order import counted_tokens, opening_tokens
from difflm.training.private.task import PrivateDecoder
from difflm.training.record_data import TokenBatches, tokenize
from difflm.training.steered_task import text_fields, unfitted_steered
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.row_keys import KnownRows, printed_columns
from difflm_evaluators.privacy.likelihood_ratio import evaluate_ratio
from difflm_jobs.benchmark.tables import read_benchmark_table
from difflm_jobs.loading import load_experiment
from difflm_jobs.stages.stages import build_stages

RESULT = Path(__file__).parent / "results" / "lira.json"
SHORT: dict[str, Any] = {"autoencoder": {"steps": 20}, "prior": {"steps": 20}, "calibration": {"rows": 0}}
"""What comes after the decoder is not attacked: its losses are those behind the empty prompt."""
NONE = dict.fromkeys(("detection", "fidelity", "utility", "privacy", "membership", "attacks", "projection"))


def main(
    table: Annotated[str, typer.Option(help="a preset or a table")] = "magic",
    rows: Annotated[int, typer.Option(help="records, of which each fit has half")] = 400,
    shadows: Annotated[int, typer.Option(help="shadow fits")] = 8,
    protect: Annotated[str, typer.Option(help="on or off")] = "on",
    set_: Annotated[list[str] | None, typer.Option("--set", help="settings of the fits")] = None,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULT,
) -> None:
    """Fit, attack and write the record."""
    given = read_benchmark_table(table, target=None, train_rows=rows)
    settings = apply_overrides(
        {"rows": 50, "evaluation": NONE, "protect": protect, "schema": {"respell": True}, **SHORT}, set_ or []
    )
    random, losses, members = np.random.default_rng(0), [], []
    for place in range(shadows + 1):
        half = given.train.take(np.sort(random.permutation(rows)[: rows // 2]))
        with tempfile.TemporaryDirectory() as folder:
            difflm.fit(half, given.spec.target, config={**settings, "seed": place}, out=folder, progress=False)
            found = losses_of(given.train, Path(folder), settings)
            learned = pq.read_table(_stages(Path(folder))["prepare"] / "train.parquet")
        losses.append(found)
        members.append(_held(given.train, learned.select(given.train.column_names), given.schema))
        print(place, float(found[members[-1]].mean()), float(found[~members[-1]].mean()), flush=True)
    both = np.array(losses[1:]), np.array(members[1:])
    usable = both[1].any(axis=0) & ~both[1].all(axis=0)
    attacked = evaluate_ratio(losses[0][usable], members[0][usable], both[0][:, usable], both[1][:, usable])
    record = {"command": " ".join(sys.argv), **provenance(), "rows": rows, "shadows": shadows, "protect": protect}
    for name in ("ratio", "loss", "rate"):
        figure = getattr(attacked, name)
        record[name] = {"value": figure.value, "interval": figure.interval}
    print(json.dumps(record))
    out.write_text(json.dumps(record, indent=1) + "\n")


def _stages(folder: Path) -> dict[str, Path]:
    lines = next(folder.glob("**/runs.jsonl")).read_text().splitlines()
    root = next(folder.glob("**/artifacts"))
    return {stage["stage"]: root / stage["artifact"] for stage in json.loads(lines[-1])["stages"]}


def _held(table: pa.Table, learned: pa.Table, schema: Any) -> Any:
    known, asked = (printed_columns(read_columns(each, schema, "a"), schema) for each in (learned, table))
    return KnownRows(known, schema).holds(asked)


def losses_of(table: pa.Table, folder: Path, settings: dict[str, Any]) -> Any:
    """Return the nats (N,) of records behind the empty prompt."""
    stages = _stages(folder)
    schema = read_schema(stages["prepare"])
    parts = read_parts(stages["fit-decoder"], schema)
    experiment = load_experiment("adult", overrides=[f"autoencoder={json.dumps(settings.get('autoencoder', {}))}"])
    steering = next(stage.steering for stage in build_stages(experiment) if stage.name == "fit-decoder")  # type: ignore[attr-defined]
    fit: SteeredDecoderFit = unfitted_steered(parts, steering, text_fields(schema))
    fit.load_state_dict(read_tensors(stages["fit-decoder"] / "best.safetensors"), strict=False)
    fit.model.tie_weights()
    module = PrivateDecoder(fit).eval()
    rows = JsonRecordCodec(schema).normalize_table(table).table
    tokens = TokenBatches.of(tokenize(rows, schema, parts.tokenizer, parts.slots), "cpu")
    opening_F = opening_tokens(parts.tokenizer) if parts.any_order else None
    found = []
    with torch.no_grad():
        for rows_B in torch.arange(len(tokens)).split(64):  # type: ignore[no-untyped-call]
            batch = tokens.at(rows_B)
            counted = counted_tokens(batch["ids_BT"], batch["lengths_B"], opening_F)
            found.append(module.nats_B(batch["ids_BT"], batch["lengths_B"], counted))
    return torch.cat(found).double().numpy()


if __name__ == "__main__":
    typer.run(main)
