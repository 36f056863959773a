"""What the workers of a job compute in: one precision for all of them, chosen where they run."""

from __future__ import annotations

from typing import Any

from difflm.errors import ClusterError
from difflm.models.precision import Precision, PrecisionSetting, fast_precision, own_device
from difflm.runtime.cluster import current_context


def worker_precision(setting: PrecisionSetting, *, cpus: float, gpus: float, timeout_s: float) -> Precision:
    """Find the precision that a job's workers share.

    `auto` is what one worker with such resources is fast in: on a local cluster it is this machine, on another one a
    task looks.

    Raises:
        ClusterError: no node had such resources within `timeout_s`.
    """
    if setting != "auto":
        return setting
    if current_context().local:
        return _own()
    import ray

    look: Any = ray.remote(_own)
    asked = look.options(num_cpus=cpus, num_gpus=gpus or None).remote()
    try:
        found: Precision = ray.get(asked, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(
            f"no worker with {cpus:g} CPUs and {gpus:g} GPUs within {timeout_s:g} s, to see which precision it is fast "
            "in; give the cluster such a node, or set sampling.precision to float32 or bfloat16"
        ) from error
    return found


def _own() -> Precision:
    return fast_precision(own_device())
