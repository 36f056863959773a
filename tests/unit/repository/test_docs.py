"""README and docs say what can be done: commands parse, settings load, names exist, figures are the records'."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = REPOSITORY / "docs" / "tools"
RECORDS = REPOSITORY / "tests" / "benchmarks" / "results"


def tool(name: str) -> ModuleType:
    """Import a script of docs/tools, which is no package."""
    if f"docs_tools_{name}" not in sys.modules:
        spec = importlib.util.spec_from_file_location(f"docs_tools_{name}", TOOLS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        if str(TOOLS) not in sys.path:
            sys.path.append(str(TOOLS))  # they import each other
        spec.loader.exec_module(module)
    return sys.modules[f"docs_tools_{name}"]


blocks = tool("blocks")
PAGES = blocks.pages()
NAMES = [path.relative_to(REPOSITORY).as_posix() for path in PAGES]
GROWING = {"CHANGELOG.md", "tests/benchmarks/LOG.md"}
"""Only ever added to, in lines of another width."""


def prose(text: str) -> list[tuple[int, str]]:
    """List the lines of a page that are no rows of tables, with their numbers."""
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if not line.startswith("|")]


@pytest.mark.parametrize("page", [name for name in NAMES if name not in GROWING])
def test_lines_are_short(page: str) -> None:
    long = [number for number, line in prose((REPOSITORY / page).read_text(encoding="utf-8")) if len(line) > 100]
    assert long == []


@pytest.mark.parametrize(
    ("page", "most"), [(name, 900 if name == "README.md" else 500) for name in NAMES if name.endswith("README.md")]
)
def test_a_readme_is_a_page_at_most(page: str, most: int) -> None:
    assert len((REPOSITORY / page).read_text(encoding="utf-8").split()) <= most


def test_the_figures_are_those_of_the_records() -> None:
    figures = tool("figures")
    stale = [path.name for path in figures.pages() if figures.current(text := path.read_text("utf-8"), "") != text]
    assert stale == [], "run python docs/tools/figures.py"


def test_another_record_gives_another_table() -> None:
    figures = tool("figures")
    page = "<!-- table: flywheel -->\n| typed | by hand |\n<!-- end -->\n"
    made = figures.current(page, "page")
    assert "typed" not in made
    assert made.count("\n| ") == 2 + len(json.loads((RECORDS / "flywheel.json").read_text())["rounds"])
    with pytest.raises(SystemExit, match="no table 'guesses'"):
        figures.current("<!-- table: guesses -->\n<!-- end -->", "page")


LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")
MADE = {"docs/reference/cli.md", "docs/reference/settings.md"}
"""Pages that are made when the site is built."""


def anchors(path: Path) -> set[str]:
    """Name the headings of a page as links do."""
    text = blocks.FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = [re.sub(r"[`*]", "", line.lstrip("#").strip()) for line in text.splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    text = blocks.FENCE.sub("", (REPOSITORY / page).read_text(encoding="utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    dead = []
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        place = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        made = place.resolve().relative_to(REPOSITORY).as_posix() in MADE
        if not made and (not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place))):
            dead.append(target)
    assert dead == []


def parsed(words: list[str], where: str) -> dict[str, Any]:
    """Parse the words behind `difflm` as the command line does, without doing anything; returns the parameters."""
    command, name, rest = tool("command_line").root(), "difflm", [*words]
    if rest and rest[0].startswith("-"):
        assert rest[0] in {spelled for option in command.params for spelled in option.opts}, where
        return {}
    while hasattr(command, "commands") and rest:
        name = rest.pop(0)
        assert name in command.commands, f"{where}: no verb {name!r}"
        command = command.commands[name]
    if rest == ["--help"]:
        return {}
    try:
        context = command.make_context(name, rest)
    except Exception as error:  # of click, or of typer's own click
        pytest.fail(f"{where}: difflm {' '.join(words)}: {error}")
    if name == "submit":
        parsed([*words[1:]], where)
    return dict(context.params)


def test_the_page_of_the_command_line_keeps_bars_and_angle_brackets_of_its_texts() -> None:
    page = tool("command_line").command_line_page()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("|")]
    assert {len(cells) for cells in rows} == {3}
    (protect,) = {" ".join(cells[0].split()) for cells in rows if "`--protect`" in cells[0]}
    assert protect == r"`--protect` on\|off"
    assert "'start &lt;= end'" in page


OTHERS = {".", "chmod", "curl", "export", "nft", "pip", "ray", "serve"}
"""Programs that are not ours, and words of the shell."""


@pytest.mark.parametrize("block", blocks.blocks("bash"), ids=str)
def test_commands_exist_with_their_options(block: Any) -> None:
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert list(blocks.commands(block)) != []
    for words in blocks.commands(block):
        ours = blocks.verb(words)
        if ours is not None:
            parsed(ours, str(block))
        elif words[0] == "make":
            assert words[1] in targets
        elif words[0].rpartition("/")[2].startswith("python"):
            assert words[1] == "-m" or (REPOSITORY / words[1]).is_file()
        else:
            assert words[0].rpartition("/")[2] in OTHERS or (REPOSITORY / words[0]).is_file()
        for extra in re.findall(r"difflm\[([a-z0-9,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras)


TABLES = {
    "people.csv": "age,city,zip,grade,name,phone,income",
    "stays.csv": "start,end,total,n,unit",
    "tools.jsonl": "",
}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that commands name, and with the configurations of all pages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFLM_DATA", str(tmp_path))
    for name, content in TABLES.items():
        (tmp_path / name).write_text(content + "\n", encoding="utf-8")
    (tmp_path / "snippets").mkdir()
    for block in blocks.blocks("yaml"):
        (tmp_path / filename(block)).write_text(block.text, encoding="utf-8")
    return tmp_path


def filename(block: Any) -> str:
    """Name the file that a block of YAML is, which its first line says; without it the block is settings of a table."""
    found = re.match(r"# ([\w-]+\.yaml)", block.text)
    return "settings.yaml" if found is None else found[1]


@pytest.mark.parametrize("block", blocks.blocks("yaml"), ids=str)
def test_configurations_load(block: Any, given: Path) -> None:
    from difflm.config import load_yaml, validate
    from difflm_evaluators.judge.rubric import Rubric
    from difflm_jobs.config import ServeSettings
    from difflm_jobs.loading import load_experiment
    from difflm_jobs.studies.ablation import cell_experiments, load_grid
    from difflm_jobs.studies.downstream_config import DownstreamConfig

    path = given / filename(block)
    table = "" if path.name != "settings.yaml" or "data:" in block.text else "data: {train: people.csv}\n"
    path.write_text(table + block.text, encoding="utf-8")  # two pages may have a file of one name
    if path.name == "grid.yaml":
        assert cell_experiments("demo", load_grid(str(path)), overrides=(), target=None, name=None)
    elif path.name == "server.yaml":
        named = {"bundles": [{"name": "adult", "path": "runs/adult"}]}  # by the command line
        assert validate(ServeSettings, {"server": {**named, **load_yaml(path)["server"]}}, path.name)
    elif path.name in ("lm.yaml", "rubric.yaml"):
        model, named = (Rubric, {}) if path.name == "rubric.yaml" else (DownstreamConfig, {"name": path.stem})
        assert validate(model, {**named, **load_yaml(path)}, path.name)
    else:
        assert load_experiment(str(path)).name == path.stem


RUNS = {"run", "plan", "prepare", "fit-decoder", "ablate", "flywheel"}


@pytest.mark.parametrize("block", [block for block in blocks.blocks("bash") if "--set" in block.text], ids=str)
def test_settings_of_commands_exist(block: Any, given: Path) -> None:
    from difflm_jobs.loading import load_experiment

    for words in blocks.commands(block):
        ours = blocks.verb(words)
        if ours is None or ours[0] not in RUNS:
            continue
        options = parsed(ours, str(block))
        asked = {"overrides": options.get("changes") or (), "constraints": options.get("constraint") or ()}
        assert load_experiment(options["config"], target=options.get("target"), **asked).name


def owners() -> dict[str, Any]:
    """What the names that examples use stand for."""
    import difflm
    from difflm.client import Client
    from difflm_evaluators import Report

    return {
        "difflm": difflm,
        "generator": difflm.Generator,
        "again": difflm.Generator,
        "report": Report,
        "client": Client,
    }


def check_python(text: str, where: str) -> None:
    """Compile a text, import what it imports, and look up what it calls on this project's objects."""
    tree = ast.parse(text, where)
    known = owners()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("difflm"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], where
            known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        if not isinstance(node, ast.Call):
            continue
        function: Any = None
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            owner = known.get(node.func.value.id)
            if owner is None:
                continue
            assert hasattr(owner, node.func.attr), f"{where}: {node.func.value.id}.{node.func.attr}"
            function = getattr(owner, node.func.attr)
        elif isinstance(node.func, ast.Name):
            function = known.get(node.func.id)
        if not callable(function):
            continue
        signature = inspect.signature(function)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            continue
        names = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
        assert set(names) <= set(signature.parameters), f"{where}: {ast.unparse(node)}"


@pytest.mark.parametrize("block", blocks.blocks("python"), ids=str)
def test_python_names_what_exists(block: Any) -> None:
    check_python(block.text, str(block))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_keeps_small_outputs_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    check_python("\n".join("".join(cell["source"]) for cell in code), path.name)
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in code) == 1
    assert len(text) < 400_000
    assert re.findall(r"(?:/home/|/root/|/work/|/tmp/[a-z])[^\"\s]*", text) == []
    assert "Traceback" not in text


def test_every_page_of_the_navigation_is_there_or_made() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"[\w/-]+\.md", text.partition("\nnav:")[2])
    hooks = (TOOLS / "hooks.py").read_text(encoding="utf-8")
    for name in named:
        notebook = REPOSITORY / "examples" / f"{Path(name).stem}.ipynb"
        assert (REPOSITORY / "docs" / name).is_file() or f'"{name}"' in hooks or notebook.is_file(), name
    assert yaml.safe_load(text)["theme"]["font"] is False
