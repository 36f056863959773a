"""A local model folder is checked and fingerprinted before anything runs."""

from pathlib import Path

import pytest

from difflm.errors import ModelError
from difflm_jobs.inputs.models import fingerprint


def test_a_hub_id_names_itself() -> None:
    assert fingerprint("organisation/model", "decoder.model") == {}


def test_a_path_that_does_not_exist_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"decoder\.model: /.*/none: no such folder; give a hub id"):
        fingerprint(str(tmp_path / "none"), "decoder.model")
    with pytest.raises(ModelError, match="no such folder"):
        fingerprint("./none", "decoder.model")
    with pytest.raises(ModelError, match=r"no config\.json"):
        fingerprint(str(tmp_path), "decoder.model")


def test_a_changed_folder_has_another_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    first = fingerprint(str(tmp_path), "decoder.model")
    assert first == fingerprint(str(tmp_path), "decoder.model")
    (tmp_path / "config.json").write_text('{"a": 1}', encoding="utf-8")
    assert fingerprint(str(tmp_path), "decoder.model") != first
