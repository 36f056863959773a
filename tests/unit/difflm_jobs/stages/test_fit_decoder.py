"""What the decoder's stage says about texts that are not read whole."""

from pathlib import Path

import pyarrow as pa

from difflm.records.schema import SchemaConfig
from difflm.testing.bundles import write_prepared
from difflm_jobs.stages.decoder import _cut


def test_validation_texts_longer_than_training_s_are_said(tmp_path: Path) -> None:
    train, validation = (pa.table({"note": [*texts]}) for texts in (["a note", "b"], ["a longer note", "c"]))
    write_prepared(tmp_path / "long", train, validation, inference=SchemaConfig(kinds={"note": "text"}))
    assert _cut(tmp_path / "long") == ["validation, 'note': 1 values were cut to 6 characters"]
    write_prepared(tmp_path / "fits", validation, train, inference=SchemaConfig(kinds={"note": "text"}))
    assert _cut(tmp_path / "fits") == []
