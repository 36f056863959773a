"""The repository's own rules: source roots stay roots, every part explains itself, imports stay light."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
ROOTS = ("platform", "evaluators", "jobs")
PACKAGES = ("platform/difflm", "evaluators/difflm_evaluators", "jobs/difflm_jobs")


@pytest.mark.parametrize("root", ROOTS)
def test_a_source_root_is_no_package(root: str) -> None:
    """`platform/__init__.py` would hide the standard library's `platform`, and Ray's workers would never start."""
    assert [path.name for path in (REPOSITORY / root).glob("*.py")] == []


def test_the_standard_librarys_platform_is_found_at_the_repository_root() -> None:
    code = "import platform, uuid; print(platform.python_version())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("folder", [*ROOTS, "infra", "tests"])
def test_every_top_level_folder_has_a_readme(folder: str) -> None:
    text = (REPOSITORY / folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed_and_every_module_says_what_it_is(package: str) -> None:
    folder = REPOSITORY / package
    assert (folder / "py.typed").exists()
    silent = [path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if not _first_line(path)]
    assert silent == []


def _first_line(path: Path) -> str:
    import ast

    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").splitlines()[0] if docstring else ""


@pytest.mark.parametrize("package", [*PACKAGES, "docs/tools"])
def test_files_stay_short(package: str) -> None:
    folder = REPOSITORY / package
    lengths = {
        path.relative_to(folder).as_posix(): len(path.read_bytes().splitlines()) for path in folder.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 320} == {}


SLOW = {"torch", "ray", "transformers", "numpy", "pyarrow", "scipy", "sklearn", "pandas", "pydantic"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process with the packages of this checkout; `-X importtime` lists on stderr what it imports."""
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ROOTS)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": roots, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def imported(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
    return [parts[2].strip() for parts in lines[1:]]


@pytest.mark.parametrize(
    ("module", "slow", "most"),
    [
        ("difflm", SLOW, 130),
        ("difflm_jobs.cli.main", SLOW | {"psutil", "yaml", "difflm.config"}, 400),
        ("difflm_jobs.loading", SLOW - {"pydantic"}, 400),
        ("difflm_jobs.config", {"peft", "accelerate", "deepspeed"}, None),
    ],
)
def test_an_import_is_cheap(module: str, slow: set[str], most: int | None) -> None:
    """Modules are counted, for seconds say little on a machine that does other work, too."""
    names = imported(python("-X", "importtime", "-c", f"import {module}"))
    assert module in names
    assert slow.intersection(names) == set()
    assert most is None or len(names) <= most


@pytest.mark.parametrize(
    ("arguments", "code", "said", "slow"),
    [
        (["--help"], 0, "train-diffusion", SLOW | {"yaml"}),
        (["run", "--help"], 0, "CONFIG", SLOW - {"pydantic"}),
        (["judge", "tools", "--help"], 0, "--max-records", SLOW - {"pydantic"}),
        (["run", "missing.csv"], 2, "error: data.train: missing.csv: no such file", SLOW - {"pydantic"}),
        (["plan", "missing.yaml"], 2, "error: missing.yaml: no such file", SLOW - {"pydantic"}),
        (["run", "adlut"], 2, "did you mean 'adult'?", SLOW - {"pydantic"}),
    ],
)
def test_help_and_a_path_that_is_not_there_are_answered_at_once(
    arguments: list[str], code: int, said: str, slow: set[str]
) -> None:
    done = python("-X", "importtime", "-m", "difflm_jobs", *arguments)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    names = imported(done)
    assert slow.intersection(names) == set()
    assert len(names) <= 560


def test_help_takes_no_seconds() -> None:
    """A generous bound on the fastest of three: what is slow is slow each time, other work is not always there."""
    seconds = []
    for _ in range(3):
        before = time.perf_counter()
        assert python("-m", "difflm_jobs", "--help").returncode == 0
        seconds.append(time.perf_counter() - before)
    assert min(seconds) < 5


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_stay_small(package: str) -> None:
    folder = REPOSITORY / package
    sizes = {inside: len([*inside.glob("*.py")]) for inside in (folder, *folder.rglob("*")) if inside.is_dir()}
    assert {str(inside): size for inside, size in sizes.items() if size > 20} == {}


def _module(path: Path) -> str:
    """Name a file as Python imports it."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, known: set[str]) -> set[str]:
    """List the modules that a file imports, also inside functions, but for what only type checkers read."""
    import ast

    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known or {node.module} & known
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    from graphlib import TopologicalSorter

    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    known = {_module(path) for path in files}
    graph = {_module(path): _imported(path, known) - {_module(path)} for path in files}
    assert len([*TopologicalSorter(graph).static_order()]) == len(files)  # raises CycleError, which names a circle
