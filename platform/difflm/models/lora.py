"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on a pretrained encoder, whose own weights stay.

Beside a linear layer's frozen W stands (alpha / rank) B A with `rank` rows in A and columns in B, which alone are
trained; B is zero at first, so the encoder begins as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from torch import nn

from difflm.config import Config
from difflm.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "autoencoder.encoder.lora"
UNREAD = "pooler"
"""What some encoders put behind their last layer; nobody reads it where the text's vectors are averaged."""

ALL_LINEAR = "all-linear"
Targets = str | Annotated[tuple[str, ...], Field(strict=False)]  # JSON has no tuples


class LoraConfig(Config):
    """Adapters of a rank on some linear layers."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0, description="what an adapter says is multiplied by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of what an adapter reads, in training")
    targets: Targets = Field(
        default=ALL_LINEAR,
        description="all linear layers, or those of these names, such as [query, value]",
    )


def adapted_layers(model: nn.Module, targets: Targets) -> dict[str, tuple[int, int]]:
    """The layers that get an adapter, by their names in the model: sizes of what each reads and writes.

    A target is the end of a layer's name, in whole parts (`query`, `self.query`). The model may be on the meta device.

    Raises:
        ModelError: no linear layer has the name of a target; names those that there are.
    """
    linear = _linear_layers(model)
    if targets == ALL_LINEAR:
        return linear
    names = (targets,) if isinstance(targets, str) else targets
    chosen = {name: size for name, size in linear.items() if any(_ends(name, target) for target in names)}
    missing = [target for target in names if not any(_ends(name, target) for name in chosen)]
    if missing or not chosen:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear})) or "none"
        culprit = f"no linear layer of {type(model).__name__} is called {missing[0]!r}" if missing else "it is empty"
        raise ModelError(f"{KEY}.targets: {culprit}; its layers are {known}; give some of these, or all-linear")
    return chosen


def adapter_parameters(layers: Mapping[str, tuple[int, int]], rank: int) -> int:
    """Numbers of A and B of all adapters."""
    return sum(rank * (read + written) for read, written in layers.values())


def add_adapters(model: PreTrainedModel, config: LoraConfig) -> None:
    """Put adapters into a model in place and freeze everything else; A is drawn from torch's global generator.

    Raises:
        ModelError: peft is not installed, or no layer has the name of a target.
    """
    try:
        from peft import LoraConfig as Adapters
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ModelError(f"{KEY} needs the package peft ({error}); install it, or give --set {KEY}=null") from error
    layers = adapted_layers(model, config.targets)
    model.requires_grad_(False)
    adapters = Adapters(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # divided by the rank only
        lora_dropout=config.dropout,
        target_modules=sorted(layers),
        fan_in_fan_out=any(_is_transposed(model.get_submodule(name)) for name in layers),
    )
    inject_adapter_in_model(adapters, model)


def _linear_layers(model: nn.Module) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if name.split(".")[0] == UNREAD:
            continue
        if isinstance(module, nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif _is_transposed(module):
            read, written = module.weight.shape
            found[name] = (int(read), int(written))
    return found


def _is_transposed(module: nn.Module) -> bool:
    """GPT-2's linear layers, whose matrices stand the other way round."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")
