"""Gradients of single records of a small Llama, clipped and summed without ever being held one by one.

Shape legend: B records, T positions, I inputs and O outputs of a layer, D width, V vocabulary.

Of a linear layer with inputs a_t and gradients g_t at its outputs a record's gradient is sum_t g_t a_t', and its
squared norm sum_ts (g_t.g_s)(a_t.a_s): what is kept per record is T x T instead of O x I ("ghost norm", Li et al.
2022). The clipped sum is one product of all records' g, each scaled by its record's factor, with a ("book-keeping", Bu
et al. 2022). So a private step costs little more than an ordinary one, and no gradient of the weights is computed by
autograd. The embedding that is tied to the output matrix has one gradient of both uses; its norm has a cross term.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

FLOOR, MARGIN = 1e-2, 0.999
"""Norms far below this are not blown up to one: g / (|g| + floor), whose norm is below one (Bu et al. 2023);
the margin is for what single precision rounds."""


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What one layer read and wrote in a forward pass."""

    inputs: Tensor
    outputs: Tensor


@dataclass(slots=True, kw_only=True)
class ClippedGradients:
    """Sums of clipped gradients of the parameters of a model, by name.

    A record's gradient is scaled to a norm below one, whatever it was, so a record changes the sum by less than one.
    """

    model: LlamaForCausalLM
    _linear: dict[str, nn.Linear] = field(init=False)
    _norms: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        modules = dict(self.model.named_modules())
        self._linear = {
            name: module for name, module in modules.items() if isinstance(module, nn.Linear) and name != "lm_head"
        }
        self._norms = {name: module for name, module in modules.items() if type(module).__name__ == "LlamaRMSNorm"}
        covered = {f"{name}.weight" for name in [*self._linear, *self._norms, _EMBEDDING]}
        missing = set(dict(self.model.named_parameters())) - covered
        assert not missing, f"no private gradient is known of {sorted(missing)}"

    def __call__(self, nats: Callable[[], Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the clipped sums of the gradients of nats (B,), and the nats, without gradient."""
        seen: dict[str, _Seen] = {}
        with ExitStack() as hooks:
            embedding = self.model.get_submodule(_EMBEDDING)
            for name, module in [*self._linear.items(), *self._norms.items(), (_EMBEDDING, embedding)]:
                hooks.callback(module.register_forward_hook(_keeper(seen, name)).remove)
            hooks.callback(self.model.lm_head.register_forward_hook(_keeper(seen, _HEAD)).remove)
            nats_B = nats()
        names = list(seen)
        found = torch.autograd.grad(nats_B.sum(), [seen[name].outputs for name in names])
        gradients = {name: gradient.float() for name, gradient in zip(names, found, strict=True)}
        # In bfloat16 a norm could come out smaller than the gradient that it is to bound.
        with torch.no_grad(), torch.autocast(nats_B.device.type, enabled=False):
            return self._clipped(seen, gradients), nats_B.detach()

    def _clipped(self, seen: dict[str, _Seen], gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        read = {name: one.inputs.detach() for name, one in seen.items()}
        read = {name: value if name == _EMBEDDING else value.float() for name, value in read.items()}
        small = {name: self._norm_gradient(name, read[name], gradients[name]) for name in self._norms}
        squares_B = _tied_square(read[_EMBEDDING], gradients[_EMBEDDING], read[_HEAD], gradients[_HEAD])
        for name in self._linear:
            squares_B = squares_B + _square(read[name], gradients[name])
        for gradient_BD in small.values():
            squares_B = squares_B + gradient_BD.square().sum(dim=1)
        factor_B = MARGIN / (squares_B.clamp(min=0).sqrt() + FLOOR)
        sums = {f"{name}.weight": _product(gradients[name], read[name], factor_B) for name in self._linear}
        sums |= {f"{name}.weight": (gradient_BD * factor_B[:, None]).sum(dim=0) for name, gradient_BD in small.items()}
        tied_VD = _product(gradients[_HEAD], read[_HEAD], factor_B)
        scaled_BTD = gradients[_EMBEDDING] * factor_B[:, None, None]
        tied_VD.index_add_(0, read[_EMBEDDING].flatten(), scaled_BTD.flatten(0, 1))
        return sums | {f"{_EMBEDDING}.weight": tied_VD}

    def _norm_gradient(self, name: str, inputs_BTD: Tensor, gradient_BTD: Tensor) -> Tensor:
        """Return the gradients (B, D) of a layer norm's weights."""
        module = self._norms[name]
        variance = inputs_BTD.square().mean(dim=-1, keepdim=True)
        normed_BTD: Tensor = inputs_BTD * torch.rsqrt(variance + module.variance_epsilon)
        return (gradient_BTD * normed_BTD).sum(dim=1)


_EMBEDDING, _HEAD = "model.embed_tokens", "lm_head"


def _keeper(seen: dict[str, _Seen], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
    def keep(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        assert name not in seen, f"{name} is used once in a forward pass"
        if not outputs.requires_grad:
            outputs.requires_grad_(True)
        seen[name] = _Seen(inputs=inputs[0], outputs=outputs)
        return outputs

    return keep


def _square(inputs_BTI: Tensor, gradient_BTO: Tensor) -> Tensor:
    """Return the squared norms (B,) of the gradients of a linear layer, by the cheaper of two ways."""
    length, inputs, outputs = inputs_BTI.shape[1], inputs_BTI.shape[2], gradient_BTO.shape[2]
    if length * (inputs + outputs) > inputs * outputs:
        return (gradient_BTO.transpose(1, 2) @ inputs_BTI).square().sum(dim=(1, 2))
    return ((inputs_BTI @ inputs_BTI.transpose(1, 2)) * (gradient_BTO @ gradient_BTO.transpose(1, 2))).sum(dim=(1, 2))


def _tied_square(ids_BT: Tensor, embedded_BTD: Tensor, inputs_BSD: Tensor, gradient_BSV: Tensor) -> Tensor:
    """Return the squared norms (B,) of the gradients of a matrix that embeds tokens and scores them.

    `embedded` are the gradients at the embeddings of the tokens, `inputs` and `gradient` those of the scores.
    """
    same_BTT = ids_BT[:, :, None] == ids_BT[:, None, :]
    embedding_B = (same_BTT * (embedded_BTD @ embedded_BTD.transpose(1, 2))).sum(dim=(1, 2))
    places_BST = ids_BT[:, None, :].expand(-1, gradient_BSV.shape[1], -1)
    cross_B = (gradient_BSV.gather(2, places_BST) * (inputs_BSD @ embedded_BTD.transpose(1, 2))).sum(dim=(1, 2))
    return embedding_B + _square(inputs_BSD, gradient_BSV) + 2 * cross_B


def _product(gradient_BTO: Tensor, inputs_BTI: Tensor, factor_B: Tensor) -> Tensor:
    """Return the sum (O, I) of the gradients of a linear layer, each times its record's factor."""
    scaled = gradient_BTO * factor_B[:, None, None]
    return scaled.flatten(0, 1).t() @ inputs_BTI.flatten(0, 1)
