"""One Ray cluster for every test here that needs one; it starts with the first of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from difflm.runtime.cluster import ClusterConfig, ClusterContext, start_or_connect, stop


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterContext]:
    """A local cluster of two CPUs."""
    yield start_or_connect(ClusterConfig(address="local", num_cpus=2, object_store_mib=128))
    stop()
