"""How many replicas there should be: by the rows that are still to be made, not by requests, which differ in size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol


class ScalingContext(Protocol):
    """What Ray Serve tells a policy."""

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """By name, what `record_autoscaling_stats` of each replica said, over the look-back period."""
        ...

    @property
    def total_num_requests(self) -> float: ...

    @property
    def capacity_adjusted_min_replicas(self) -> int: ...

    @property
    def capacity_adjusted_max_replicas(self) -> int: ...


class QueuedRowsPolicy:
    """As many replicas as unfinished rows need; none only where nobody asks for anything."""

    def __init__(self, *, target_queued_rows: int) -> None:
        self._target = target_queued_rows

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas within the deployment's bounds, and no state."""
        rows = sum(((context.aggregated_metrics or {}).get("queued_rows") or {}).values())
        least = 1 if context.total_num_requests > 0 else 0
        wanted = max(least, math.ceil(rows / self._target))
        bounds = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return min(max(wanted, bounds[0]), bounds[1]), {}
