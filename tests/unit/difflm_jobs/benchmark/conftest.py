"""A small table, and methods that are scripts of a few lines, run by this interpreter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from difflm.artifacts import ArtifactStore
from difflm_evaluators.evaluation import EvaluationConfig
from difflm_evaluators.privacy.privacy import PrivacyConfig
from difflm_jobs.benchmark.cells import Bench
from difflm_jobs.benchmark.methods import Method, read_methods
from difflm_jobs.benchmark.tables import read_benchmark_table

LIGHT = EvaluationConfig(
    detection=None, fidelity=None, utility=None, privacy=PrivacyConfig(threads=1), membership=None, projection=None
)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of whole numbers, decimals with gaps, categories and a class."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("people") / "people.csv"
    lines = ["age,height,city,paid"]
    for _ in range(240):
        age, city = random.integers(20, 70), random.choice(["Oslo", "Rome", "Lima"], p=[0.5, 0.3, 0.2])
        height = "" if random.random() < 0.05 else f"{random.normal(1.7, 0.1):.2f}"
        lines.append(f"{age},{height},{city},{'yes' if age + 10 * (city == 'Rome') > 45 else 'no'}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def bench(people: Path, tmp_path: Path) -> Bench:
    """What cells share, with light scores and more minutes than are needed."""
    table = read_benchmark_table(str(people), target="paid", train_rows=None)
    folder = tmp_path / "people-benchmark"
    return Bench(
        table=table,
        store=ArtifactStore(folder),
        folder=folder / "table",
        hashes=table.write(folder / "table"),
        rows=60,
        minutes=10.0,
        cache=tmp_path / "cache",
        evaluation=LIGHT,
        protocol=False,
        say=lambda line: None,
    )


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[[str], Method]:
    """A function from the code of an adapter to a method that this interpreter runs."""
    import sys

    def make(code: str) -> Method:
        (tmp_path / "scripted.py").write_text(code)
        file = tmp_path / "mine.yaml"
        file.write_text(
            f"methods: {{mine: {{title: Mine, python: '{sys.executable}', adapter: scripted.py, settings: {{a: 1}}}}}}"
        )
        (method,) = read_methods(["mine"], overrides=(), file=file)
        return method

    return make
