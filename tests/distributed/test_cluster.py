"""The local cluster: one per process, bounded, and able to import this project."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import ray

from difflm.errors import ClusterError
from difflm.runtime.cluster import (
    ClusterConfig,
    ClusterContext,
    current_context,
    require_resources,
    source_roots,
    start_or_connect,
)

pytestmark = pytest.mark.distributed


def test_a_second_start_returns_the_first_cluster(cluster: ClusterContext) -> None:
    assert start_or_connect(ClusterConfig(address="local", num_cpus=64)) == cluster == current_context()
    assert cluster.local
    assert (cluster.num_cpus, cluster.nodes) == (2.0, 1)


def test_workers_import_the_same_source(cluster: ClusterContext) -> None:
    assert ray.get(ray.remote(num_cpus=0)(source_roots).remote()) == source_roots()


def test_what_a_local_cluster_can_never_hold_is_refused(cluster: ClusterContext) -> None:
    require_resources(cluster, cpus=2, gpus=0, purpose="a test")
    with pytest.raises(ClusterError, match=r"a test needs 3 CPUs and the local cluster has 2; .*cluster\.num_cpus"):
        require_resources(cluster, cpus=3, gpus=0, purpose="a test")
    with pytest.raises(ClusterError, match=r"a test needs 1 GPUs"):
        require_resources(cluster, cpus=1, gpus=1, purpose="a test")


@pytest.mark.usefixtures("cluster")
def test_what_a_local_cluster_has_on_the_disk_is_its_users_own() -> None:
    """Ray opens its own folder to everybody each time a worker starts."""
    ray.get(ray.remote(num_cpus=0)(os.getpid).remote())
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    private = session.parent.parent
    assert private.name.startswith("difflm-")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert "RAY_enable_metrics_collection" not in os.environ, "it is for the cluster's processes alone"
