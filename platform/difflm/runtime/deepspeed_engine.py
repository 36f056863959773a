"""DeepSpeed engine: the `Engine` contract with optimizer state, gradients or weights sharded over ranks (ZeRO 0-3).

DeepSpeed's shards of weights and moments put together and cut again, for checkpoints that any engine can read.

DeepSpeed's own checkpoints are one file per rank, which only as many ranks can read. Its functions for single
parameters (`deepspeed.utils.safe_get_full_*`, `safe_set_*`) see through the sharding of every stage.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from difflm.config import Config
from difflm.errors import TrainingError
from difflm.models.precision import Precision
from difflm.training.engine import Collective, to_device
from difflm.training.optimizer import (
    ADAM_BETAS,
    ADAM_EPS,
    MOMENTS,
    EngineState,
    load_optimizer_state,
    named_trainable_parameters,
    optimizer_state,
    parameter_groups,
    read_engine_state,
    trainable_parameters,
    write_engine_state,
)

Parameters = Mapping[str, nn.Parameter]


def gathered_state(parameters: Parameters, optimizer: torch.optim.Optimizer, *, keep: bool) -> EngineState:
    """Gather the whole state of ZeRO 1 to 3 behind at least one step, on the CPU where `keep` says so; collective."""
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
    """Set what AdamW keeps of a shard from its first step on."""
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


MAX_BUCKET_NUMBERS = 500_000_000
"""Numbers of a bucket of gradients; one of fewer trainable parameters is no larger than these."""


class DeepSpeedEngineConfig(Config):
    """DeepSpeed: ZeRO-2 suits a large frozen decoder that fits on every device; ZeRO-3 shards the decoder as well."""

    kind: Literal["deepspeed"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] = Field(default=2, description="What is sharded over workers: 0 nothing, 3 all.")
    weights: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Type of all weights; bfloat16 keeps a float32 master copy of trainable ones."
    )
    offload_optimizer: bool = Field(default=False, description="Keep optimizer state in host memory (ZeRO 1-3).")

    @model_validator(mode="after")
    def _sharded_where_needed(self) -> Self:
        if self.zero_stage == 0 and (self.weights == "bfloat16" or self.offload_optimizer):
            raise ValueError("weights: bfloat16 and offload_optimizer need zero_stage 1, 2 or 3")
        return self


class DeepSpeedEngine:
    """One DeepSpeed engine over the trainable parameters; frozen ones are neither optimized nor checkpointed.

    Needs an initialised torch.distributed, on a CPU with gloo. AdamW is torch's own (DeepSpeed's compiles C++), with
    the same groups and arithmetic as `PlainEngine`, so that both follow the same loss curve.
    """

    def __init__(
        self,
        module: nn.Module,
        config: DeepSpeedEngineConfig,
        *,
        device: torch.device,
        weight_decay: float = 0.0,
        gradient_clip: float = 1.0,
        gradient_accumulation: int = 1,
        precision: Precision = "float32",
    ) -> None:
        if config.zero_stage == 3:
            _empty_parameters_to_buffers(module)
        parameters = trainable_parameters(module)
        if not parameters:
            raise TrainingError("the module has no trainable parameters: every parameter has requires_grad=False")
        self._deepspeed = _import_deepspeed(device)
        self._collective = Collective(device)
        self.rank, self.world_size, self.device = self._collective.rank, self._collective.world_size, device
        self._config = config
        self._accumulation = gradient_accumulation
        self.precision: Precision = precision
        self._micro = 0
        size = sum(parameter.numel() for parameter in parameters)
        self._named = named_trainable_parameters(module)
        module.to(device)
        self._optimizer = torch.optim.AdamW(
            parameter_groups(module, weight_decay), lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True
        )
        self._engine: Any = self._deepspeed.initialize(
            model=_Autocast(module, device.type, precision),
            optimizer=self._optimizer,
            model_parameters=parameters,
            config=_settings(config, size, clip=gradient_clip, accumulation=gradient_accumulation),
            dist_init_required=False,
        )[0]
        self._parameters = parameters

    @property
    def lockstep(self) -> bool:
        return self._config.zero_stage == 3

    def set_training(self, training: bool) -> None:
        self._engine.train(training)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self._engine(**to_device(batch, self.device))
        return outputs

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)
        self._micro += 1
        if self._micro % self._accumulation:
            self._engine.step()

    def step(self, learning_rate: float) -> float:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = self._unsharded_norm() if self._config.zero_stage == 0 else None
        self._engine.step()
        if norm is None:
            norm = self._engine.get_global_grad_norm()
        if norm is None:
            raise TrainingError("DeepSpeed reports no gradient norm; this version of deepspeed is not supported")
        return float(norm)

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        return self._collective.mean(metrics, weight)

    def any(self, flag: bool) -> bool:
        return self._collective.any(flag)

    def whole_parameters(self) -> AbstractContextManager[None]:
        return self._gathered() if self._config.zero_stage == 3 else nullcontext()

    def save(self, directory: Path) -> None:
        if self._config.zero_stage == 0:
            state = optimizer_state(self._named, self._optimizer)
        else:
            state = gathered_state(self._named, self._optimizer, keep=self.rank == 0)
        if self.rank == 0:
            write_engine_state(directory, state)

    def load(self, directory: Path) -> None:
        saved = read_engine_state(directory, self._named, "cpu")
        if self._config.zero_stage == 0:
            load_optimizer_state(saved, self._named, self._optimizer)
        else:
            scatter_state(saved, self._named, self._optimizer, self._engine.optimizer)

    def close(self) -> None:
        """Release DeepSpeed's hooks and buffers; the engine is of no use afterwards."""
        self._engine.destroy()

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        with self._deepspeed.zero.GatheredParameters(self._parameters):
            yield

    def _unsharded_norm(self) -> float | None:
        """Return the norm of gradients that are already averaged over ranks.

        It is None when DeepSpeed keeps them elsewhere (bfloat16).
        """
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if not gradients or self._config.weights == "bfloat16":
            return None
        return float(torch.nn.utils.get_total_norm(gradients))


def _empty_parameters_to_buffers(module: nn.Module) -> None:
    """Turn parameters of no numbers, such as a learned prefix of none, into buffers: ZeRO-3 cannot gather them."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.numel() == 0:
                delattr(part, name)
                part.register_buffer(name, parameter.detach(), persistent=False)


class _Autocast(nn.Module):
    """Autocast inside the wrapped forward pass: the same arithmetic as the plain engine, unseen by DeepSpeed."""

    def __init__(self, module: nn.Module, device_type: str, precision: Precision) -> None:
        super().__init__()
        self.inner = module
        self._device_type = device_type
        self._enabled = precision == "bfloat16"

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        with torch.autocast(self._device_type, dtype=torch.bfloat16, enabled=self._enabled):
            outputs: dict[str, Tensor] = self.inner(**batch)
        return outputs


def _settings(config: DeepSpeedEngineConfig, size: int, *, clip: float, accumulation: int) -> dict[str, Any]:
    """Write DeepSpeed's own settings; buckets are no larger than the trainable parameters (its defaults take GiB)."""
    bucket = min(size + size % 2, MAX_BUCKET_NUMBERS)  # DeepSpeed takes even ones only
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": False,
    }
    if config.zero_stage == 3:
        zero |= {"stage3_prefetch_bucket_size": bucket, "stage3_param_persistence_threshold": 100_000}
    if config.offload_optimizer and config.zero_stage > 0:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.weights == "bfloat16"},
        "steps_per_print": None,
    }


def _import_deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed when it is asked for, not before; it probes for accelerators and logs unless told."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError as error:
        raise TrainingError(
            f"deepspeed cannot be imported ({error}); pip install 'difflm[cluster]' on Linux, or set engine.kind=plain"
        ) from error
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if device.type == "cpu":
        # Its shared-memory all-reduce is compiled on first use (a minute, and a C++ compiler); gloo does the same work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
