"""What conditions cost and how true their records are: conditional latents beside what is simpler.

    python tests/benchmarks/conditions.py BUNDLE TABLE --rows 6000

BUNDLE has a conditional prior (conditions.enabled=true), TABLE is the prepared table's artifact of the same run. For
each condition, the shape error of the columns that it does not restrict, against the training rows that satisfy it:

- conditional: conditional latents, restricted grammar (`--where`);
- grammar only: the prior's own latents, restricted grammar;
- rejection: plain draws of which those are kept that satisfy it, out of as many plain draws as there were rows times 4;
- real, resampled: as many rows drawn from the training slice itself, the sampling noise of so many rows;
- test slice: the test split's own rows, of which there are as many as there are;
- unconditional, as many real rows: plain draws against so many random training rows as the slice has, over the same
  columns, averaged over 5 choices. Few real rows differ from what they were drawn from, and no sampler can follow
  them there: this is what the unconditional error amounts to when it is measured against as few.

Unconditional is the same of plain draws over all columns, with as many rows, beside the same two floors.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
from provenance import provenance

from difflm.records.schema import RecordSchema
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.plans.conditions import Condition, parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlan, DrawPlans
from difflm.synthesis.plans.latent_sources import PriorLatents
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.training.record_data import read_split
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.scores.marginals import shape_error

RESULTS = Path(__file__).parent / "results" / "conditions.json"
CONDITIONS = (
    'income == ">50K"',
    'age >= 40 and age < 60 and sex == "Female"',
    "age >= 70",
    '`native-country` == "Mexico"',
    'workclass == "Self-emp-inc" and income == ">50K"',
    'education == "Doctorate"',
)
PLAIN_FACTOR = 4
CHOICES = 5
SEED = 7


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle with a conditional prior")],
    table: Annotated[Path, typer.Argument(help="the prepared table that it was trained on")],
    rows: Annotated[int, typer.Option(help="rows per condition")] = 6000,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS,
) -> None:
    """Measure every condition and write the record."""
    config = SamplingConfig()
    loaded = load_bundle(bundle, solver=config.solver_settings, precision=config.dtype())
    schema, plans = loaded.schema, DrawPlans(loaded, text_tokens=config.text_tokens)
    train, test = (read_split(table, split, schema) for split in ("train", "test"))
    plain, seconds = drawn(loaded, config, plans.plain(), PLAIN_FACTOR * rows)
    unconditional = {
        "synthetic": error(train, plain.slice(0, rows), schema),
        "real, resampled": error(train, resampled(train, rows), schema),
        "test slice": error(train, test, schema),
        "rows_per_second": round(len(plain) / seconds, 1),
    }
    print("unconditional", unconditional, flush=True)
    record: dict[str, Any] = {
        "command": f"python tests/benchmarks/conditions.py BUNDLE TABLE --rows {rows}",
        **provenance(),
        "threads": torch.get_num_threads(),
        "rows": rows,
        "unconditional": unconditional,
        "conditions": {},
    }
    for text in CONDITIONS:
        measured = measure(parse_condition(text, schema), loaded, config, plans, (train, test, plain), rows)
        measured["over_unconditional"] = round(measured["conditional"] / unconditional["synthetic"], 2)
        as_few = measured["conditional"] / measured["unconditional, as many real rows"]
        measured["over_unconditional_as_many_real_rows"] = round(as_few, 2)
        record["conditions"][text] = measured
        print(text, measured, flush=True)
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def measure(
    condition: Condition,
    bundle: Bundle,
    config: SamplingConfig,
    plans: DrawPlans,
    tables: tuple[pa.Table, pa.Table, pa.Table],
    rows: int,
) -> dict[str, Any]:
    """Every side of one condition."""
    schema, plan, skip = bundle.schema, plans.where(condition), tuple(condition.allowed)
    train, test, kept = (table.filter(pa.array(condition.rows(table, schema))) for table in tables)
    synthetic, seconds = drawn(bundle, config, plan, rows)
    assert condition.rows(synthetic, schema).all()
    grammar_only = DrawPlan(latents=PriorLatents(prior=bundle.prior), records=plan.records)
    plain = tables[2].slice(0, rows)
    naive, _ = drawn(bundle, config, grammar_only, rows)
    return {
        "training_rows": len(train),
        "training_share": round(len(train) / len(tables[0]), 4),
        "conditional": error(train, synthetic, schema, skip),
        "grammar only": error(train, naive, schema, skip),
        "rejection": error(train, kept, schema, skip) if len(kept) else None,
        "rejection_rows": len(kept),
        "real, resampled": error(train, resampled(train, rows), schema, skip),
        "test slice": error(train, test, schema, skip),
        "test_rows": len(test),
        "unconditional, as many real rows": against_as_few(tables[0], plain, len(train), schema, skip),
        "rows": len(synthetic),
        "rows_per_second": round(rows / seconds, 1),
    }


def against_as_few(train: pa.Table, plain: pa.Table, rows: int, schema: RecordSchema, skip: tuple[str, ...]) -> float:
    """Shape error of plain draws against so many random training rows, averaged over CHOICES of them."""
    chosen = [np.random.default_rng(seed).choice(len(train), rows, replace=False) for seed in range(CHOICES)]
    return round(float(np.mean([error(train.take(rows_R), plain, schema, skip) for rows_R in chosen])), 3)


def drawn(bundle: Bundle, config: SamplingConfig, plan: DrawPlan, rows: int) -> tuple[pa.Table, float]:
    """A table of so many draws, and the seconds that they took."""
    started = time.perf_counter()
    records, _ = Synthesizer(bundle, config, plan=plan).draw_valid(range(rows), seed=SEED)
    return bundle.codec.table_of(record for _, record in records), time.perf_counter() - started


def resampled(table: pa.Table, rows: int) -> pa.Table:
    """Rows drawn from a table with replacement."""
    return table.take(np.random.default_rng(SEED).integers(0, len(table), rows))


def error(real: pa.Table, other: pa.Table, schema: RecordSchema, skip: tuple[str, ...] = ()) -> float:
    """Shape error in percent over the columns that are not skipped."""
    _, columns = shape_error(read_columns(real, schema, "real"), read_columns(other, schema, "other"))
    return round(100 * float(np.mean([column.error for column in columns if column.name not in skip])), 3)


if __name__ == "__main__":
    typer.run(main)
