"""The optimizer that engines share: learning-rate schedule, parameter groups, and its state whole and by name.

Engine state: trainable parameters and AdamW's moments, whole and by name, so that any engine can go on from them.

Shards are put together before they are written: what a checkpoint is read by may have another number of workers,
another ZeRO stage or no DeepSpeed at all. Frozen parameters, which are most of a large decoder, are not in it.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from difflm.errors import TrainingError

Schedule = Literal["cosine", "constant"]

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
FINAL_SHARE = 0.01
"""The cosine schedule ends at this share of the peak learning rate."""


def learning_rate_at(step: int, total: int, *, peak: float, warmup_steps: int, schedule: Schedule) -> float:
    """Learning rate of optimizer step `step` (0-based) of `total`: linear warm-up to `peak`, then cosine decay or
    constant.

    A pure function of its arguments: a resumed run needs no scheduler state. A warm-up that is not shorter than the
    run is cut to a tenth of it, so that short runs still reach the peak.
    """
    warmup = warmup_steps if warmup_steps < total else total // 10
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (FINAL_SHARE + (1.0 - FINAL_SHARE) * cosine)


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that an optimizer may change, in the module's own order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def named_trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the same by name, without those of no numbers (a learned prefix of none), which have no state."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad and value.numel()}


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups over trainable parameters only: matrices decay, vectors and scalars (biases, norms) do not."""
    trainable = trainable_parameters(module)
    decayed = [parameter for parameter in trainable if parameter.ndim >= 2]
    plain = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


Method = Literal["adamw", "muon"]
MUON_RATE = 1.6
"""Muon's learning rate over AdamW's: what served both best on the compact decoder's fit."""


def optimizers(
    module: nn.Module, method: Method, *, weight_decay: float, fused: bool
) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers that together change every trainable parameter once.

    With `muon`, the matrices inside of repeated layers are changed along orthogonalised momentum (Jordan et al. 2024,
    "Muon"), scaled to the size of AdamW's changes (Liu et al. 2025, arXiv 2502.16982), and the rest by AdamW.
    """
    groups = parameter_groups(module, weight_decay)
    chosen = {id(p) for name, p in module.named_parameters() if ".layers." in name and p.ndim == 2}
    matrices = [p for p in trainable_parameters(module) if method == "muon" and id(p) in chosen]
    taken = {id(p) for p in matrices}
    rest = [group | {"params": [p for p in group["params"] if id(p) not in taken]} for group in groups]
    adamw = torch.optim.AdamW(
        [group for group in rest if group["params"]], lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, fused=fused
    )
    if not matrices:
        return (adamw,)
    muon = torch.optim.Muon(matrices, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    for group in muon.param_groups:
        group["rate"] = MUON_RATE
    return adamw, muon


MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, as torch calls it. Muon's momentum stands in place of the first."""
_MUON_MOMENT = "momentum_buffer"
_FILE = "engine.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """float32 weights by their names, each moment by theirs, and how many steps the optimizer has taken."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]]
    steps: int


def optimizer_state(parameters: Mapping[str, nn.Parameter], *optimizers: torch.optim.Optimizer) -> EngineState:
    """Return the state where nothing is sharded; before the first step its moments are zero."""
    states = {parameter: dict(state) for optimizer in optimizers for parameter, state in optimizer.state.items()}
    own = {name: states.get(parameter, {}) for name, parameter in parameters.items()}
    for state in own.values():
        if _MUON_MOMENT in state:
            state["exp_avg"] = state[_MUON_MOMENT]
    return EngineState(
        weights={name: parameter.detach() for name, parameter in parameters.items()},
        moments={
            key: {name: own[name].get(key, torch.zeros_like(parameter)) for name, parameter in parameters.items()}
            for key in MOMENTS
        },
        steps=max((int(state["step"]) for state in own.values() if "step" in state), default=0),
    )


@torch.no_grad()
def load_optimizer_state(
    state: EngineState, parameters: Mapping[str, nn.Parameter], *optimizers: torch.optim.Optimizer
) -> None:
    """Take the state over where nothing is sharded."""
    owners = {id(p): owner for owner in optimizers for group in owner.param_groups for p in group["params"]}
    for name, parameter in parameters.items():
        parameter.copy_(state.weights[name])
        moments = {key: state.moments[key][name].to(parameter.device) for key in MOMENTS}
        owner = owners[id(parameter)]
        if isinstance(owner, torch.optim.Muon):
            owner.state[parameter] = {_MUON_MOMENT: moments["exp_avg"]}
        else:
            step = torch.tensor(float(state.steps), device=parameter.device)
            owner.state[parameter] = {"step": step, **moments}


def write_engine_state(directory: Path, state: EngineState) -> None:
    """Write the state's file."""
    whole = {"weights": dict(state.weights), "moments": dict(state.moments), "steps": state.steps}
    with (directory / _FILE).open("wb") as file:  # torch would keep its own open where the disk is full
        torch.save(whole, file)


def read_engine_state(
    directory: Path, parameters: Mapping[str, nn.Parameter], device: torch.device | str
) -> EngineState:
    """Return the state in a directory. TrainingError when it is of other parameters than these, or cannot be read."""
    found: Any = load_state(directory / _FILE, device)
    state = EngineState(weights=found["weights"], moments=found["moments"], steps=found["steps"])
    if parameters.keys() != state.weights.keys():
        odd = sorted(parameters.keys() ^ state.weights.keys())[:3]
        raise TrainingError(
            f"{directory / _FILE} is of another model: it differs in parameters {odd}; remove the checkpoints"
        )
    return state


def load_state(path: Path, device: torch.device | str) -> Any:
    """`torch.load` restricted to tensors and plain values; an unreadable file is a TrainingError that names it."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # what bytes come to is up to torch and its reader of pickles, with errors of their own
        foreign = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than tensors" if foreign else " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: cannot read the checkpoint ({reason}); remove it to start over") from error
