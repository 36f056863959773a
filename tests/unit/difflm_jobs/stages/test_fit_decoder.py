"""The decoder's stage: what it says about texts that are not read whole, and how often it looks at fits to few rows."""

from pathlib import Path

import pyarrow as pa
import pytest

from difflm.models.compact import CompactDecoderConfig
from difflm.records.protection.smoothing import FEW_ROWS
from difflm.records.schema import SchemaConfig
from difflm.testing.bundles import TINY_POOLED_SHAPE, write_prepared
from difflm.training.decoder_task import DecoderFitConfig
from difflm.training.loop import LoopConfig
from difflm.training.steered_task import Steering
from difflm_jobs.stages.decoder import OFTEN, FitDecoder, _cut


def test_validation_texts_longer_than_training_s_are_said(tmp_path: Path) -> None:
    train, validation = (pa.table({"note": [*texts]}) for texts in (["a note", "b"], ["a longer note", "c"]))
    write_prepared(tmp_path / "long", train, validation, inference=SchemaConfig(kinds={"note": "text"}))
    assert _cut(tmp_path / "long") == ["validation, 'note': 1 values were cut to 6 characters"]
    write_prepared(tmp_path / "fits", validation, train, inference=SchemaConfig(kinds={"note": "text"}))
    assert _cut(tmp_path / "fits") == []


@pytest.mark.parametrize(
    ("rows", "asked", "every"), [(50, 100, OFTEN), (50, 4, 4), (FEW_ROWS - 1, 100, OFTEN), (FEW_ROWS, 100, 100)]
)
def test_fits_to_few_rows_are_looked_at_often(rows: int, asked: int, every: int, tmp_path: Path) -> None:
    table = pa.table({"x": range(rows)})
    write_prepared(tmp_path, table, table)
    fit = DecoderFitConfig(loop=LoopConfig(evaluate_every=asked))
    steering = Steering(shape=TINY_POOLED_SHAPE, nats=1.0)
    stage = FitDecoder(decoder=CompactDecoderConfig(), fit=fit, steering=steering, seed=0, cells=False)
    assert stage._loop(tmp_path).evaluate_every == every
    copying = FitDecoder(decoder=CompactDecoderConfig(), fit=fit, steering=None, seed=0, cells=False)
    assert copying._loop(tmp_path).evaluate_every == asked
