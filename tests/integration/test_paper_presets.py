"""The presets of the paper's experiments, from its data sets to scores: with tiny models of the paper's families, a few
hundred of the real records and a few steps, in this process. How good the rows are is not asked, only that every stage
takes what the one before it left and that every row is valid.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import read_schema
from difflm.testing.models import save_decoder, save_encoder
from difflm_jobs.cli.main import main

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("in_this_process")]

FILES = {
    "adult": ("adult/train.csv.gz", "adult/test.csv.gz"),
    "beijing": ("beijing/PRSA_data_2010.1.1-2014.12.31.csv.gz",),
    "default": ("default/UCI_Credit_Card.csv.gz",),
    "magic": ("magic/magic04.csv.gz",),
    "shoppers": ("shoppers/online_shoppers_intention.csv.gz",),
    "tools": ("toolbench/toolenv_tools.jsonl.gz",),
    "code": ("python_code/code_docstring_functions.jsonl.gz",),
}
SECTIONS = {"tools": "tools", "code": "source_code"}
RECORDS, ROWS = 300, 24
FEWER = [
    "autoencoder.encoder.latent_size=16",
    "autoencoder.injector={kind: soft_prompt, soft_tokens: 4, learned_prefix: 2, hidden_size: 32}",
    "autoencoder.steps=3",
    "autoencoder.loop.evaluate_every=3",
    "prior={kind: diffusion, width: 16, blocks: 1, steps: 3, loop: {evaluate_every: 3}}",
    "sampling.steps=3",
    f"rows={ROWS}",
    "runtime.workers={num_workers: 1, gpus_per_worker: 0}",
    "runtime.synthesis.pool.gpus_per_actor=0",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides: a tiny Mistral in the place of the 7B one, a tiny BERT in that of bert-base."""
    folder = tmp_path_factory.mktemp("models")
    decoder, encoder = save_decoder(folder / "mistral", "mistral"), save_encoder(folder / "bert", "bert")
    return [f"decoder.model={decoder}", f"autoencoder.encoder.model={encoder}"]


def write_fewer(source: Path, target: Path) -> None:
    """Lines from all over a file, with its first one, which names the columns of a table."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        first, *lines = file.readlines()
    target.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(target, "wt", encoding="utf-8") as file:
        file.writelines([first, *lines[:: max(1, len(lines) // RECORDS)]])


@pytest.mark.parametrize("name", FILES)
def test_a_preset_of_the_paper_goes_from_its_data_to_scores(
    name: str,
    models: list[str],
    real_data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for file in FILES[name]:
        write_fewer(real_data(file), tmp_path / "data" / file)
    monkeypatch.setenv("DIFFLM_DATA", str(tmp_path / "data"))
    changes = [argument for change in [*FEWER, *models] for argument in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["difflm", "run", f"paper/{name}", "--runs", str(tmp_path / "runs"), *changes])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err

    def artifact(kind: str) -> Path:
        (found,) = (tmp_path / "runs" / f"paper-{name}" / "artifacts").glob(f"{kind}-*")
        return found

    made = pq.read_table(artifact("synthetic") / "shards")
    assert JsonRecordCodec(read_schema(artifact("bundle"))).normalize_table(made).table.num_rows == made.num_rows
    # Of what untrained models write, most is no Python, and some rows break an order between columns.
    assert made.num_rows == ROWS or name in {"code", "magic"}
    assert 0 < made.num_rows <= ROWS
    report = json.loads((artifact("report") / "report.json").read_text(encoding="utf-8"))
    evaluations = {evaluation["name"]: evaluation["scores"] for evaluation in report["evaluations"]}
    assert evaluations[SECTIONS.get(name, "fidelity")]
