"""Sizes of a bundle's autoencoder: what bundle.json describes is held to the tensors that are there before it is built.

A bundle may come from somebody else, and a number of a few digits asks for all the memory there is. Without weights, on
torch's meta device, a model of any width costs nothing; only layers are made one by one, and counted first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from difflm.errors import BundleError
from difflm.models.autoencoder import AutoencoderShape
from difflm.models.building import build_encoder, build_injector
from difflm.models.decoder import FrozenDecoder
from difflm.models.decoder_store import DecoderParts
from difflm.models.injection.injector import MemoryShape, PromptReader

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """A decoder's sizes, of which an injector is built that has no numbers."""

    width: int
    memory_shape: MemoryShape

    def memory_scales(self) -> Tensor:
        return torch.ones(self.memory_shape.layers, 2, 1)

    def embeddings(self, tokens_U: Tensor) -> Tensor:
        return torch.ones(len(tokens_U), self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCheck:
    """Compares an autoencoder that is about to be built with the tensors of a file."""

    path: Path
    shape: AutoencoderShape

    def __call__(self, decoder: FrozenDecoder, parts: DecoderParts) -> None:
        """Refuse an autoencoder around this decoder whose tensors are not those of the file.

        Raises:
            BundleError: names the file.
        """
        found, encoder = _shapes(self.path), self.shape.encoder
        if len(self.shape.tokens or ()) > len(parts.tokenizer.tokenizer):
            raise _misfit(self.path, ["injector.bias_U"])
        if encoder.kind == "pretrained":  # what it embeds is said by files of its own, but for these two numbers
            if found.get("head.linear.bias") != (2 * encoder.latent_size,):
                raise _misfit(self.path, ["head.linear.bias"])
            if encoder.lora is not None and not any(encoder.lora.rank in shape for shape in found.values()):
                raise _misfit(self.path, ["encoder.model"])
        elif encoder.kind != "bag" and encoder.layers > len(found):
            raise _misfit(self.path, [f"encoder.blocks.layers.{encoder.layers - 1}"])
        wanted = self._wanted(decoder, parts)
        built = {name.split(".")[0] for name in wanted}
        present = {name: shape for name, shape in found.items() if name.split(".")[0] in built}
        if odd := {name for name, _ in wanted.items() ^ present.items()}:
            raise _misfit(self.path, sorted(odd))

    def _wanted(self, decoder: FrozenDecoder, parts: DecoderParts) -> Shapes:
        """Return the shapes of what is trained, but for a pretrained encoder."""
        encoder, tokens = self.shape.encoder, self.shape.tokens
        needs_memory = self.shape.injector.kind in ("kv_memory", "embedding", "prefix")
        memory = decoder.memory_shape if needs_memory else MemoryShape(layers=0, heads=0, head_size=0)
        modules = nn.ModuleDict()
        with torch.device("meta"):
            reader: PromptReader = _Reader(width=decoder.width, memory_shape=memory)
            tokens_U = None if tokens is None else torch.empty(len(tokens), dtype=torch.int64)
            injector = build_injector(self.shape.injector, encoder, parts.slots, reader, scale=1.0, tokens_U=tokens_U)
            modules["injector"] = injector
            if encoder.kind != "pretrained":
                encoded = build_encoder(encoder, parts, decoder=reader, tokens_U=tokens_U)
                modules["encoder"], modules["head"] = encoded
        return _filled({name: tuple(value.shape) for name, value in modules.named_parameters()})


def _shapes(path: Path) -> Shapes:
    try:
        with safe_open(path, "pt") as file:
            return _filled({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path}: damaged ({error}); run the stage that writes it again") from error


def _filled(shapes: Shapes) -> Shapes:
    """Leave out tensors of no numbers, which ZeRO-3 does not write."""
    return {name: shape for name, shape in shapes.items() if 0 not in shape}


def _misfit(path: Path, odd: list[str]) -> BundleError:
    return BundleError(
        f"{path}: its tensors are not those of the configured autoencoder (such as {', '.join(odd[:3])}); "
        "assemble the bundle again"
    )
