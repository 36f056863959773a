"""DeepSpeed's shards of weights and moments put together and cut again, for checkpoints that any engine can read.

DeepSpeed's own checkpoints are one file per rank, which only as many ranks can read. Its functions for single
parameters (`deepspeed.utils.safe_get_full_*`, `safe_set_*`) see through the sharding of every stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from difflm.training.engine_state import MOMENTS, EngineState

Parameters = Mapping[str, nn.Parameter]


def gathered_state(parameters: Parameters, optimizer: torch.optim.Optimizer, *, keep: bool) -> EngineState:
    """The whole state of ZeRO 1 to 3 behind at least one step, as CPU tensors where `keep` says so; collective."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    _link_moments(parameters, optimizer)

    def whole(get: Callable[..., Any], *key: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            value = get(parameter, *key)
            if keep:
                found[name] = value.detach().to("cpu", copy=True).clone()
        return found

    steps = [int(own["step"]) for own in optimizer.state.values() if "step" in own]
    return EngineState(
        weights=whole(safe_get_full_fp32_param),
        moments={key: whole(safe_get_full_optimizer_state, key) for key in MOMENTS},
        steps=max(steps, default=0),
    )


def scatter_state(state: EngineState, parameters: Parameters, optimizer: torch.optim.Optimizer, zero: Any) -> None:
    """Give every rank its shard of a whole state; collective. `zero` is DeepSpeed's optimizer of ZeRO 1 to 3."""
    if hasattr(zero, "fp32_partitioned_groups_flat"):
        _begin_moments(optimizer, zero.fp32_partitioned_groups_flat, state.steps)
        _scatter_stage_3(state, parameters)
        return
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    _begin_moments(optimizer, (flat for group in optimizer.param_groups for flat in group["params"]), state.steps)
    _link_moments(parameters, optimizer)
    for name, parameter in parameters.items():
        safe_set_full_fp32_param(parameter, state.weights[name].to(parameter.device))
        for key in MOMENTS:
            safe_set_full_optimizer_state(parameter, state.moments[key][name].to(parameter.device), key)
    zero.update_lp_params()


def _begin_moments(optimizer: torch.optim.Optimizer, shards: Iterable[Tensor], steps: int) -> None:
    """What AdamW keeps of a shard from its first step on."""
    for shard in shards:
        step = torch.tensor(float(steps), device=shard.device)
        optimizer.state[shard] = {"step": step, **{key: torch.zeros_like(shard) for key in MOMENTS}}


def _link_moments(parameters: Parameters, optimizer: torch.optim.Optimizer) -> None:
    """Show ZeRO 1 and 2 the moments of their parameters: after the first step they know those of the first group."""
    for parameter in parameters.values():
        fragment = getattr(parameter, "_hp_mapping", None)
        if fragment is not None:
            (shard,) = optimizer.param_groups[fragment.param_group_index]["params"]
            fragment.set_optim_state_fragment(shard, optimizer.state[shard])


def _scatter_stage_3(state: EngineState, parameters: Parameters) -> None:
    import deepspeed
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    rank = torch.distributed.get_rank()

    def own(parameter: Any, whole: Tensor) -> Tensor:
        size = parameter.ds_tensor.numel()
        flat = whole.flatten()[rank * size : (rank + 1) * size]
        return functional.pad(flat, (0, size - len(flat)))

    for name, parameter in parameters.items():
        safe_set_local_fp32_param(parameter, own(parameter, state.weights[name]))
        for key in MOMENTS:
            safe_set_local_optimizer_state(parameter, own(parameter, state.moments[key][name]), key)
    with deepspeed.zero.GatheredParameters(list(parameters.values()), modifier_rank=0), torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.weights[name])
