"""One Ray cluster for every test here that needs one; it starts with the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from difflm.runtime.cluster import ClusterConfig, ClusterContext, start_or_connect, stop

# Warnings that Ray raises about itself, not about what is called here.
RAY_ABOUT_ITSELF = [
    r"ignore:`\w+` is deprecated:DeprecationWarning:ray\.data\.context",  # its data context copies its own old settings
    r"ignore:Using extra keyword arguments on `Field`:DeprecationWarning",  # in the models of Ray Serve
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore Ray's own warnings in this folder; everywhere else they stay errors."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for rule in RAY_ABOUT_ITSELF:
                item.add_marker(pytest.mark.filterwarnings(rule))


@pytest.fixture(scope="package")
def cluster() -> Iterator[ClusterContext]:
    """A local cluster of two CPUs."""
    yield start_or_connect(ClusterConfig(address="local", num_cpus=2, object_store_mib=128))
    stop()
