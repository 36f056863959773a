"""Models written to a folder: the bytes that `save_pretrained` writes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from difflm.models.compact import save_model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_files_are_those_of_save_pretrained(
    family: str, saved_decoder: Callable[[str], Path], tmp_path: Path
) -> None:
    """GPT-2's embeddings are tied."""
    model = AutoModelForCausalLM.from_pretrained(saved_decoder(family))
    save_model(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("ours", "theirs")
    )
    assert ours == theirs
