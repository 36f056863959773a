"""What the package says of itself is so: supported versions, extras, completion in the shell, the release script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
OF_DEVELOPERS = {"docs", "dev", "bench"}
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]


def pins(name: str) -> dict[str, str]:
    """The exact versions of a file of constraints."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))


def floors() -> dict[str, str]:
    """The oldest versions that the package and its extras ask for on Linux, by the names of libraries."""
    extras = PROJECT["optional-dependencies"]
    asked = [
        *PROJECT["dependencies"],
        *(line for name in set(extras) - {"all", *OF_DEVELOPERS} for line in extras[name]),
    ]
    found = [re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", line) for line in asked if "!= 'linux'" not in line]
    return {match[1]: match[2] for match in found if match is not None}


def supported() -> dict[str, tuple[str, str]]:
    """The table of supported versions: the oldest and the newest of each library."""
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8").partition("## Supported versions")[2]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+)", page, re.MULTILINE)
    return {name: (oldest, newest) for name, oldest, newest in rows}


def plain(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)


def test_the_table_of_supported_versions_is_what_the_constraints_pin() -> None:
    oldest, newest = pins("constraints-oldest.txt"), pins("constraints.txt")
    table = {name: pair for name, pair in supported().items() if name != "Python"}
    assert set(table) == {"ray", "torch", "transformers"}
    assert table == {name: (oldest[name], newest[name]) for name in table}
    assert PROJECT["requires-python"] == f">={supported()['Python'][0]}"


def test_the_package_asks_for_what_the_oldest_constraints_pin() -> None:
    """Anything older pip may choose, and nobody tried it."""
    oldest = {name: plain(version) for name, version in pins("constraints-oldest.txt").items()}
    assert oldest == {name: plain(version) for name, version in floors().items()}


def test_what_computes_is_as_new_as_the_constraints_say() -> None:
    import ray
    import torch
    import transformers

    running = {"ray": ray.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    tested = [{name: pins(file)[name] for name in running} for file in ("constraints-oldest.txt", "constraints.txt")]
    assert {name: version.partition("+")[0] for name, version in running.items()} in tested


def test_everything_is_in_the_extra_of_everything() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    named = set(re.findall(r"[\w-]+", everything.partition("[")[2]))
    assert named == set(PROJECT["optional-dependencies"]) - {"all", *OF_DEVELOPERS}


@pytest.mark.parametrize(
    ("words", "completed"), [("difflm syn", "synthesize"), ("difflm synthesize runs/people --ro", "--rows")]
)
def test_the_shell_completes(words: str, completed: str) -> None:
    asked = {"_DIFFLM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    command = "import sys; sys.argv = ['difflm']; from difflm_jobs.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "PYTHONPATH": roots, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [completed], done.stderr


def test_the_shell_is_taught_in_a_home_of_its_own(tmp_path: Path) -> None:
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    taught = "import sys; sys.argv[0] = 'difflm'; from difflm_jobs.cli.main import main; main()"
    done = subprocess.run(
        [
            "bash",
            "-c",
            '"$0" -c "$1" --install-completion; true',
            sys.executable,
            taught,
        ],  # below a shell, as a user is
        env={**os.environ, "PYTHONPATH": roots, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bash completion installed" in done.stdout, done.stderr
    assert "_DIFFLM_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "difflm.sh").read_text("utf-8")
    assert "difflm.sh" in (tmp_path / ".bashrc").read_text("utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the command of the installation page from a copy of what is published."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("platform", "evaluators", "jobs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    words = ["pip", "wheel", "--no-deps", "--wheel-dir", "dist", "."]
    assert f"\n{' '.join(words)}\n" in (REPOSITORY / "docs" / "install.md").read_text("utf-8")
    command = [sys.executable, "-m", *words, "--no-build-isolation", "--quiet"]  # with the hatchling that is here
    subprocess.run(command, cwd=folder, check=True)
    (built,) = (folder / "dist").glob("difflm-*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    roots = [REPOSITORY / "platform", REPOSITORY / "evaluators", REPOSITORY / "jobs"]
    files = [(path, root) for root in roots for path in root.rglob("*/**/*") if path.is_file()]
    sources = {path.relative_to(root).as_posix() for path, root in files if "__pycache__" not in path.parts}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == sources


def test_the_wheel_works_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(installed)]
    subprocess.run([*command, str(wheel)], cwd=tmp_path, check=True)
    (tmp_path / "people.csv").write_text("age,city\n" + "41,Oslo\n42,Rome\n" * 40, encoding="utf-8")
    for words in (["config", "show", "demo"], ["inspect", "people.csv"]):
        done = subprocess.run(
            [sys.executable, "-m", "difflm_jobs", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert "city" in done.stdout


def test_a_release_of_another_version_is_refused() -> None:
    done = subprocess.run(
        ["bash", str(REPOSITORY / "infra" / "release.sh"), "99.0.0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: pyproject.toml has another version than 99.0.0; change it there\n"
