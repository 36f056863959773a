"""Nats of text under a small Llama on a CPU, forward and backward, in two thirds of the time that its modules take.

In a model of a hundred numbers a position, matrix products are the lesser part of a training step. The rest is casts
that autocast makes once for each product that reads the same numbers, norms and gates in a pass for every operator, a
softmax that is three times slower in bfloat16 than in float32, and scores of all tokens copied twice. So what products
read is written in their precision at once, the weights of norms are multiplied into the matrices behind them, queries,
keys and values are one product, attention is in float32, and what norms, gates and scores need for their gradients is
kept as small as it is. The weights, and so checkpoints and bundles, are those of the model.

Shape legend: B records, P positions, N positions of all records, D width, I inner width, H key heads, G query heads of
a key head, E head size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHUNK = 1024
"""Positions whose scores are in float32 at the same time."""


def is_lean(model: nn.Module, inputs_BPD: Tensor) -> bool:
    """Say whether `lean_nats` computes what the model does: a plain Llama on a CPU that attends to few positions.

    Its weights have to be there (ZeRO-3 shards them), and nobody may listen to its layers, as private gradients do.
    """
    config = getattr(model, "config", None)
    if type(model).__name__ != "LlamaForCausalLM" or config is None or inputs_BPD.device.type != "cpu":
        return False
    whole: Any = model
    if config._attn_implementation != "eager" or config.hidden_act != "silu" or config.attention_dropout:
        return False
    return all(
        type(part) is nn.Linear
        and getattr(part, "bias", None) is None
        and part.weight.numel() > 0
        and not part._forward_hooks
        for layer in whole.model.layers
        for part in (*_projections(layer.self_attn), layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)
    )


def lean_nats(model: PreTrainedModel, inputs_BPD: Tensor, target_BT: Tensor) -> Tensor:
    """Return the nats (B, T) of tokens that follow the last T of the positions, in float32."""
    whole: Any = model
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else whole.lm_head.weight.dtype
    with torch.autocast("cpu", enabled=False):
        hidden_BPD = _hidden(whole, inputs_BPD, dtype)[:, inputs_BPD.shape[1] - target_BT.shape[1] :]
        output_VD = (whole.lm_head.weight.float() * whole.model.norm.weight.float()).to(dtype)
        nats_N: Tensor = _Nats.apply(hidden_BPD.reshape(-1, hidden_BPD.shape[-1]), output_VD, target_BT.reshape(-1))  # type: ignore[no-untyped-call]
    return nats_N.view_as(target_BT)


def _projections(attention: Any) -> tuple[nn.Linear, ...]:
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj


def _hidden(whole: Any, inputs_BPD: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what the last layer says of every position, at root mean square 1 (B, P, D)."""
    config, body = whole.config, whole.model
    batch, positions, width = inputs_BPD.shape
    size, heads = body.layers[0].self_attn.head_dim, config.num_key_value_heads
    queries = config.num_attention_heads
    cosine_PE, sine_PE = (part[0] for part in body.rotary_emb(inputs_BPD.float(), torch.arange(positions)[None]))
    turn_P1e = torch.complex(cosine_PE[:, None, : size // 2], sine_PE[:, None, : size // 2])
    later_PP = torch.full((positions, positions), -torch.inf).triu(1)
    # Halves of heads that are turned together stand side by side, as complex numbers do.
    beside_E = torch.arange(size).view(2, -1).t().flatten()
    turned = (torch.arange(queries + heads)[:, None] * size + beside_E).flatten()
    order = torch.cat([turned, torch.arange(heads * size) + len(turned)])
    hidden_ND = inputs_BPD.reshape(-1, width).float()
    for layer in body.layers:
        query, key, value, out = (part.weight for part in _projections(layer.self_attn))
        joined = torch.cat([query * size**-0.5, key, value])[order].float() * layer.input_layernorm.weight.float()
        all_BPAE = (
            _linear(_unit(hidden_ND, config.rms_norm_eps, dtype), joined).float().view(batch, positions, -1, size)
        )
        pairs = all_BPAE[:, :, : queries + heads].reshape(batch, positions, -1, size // 2, 2)
        turned_BPAE = torch.view_as_real(torch.view_as_complex(pairs) * turn_P1e).flatten(-2)
        read_ND = _attended(turned_BPAE, all_BPAE[:, :, queries + heads :], later_PP, heads)
        hidden_ND = hidden_ND + _linear(read_ND.to(dtype), out)
        gate_up = torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]).float()
        gate_up = gate_up * layer.post_attention_layernorm.weight.float()
        both_NI = _linear(_unit(hidden_ND, config.rms_norm_eps, dtype), gate_up)
        gated_NI: Tensor = _Gate.apply(both_NI)  # type: ignore[no-untyped-call]
        hidden_ND = hidden_ND + _linear(gated_NI, layer.mlp.down_proj.weight)
    return _unit(hidden_ND, config.rms_norm_eps, dtype).view(batch, positions, width)


def _linear(read: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(read, weight.to(read.dtype))


def _attended(turned_BPAE: Tensor, value_BPHE: Tensor, later_PP: Tensor, heads: int) -> Tensor:
    """Return what every position reads of those up to itself (N, H * G * E), queries grouped by their key head."""
    batch, positions, both, size = turned_BPAE.shape
    group = both // heads - 1
    query = turned_BPAE[:, :, : heads * group].view(batch, positions, heads, group, size).permute(0, 2, 3, 1, 4)
    key = turned_BPAE[:, :, heads * group :].permute(0, 2, 3, 1)
    flat = batch * heads
    scores = torch.bmm(query.reshape(flat, -1, size), key.reshape(flat, size, positions))
    share = torch.softmax(scores.view(flat, group, positions, positions) + later_PP, dim=-1)
    value = value_BPHE.transpose(1, 2).reshape(flat, positions, size)
    read = torch.bmm(share.view(flat, -1, positions), value).view(batch, heads, group, positions, size)
    return read.permute(0, 3, 1, 2, 4).reshape(batch * positions, -1)


def _unit(hidden_ND: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
    unit_ND: Tensor = _Unit.apply(hidden_ND, epsilon, dtype)  # type: ignore[no-untyped-call]
    return unit_ND


class _Unit(torch.autograd.Function):
    """Vectors at root mean square 1, in the precision that the product behind them reads."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        width = hidden_ND.shape[1]
        length_N1: Tensor = torch.linalg.vector_norm(hidden_ND, dim=1, keepdim=True)
        scale_N1 = length_N1.square_().add_(width * epsilon).rsqrt_().mul_(width**0.5)
        unit_ND = (hidden_ND * scale_N1).to(dtype)
        ctx.save_for_backward(unit_ND, scale_N1)
        return unit_ND

    @staticmethod
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor, None, None]:
        unit_ND, scale_N1 = ctx.saved_tensors
        gradient_ND, unit_ND = gradient_ND.float(), unit_ND.float()
        along_N1 = torch.linalg.vecdot(gradient_ND, unit_ND)[:, None] / -unit_ND.shape[1]
        return torch.addcmul(gradient_ND, unit_ND, along_N1).mul_(scale_N1), None, None


class _Gate(torch.autograd.Function):
    """SwiGLU (Shazeer 2020) of gates and what they let through, side by side."""

    @staticmethod
    def forward(ctx: Any, both_NI: Tensor) -> Tensor:
        gate_NI, up_NI = both_NI.chunk(2, dim=1)
        open_NI = functional.silu(gate_NI)
        ctx.save_for_backward(both_NI, open_NI)
        return open_NI * up_NI

    @staticmethod
    def backward(ctx: Any, gradient_NI: Tensor) -> Tensor:
        both_NI, open_NI = ctx.saved_tensors
        gate_NI, up_NI = both_NI.chunk(2, dim=1)
        found_NI = torch.empty_like(both_NI)
        of_gate_NI, of_up_NI = found_NI.chunk(2, dim=1)
        torch.mul(gradient_NI, open_NI, out=of_up_NI)
        torch.ops.aten.silu_backward.grad_input(gradient_NI * up_NI, gate_NI, grad_input=of_gate_NI)
        return found_NI


class _Nats(torch.autograd.Function):
    """Cross-entropy of tokens under scores, which are in float32 only piece by piece."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, output_VD: Tensor, target_N: Tensor) -> Tensor:
        scores_NV = hidden_ND @ output_VD.t()
        whole, nats = [], []
        for start in range(0, len(scores_NV), _CHUNK):
            rows = slice(start, start + _CHUNK)
            scores = scores_NV[rows].float()
            whole.append(torch.logsumexp(scores, dim=1))
            nats.append(whole[-1] - scores.gather(1, target_N[rows, None])[:, 0])
        ctx.save_for_backward(hidden_ND, output_VD, target_N, scores_NV, torch.cat(whole))
        return torch.cat(nats)

    @staticmethod
    def backward(ctx: Any, gradient_N: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden_ND, output_VD, target_N, scores_NV, whole_N = ctx.saved_tensors
        of_scores_NV = torch.empty_like(scores_NV)
        for start in range(0, len(scores_NV), _CHUNK):
            rows = slice(start, start + _CHUNK)
            share = (scores_NV[rows].float() - whole_N[rows, None]).exp_()
            share.scatter_add_(1, target_N[rows, None], torch.full((len(share), 1), -1.0))
            of_scores_NV[rows] = share.mul_(gradient_N[rows, None])
        of_output_VD = of_scores_NV.t() @ hidden_ND if ctx.needs_input_grad[1] else None
        return of_scores_NV @ output_VD, of_output_VD, None
