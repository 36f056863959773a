"""A whole diagnosis: sources with and without rows, what is concluded, and what is written."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.diagnosis.diagnosis import (
    DECODER,
    DRAWS,
    HELD_OUT,
    RECONSTRUCTED,
    Diagnosis,
    RealRows,
    Source,
    diagnose_tables,
)
from difflm_evaluators.diagnosis.findings import conclusions, findings, notes
from difflm_evaluators.diagnosis.page import write_diagnosis
from difflm_evaluators.scores.detection import DetectionConfig

CONFIG = DetectionConfig(seeds=(0,), max_rows=600, threads=1)


def bills(rows: int, seed: int, *, related: bool = True) -> pa.Table:
    """A bill, of which a third is paid exactly and a third not at all, and who pays."""
    random = np.random.default_rng(seed)
    bill = random.integers(1, 9000, rows)
    paid = np.where(random.random(rows) < 0.5, bill, random.integers(1, 9000, rows))
    paid = np.where(random.random(rows) < 0.3, 0, paid if related else random.permutation(paid))
    return pa.table({"bill <b>": bill, "paid": paid, "who": random.choice(["a", "b"], rows).tolist()})


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    train = bills(1200, 0)
    real = RealRows(train=train, reference=train.slice(600), held_out=bills(600, 1))
    sources = [
        Source(name=RECONSTRUCTED, table=bills(600, 2)),
        Source(name=DRAWS, table=bills(600, 3, related=False), account={"given_up": 4}),
        Source(name=DECODER, reason="it has none <here>"),
    ]
    return diagnose_tables(sources, real, infer_schema(train), CONFIG)


def test_every_source_is_measured_or_says_why_not(diagnosis: Diagnosis) -> None:
    assert [source.name for source in diagnosis.sources] == [HELD_OUT, RECONSTRUCTED, DRAWS, DECODER]
    held_out, through, draws, decoder = diagnosis.sources
    for source in (held_out, through):
        assert source.detector is not None
        assert source.detector.whole.value == pytest.approx(0.5, abs=0.08)
    assert draws.detector is not None
    assert draws.detector.dependency is not None
    assert draws.detector.whole.value > 0.58
    assert draws.detector.dependency.value == pytest.approx(draws.detector.whole.value - 0.5, abs=0.08)
    assert draws.shape_error is not None
    assert draws.shape_error < 6
    assert (decoder.unavailable, decoder.rows, decoder.detector) == ("it has none <here>", 0, None)
    (equal,) = diagnosis.equal_columns
    assert equal.real == pytest.approx(0.35, abs=0.05)
    assert equal.shares[RECONSTRUCTED] == pytest.approx(0.35, abs=0.06)
    assert equal.shares[DRAWS] < 0.02
    (atom,) = diagnosis.atoms
    assert (atom.column, atom.value) == ("paid", 0.0)
    assert set(atom.shares) == {HELD_OUT, RECONSTRUCTED, DRAWS}


def test_the_findings_and_conclusions_name_the_loss(diagnosis: Diagnosis) -> None:
    found = {finding.name: finding for finding in findings(diagnosis)}
    assert set(found) == {"sources", "columns", "pairs", "interactions", "equal", "atoms"}
    assert found["equal"].rows[0][0] == "bill <b> = paid"
    assert found["interactions"].rows[0][0] == "bill <b> × paid"
    assert found["sources"].rows[-1][1:3] == ("–", "not available")
    for finding in found.values():
        assert all(len(row) == len(finding.heads) for row in finding.rows)
        assert all(len(values) == len(finding.rows) for values in finding.values.values())
    said = conclusions(diagnosis)
    assert said[0] == "codec, encoder, injector and decoder: no loss that the detector finds"
    assert said[1].startswith("the prior: C2ST")
    assert "mostly relations between columns" in said[2]
    noted = "\n".join(notes(diagnosis))
    assert "100 trees of depth 5" in noted
    assert "decoder alone: not available: it has none <here>" in noted
    assert "draws of the prior: 4 indices had no valid draw" in noted


def test_both_files_are_written_and_what_comes_from_data_is_escaped(diagnosis: Diagnosis, tmp_path: Path) -> None:
    write_diagnosis(diagnosis, tmp_path / "out", title="<bills>", about={"bundle": "there"})
    document = json.loads((tmp_path / "out" / "diagnose.json").read_text())
    assert (document["diagnosis_version"], document["title"], document["rows"]["train"]) == (1, "<bills>", 1200)
    draws = document["sources"][2]
    assert draws["detector"]["dependency"]["value"] > 0.1
    assert draws["account"] == {"given_up": 4}
    page = (tmp_path / "out" / "diagnose.html").read_text()
    assert "Diagnosis of &lt;bills&gt;" in page
    assert "bill &lt;b&gt; = paid" in page
    assert "<b>" not in page.replace("<b></b>", "")
    assert page.count("<figure") == 6
    assert "<script" not in page


def test_free_text_alone_leaves_its_lengths(tmp_path: Path) -> None:
    texts = [" ".join(["word"] * (row % 9 + 1)) + f" number {row}" for row in range(200)]
    train = pa.table({"text": texts})
    made = pa.table({"text": [f"{text} more" for text in texts]})
    real = RealRows(train=train, reference=train, held_out=None)
    found = diagnose_tables([Source(name=DRAWS, table=made)], real, infer_schema(train), CONFIG)
    draws = found.source(DRAWS)
    assert draws.detector is None
    assert draws.undetected == "every column is free text, of which the trees see nothing"
    assert draws.shape_error is not None
    assert draws.shape_error > 5
    assert draws.trend_error is None
    assert [finding.name for finding in findings(found)] == ["sources"]
    assert any("free text takes part in the shape error only" in note for note in notes(found))
    write_diagnosis(found, tmp_path, title="texts", about={})
    assert conclusions(found) == []


def test_no_rows_and_half_a_source_are_errors() -> None:
    train = bills(40, 0)
    real = RealRows(train=train.slice(0, 0), reference=train, held_out=None)
    with pytest.raises(DataError, match="real training table has no rows"):
        diagnose_tables([], real, infer_schema(train), CONFIG)
    with pytest.raises(ValueError, match="a table or a reason"):
        Source(name=DRAWS)
