"""Our attacks beside those of the package Anonymeter, on the same rows, in an environment of its own.

    python tests/benchmarks/anonymeter.py [--table adult] [--rows 2000] [--copied 0.2]

The synthetic rows are known: so large a share are copies of training rows, the others are real rows of the test split
that are used for nothing else. So the risks should be about that share, and 0 without copies.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from provenance import provenance

from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.privacy.attacks import AttacksConfig, evaluate_attacks
from difflm_jobs.benchmark.environments import cache_folder, python_of
from difflm_jobs.benchmark.methods import Environment, Method
from difflm_jobs.benchmark.tables import read_benchmark_table

RESULT = Path(__file__).parent / "results" / "anonymeter.json"
REQUIREMENTS = ("anonymeter==1.1.0", "numpy==1.26.4", "pandas==2.2.3", "pyarrow==21.0.0", "scikit-learn==1.5.2")
SCRIPT = """
import json, sys
import numpy as np
import pandas as pd
from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator

folder, attacks = sys.argv[1], int(sys.argv[2])
synthetic, train, test = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("synthetic", "train", "test"))
names, found = list(train.columns), {}
common = {"ori": train, "syn": synthetic, "control": test, "n_attacks": attacks}
single = SinglingOutEvaluator(**common, n_cols=3).evaluate(mode="multivariate").risk()
found["singling_out"] = [single.value, *single.ci]
links = [LinkabilityEvaluator(**common, aux_cols=(names[start::2], names[1 - start::2])).evaluate(n_jobs=1).risk()
         for start in (0,)]
found["linkability"] = [links[0].value, *links[0].ci]
secrets = {}
for secret in names:
    risk = InferenceEvaluator(**common, aux_cols=[name for name in names if name != secret], secret=secret,
                              regression=pd.api.types.is_numeric_dtype(train[secret])).evaluate(n_jobs=1).risk()
    secrets[secret] = [risk.value, *risk.ci]
found["attribute_inference"] = [float(np.mean([risk[0] for risk in secrets.values()])), None, None]
json.dump({**found, "secrets": secrets}, open(f"{folder}/found.json", "w"))
"""


def main(
    table: Annotated[str, typer.Option(help="a preset or a table")] = "adult",
    rows: Annotated[int, typer.Option(help="of each table")] = 2000,
    attacks: Annotated[int, typer.Option(help="of each kind")] = 500,
    copied: Annotated[list[float] | None, typer.Option(help="shares of copies, may be repeated")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of environments")] = None,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULT,
) -> None:
    """Make both and write the record."""
    given = read_benchmark_table(table, target=None, train_rows=rows)
    shuffled = given.test.take(np.random.default_rng(0).permutation(given.test.num_rows))
    fresh, test = shuffled.slice(0, rows), shuffled.slice(rows, rows)
    record: dict[str, Any] = {
        "command": " ".join(sys.argv),
        **provenance(),
        "rows": rows,
        "attacks": attacks,
        "found": {},
    }
    for share in copied or (0.0, 0.2):
        count = round(share * rows)
        synthetic = pa.concat_tables([given.train.slice(0, count), fresh.slice(0, rows - count)])
        tables = {"synthetic": synthetic, "train": given.train, "test": test}
        columns = [read_columns(each, given.schema, name) for name, each in tables.items()]
        ours = evaluate_attacks(*columns, AttacksConfig(attacks=attacks))
        record["found"][f"{share:g}"] = {
            "ours": {score.name: [score.value, *(score.interval or ())] for score in ours.scores},
            "package": theirs(tables, attacks, cache_folder(cache)),
        }
        print(share, json.dumps(record["found"][f"{share:g}"]), flush=True)
        out.write_text(json.dumps(record, indent=1) + "\n")


def theirs(tables: dict[str, pa.Table], attacks: int, cache: Path) -> dict[str, Any]:
    """Run the package on the tables, in its own environment."""
    method = Method(
        name="anonymeter",
        title="Anonymeter",
        source="",
        settings={},
        environment=Environment(requirements=REQUIREMENTS),
        python=None,
        script=None,
        module=None,
        version=1,
    )
    python = python_of(method, cache, print)
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            pq.write_table(table, Path(folder) / f"{name}.parquet")
        subprocess.run([str(python), "-W", "ignore", "-c", SCRIPT, folder, str(attacks)], check=True)
        found: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
        return found


if __name__ == "__main__":
    typer.run(main)
