"""A model of one of our own sizes written to a folder that `from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write configuration and weights; tied matrices once, under their first name.

    The same files as of `save_pretrained`, which imports DeepSpeed to look for its wrappers wherever accelerate is
    installed: a second, 150 MiB and a line on standard output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    once: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        once.setdefault(value.data_ptr(), (name, value.contiguous()))
    save_file(dict(once.values()), folder / "model.safetensors", metadata={"format": "pt"})
