"""Rendezvous: how the workers of a training job find each other on one machine, where nobody else is to reach them.

torch's own server for it listens on every address of a machine, without a password, and takes no other. So workers of
one machine meet over a file, and speak over its loopback; one that has no peers meets nobody.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

_INTERFACES = ("lo", "lo0")


@dataclass
class OneMachineConfig(TorchConfig):
    """What Ray Train is told instead of `TorchConfig`; without `peers` a worker gets no process group.

    `folder` is one that all workers see, and files of an earlier try there are none of a later one.
    """

    folder: str = ""
    peers: bool = True

    @property
    def backend_cls(self) -> type[_OneMachineBackend]:
        return _OneMachineBackend


class _OneMachineBackend(_TorchBackend):
    """Ray's backend for torch but for its start."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        assert isinstance(backend_config, OneMachineConfig)
        place = Path(backend_config.folder) / uuid.uuid4().hex if backend_config.peers else None
        worker_group.execute(_join, backend=backend_config.backend, place=place, timeout_s=backend_config.timeout_s)


def _join(backend: str, place: Path | None, timeout_s: int) -> None:
    """Tell a worker which one it is, and let it join its peers."""
    import ray.train
    import torch.distributed as dist

    context = ray.train.get_context()
    rank, count = context.get_world_rank(), context.get_world_size()
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "NODE_RANK": str(context.get_node_rank()),
    }
    for name in (name for _, name in socket.if_nameindex() if name in _INTERFACES):
        os.environ |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    if place is not None:
        # Nothing listens there: DeepSpeed calls the memory that the workers of a job share by these two.
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(1024 + int(place.name[:8], 16) % 60_000)}
        dist.init_process_group(
            backend, init_method=f"file://{place}", rank=rank, world_size=count, timeout=timedelta(seconds=timeout_s)
        )
