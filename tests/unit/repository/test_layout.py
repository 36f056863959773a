"""The repository's own rules: source roots stay roots, every part explains itself, imports stay light."""

import os
import subprocess
import sys
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


@pytest.mark.parametrize("package", PACKAGES)
def test_files_stay_short(package: str) -> None:
    folder = REPOSITORY / package
    lengths = {
        path.relative_to(folder).as_posix(): len(path.read_bytes().splitlines()) for path in folder.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 320} == {}


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("difflm", {"torch", "ray", "transformers", "numpy"}),
        ("difflm_jobs.cli.main", {"torch", "ray", "transformers", "scipy", "sklearn", "pandas"}),
        ("difflm_jobs.config", {"peft", "accelerate", "deepspeed"}),
    ],
)
def test_importing_the_platform_and_asking_the_command_line_for_help_is_cheap(module: str, slow: set[str]) -> None:
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ROOTS)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=True,
    )
    assert module in done.stdout.split()
    assert slow.intersection(done.stdout.split()) == set()
