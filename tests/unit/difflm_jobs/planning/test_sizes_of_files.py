"""Sizes that are read from what a run has made: files of it may have been changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflm.errors import ArtifactError
from difflm_jobs.planning.sizes import _counted


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"longest": [], "widths": 3}', '{"longest": 9, "widths": 3}']
)
def test_a_changed_description_of_a_decoder_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "decoder.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"decoder\.json: cannot be read"):
        _counted(tmp_path)
