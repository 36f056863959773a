"""What every test shares: where the real data sets lie, one thread per process, and Ray's warnings about itself."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# Tests run several processes at a time; more threads than cores would only make them slower and their figures vary.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Ray's 15 lets its workers starve beside the tests that the other process runs.
os.environ.setdefault("RAY_worker_niceness", "0")

# Warnings that Ray raises about itself, not about what is called here.
RAY_ABOUT_ITSELF = [
    r"ignore:`\w+` is deprecated:DeprecationWarning:ray\.data\.context",  # its data context copies its own old settings
    r"ignore:Using extra keyword arguments on `Field`:DeprecationWarning",  # in the models of Ray Serve
]

# The same examples on every run, so that red means a change; `pytest --hypothesis-profile=default` looks for more.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore Ray's own warnings in tests that start it; everywhere else they stay errors."""
    for item in items:
        if item.get_closest_marker("distributed") is not None:
            for rule in RAY_ABOUT_ITSELF:
                item.add_marker(pytest.mark.filterwarnings(rule))


def data_directory() -> Path:
    """The folder of the public data sets: ``DIFFLM_DATA``, or ``shared/data`` beside the checkout."""
    given = os.environ.get("DIFFLM_DATA")
    return Path(given) if given else REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A function from a path such as ``adult/train.csv.gz`` to the file; the test is skipped when it is missing."""

    def resolve(relative: str) -> Path:
        path = data_directory() / relative
        if not path.is_file():
            pytest.skip(f"real data {relative} is not at {path}: set DIFFLM_DATA to the folder that holds it")
        return path

    return resolve


@pytest.fixture(scope="session")
def blocks() -> ModuleType:
    """The blocks of code of all pages."""
    spec = importlib.util.spec_from_file_location("docs_blocks", REPOSITORY / "docs" / "tools" / "blocks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_blocks"] = module
    spec.loader.exec_module(module)
    return module
