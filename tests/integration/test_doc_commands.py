"""Every command of README and docs is run, with few rows and tiny models, or stands below with what stands for it."""

from __future__ import annotations

import gzip
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

import pytest

from difflm.testing.hub_server import hub_of_huggingface_hub
from difflm.testing.judge_server import Reaction, judge_server, says_json

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_RUN = {
    ". ": "a word of the shell",
    "export ": "a word of the shell",
    "make check": "CI runs it before the tests",
    "make demo": "tests/integration/test_cluster.py submits its first stage; all of it takes minutes",
    "make docs": "tests/integration/test_docs.py builds the site",
    "make llm": "fetches two models; tests/integration/test_docs.py runs a notebook with them where they are installed",
    "make test": "runs this",
    ".venv/bin/python -m pytest": "runs this",
    "pip install difflm": "tests/unit/repository/test_packaging.py reads the extras",
    "pip install dist/": "tests/unit/repository/test_packaging.py installs a wheel",
    "pip wheel": "tests/unit/repository/test_packaging.py builds a wheel",
    "difflm --install-completion": "tests/unit/repository/test_packaging.py does, for a home of its own",
    "curl": "tests/security/test_running_server.py asks the same of a server",
    "ray job submit": "needs a cluster: tests/integration/test_cluster.py",
    "difflm submit": "needs a cluster: tests/integration/test_cluster.py",
    "serve deploy": "needs a cluster: tests/distributed/test_serving.py deploys",
    "difflm run postgresql:": "needs a server: tests/unit/difflm/records/databases/test_tables.py",
    "difflm run tools ": "needs ToolBench's tools: tests/integration/test_tools_and_code.py makes some",
    "difflm run magic/": "needs the published tables: tests/unit/difflm_jobs/cli/test_protocol.py",
    "difflm protocol": "needs the published tables: tests/unit/difflm_jobs/cli/test_protocol.py",
    "difflm benchmark": "makes environments for methods of others: tests/unit/difflm_jobs/benchmark",
    "difflm ablate": "trains many models: tests/unit/difflm_jobs/studies/test_ablation.py",
    "difflm flywheel": "trains many models: tests/unit/difflm_jobs/studies/test_flywheel.py",
    "difflm study": "draws from many runs: tests/unit/difflm_jobs/studies/test_study.py",
}
"""The beginnings of commands that are not run here, and what shows that they work."""
EVALUATED = "needs Ray's actors: tests/integration/test_synthesize.py"
"""Why rows are not scored here while they are made."""

PEOPLE = ["run", "people.csv", "--target", "income"]
FEW_SCORES = ["fidelity", "membership", "projection", "detection"]
COPIES = ("adult", "adult-cold", "base", "larger")
"""Runs that pages speak of; here they are copies of one."""


def flat(settings: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield settings as `--set` takes them."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}={json.dumps(value)}"


def reason(words: list[str]) -> str | None:
    """Why a command is not run here; None for one that is."""
    line = " ".join(words)
    if {"--evaluate", "--evaluate-against"} & set(words):
        return EVALUATED
    return next((why for beginning, why in NOT_RUN.items() if f"{line} ".startswith(beginning)), None)


def write_lines(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_others(folder: Path) -> None:
    """The tables that are not about people, and records of other kinds."""
    draw = random.Random(2)
    days = [(draw.randint(1, 20), draw.randint(1, 7), draw.randint(1, 9), draw.randint(20, 90)) for _ in range(700)]
    tables = {
        "stays.csv": ["start,end,nights,n,unit,total"]
        + [f"2026-05-{day:02},2026-05-{day + long:02},{long},{n},{u},{n * u}" for day, long, n, u in days],
        "visits.csv": ["customer_id,month,amount"]
        + [f"{index // 2},{'abc'[index % 3]},{draw.randint(1, 9)}" for index in range(5000)],
        "many.csv": ["age,income"] + [f"{draw.randint(20, 70)},{'<>'[index % 2]}" for index in range(2500)],
        "patients.csv": ["age,diagnosis"] + [f"{20 + u},{'ABC'[n % 3]}" for _, _, n, u in days],
        "named.csv": ["name,phone,zip,income"]
        + [f"Ann {index},+1 555 {index:04},{10000 + day},{n % 2}" for index, (day, _, n, _) in enumerate(days)],
        "tickets.csv": ["text"] + [f"the printer of room {day} is out of paper" for day, *_ in days[:3]],
        "server.yaml": ["server: {}"],
        "mine.yaml": ["data: {train: people.csv, target: income}"],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "snippets").mkdir()
    for index, (day, long, n, u) in enumerate(days[:80]):
        text = f"def area_{index}(width, height={day}):\n    return width * height + {long} * {n} - {u}\n"
        (folder / "snippets" / f"area_{index}.py").write_text(text, encoding="utf-8")
    solved = {"task_id": "x/0", "prompt": "def one():\n", "entry_point": "one", "canonical_solution": "    return 1\n"}
    problem = {**solved, "test": "def check(candidate):\n    assert candidate() == 1\n"}
    (folder / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(problem).encode() + b"\n"))
    write_lines(folder / "samples.jsonl", [{"task_id": "x/0", "completion": "    return 1\n"}])
    write_lines(folder / "tools.jsonl", tools("real", 80))
    write_lines(folder / "real.jsonl", tools("real", 4))


WANTED = json.dumps([{"name": "q", "type": "STRING", "description": "what is looked for", "required": True}])


def tools(side: str, count: int) -> list[dict[str, str]]:
    """Records of tools, as a table of them has them."""
    texts = ("tool_name", "tool_description", "api_name", "api_description")
    return [
        {
            "category": ("Food", "Music")[index % 2],
            **{name: f"{side} {name} {index}" for name in texts},
            "parameters": WANTED,
        }
        for index in range(count)
    ]


def synthetic(folder: Path, words: list[str]) -> None:
    """Write synthetic.jsonl with records of the kind that a command takes it for."""
    code = [{"code": path.read_text("utf-8")} for path in sorted((folder / "snippets").glob("*_1?.py"))]
    write_lines(folder / "synthetic.jsonl", code if "snippets" in words else tools("synthetic", 12))


def remove(path: Path) -> None:
    """Take away a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class Shortened:
    """Commands of the pages with few rows and tiny models, in a folder that has what they name."""

    def __init__(self, folder: Path, tiny: dict[str, Any], judge: str) -> None:
        self.folder = folder
        self.tiny = [part for change in flat(tiny) for part in ("--set", change)]
        self.judge = judge

    def here(self, words: list[str]) -> list[str]:
        """Return what to call in place of the words behind `difflm`."""
        words = [self._place(word) for word in words]
        more: list[str] = []
        match words[0]:
            case "run":
                words = self._run(words)
            case "plan":
                more = self.tiny
            case "diagnose":
                more = ["--rows", "40"]
            case "evaluate" if "--kind" not in words:
                more = [part for name in FEW_SCORES for part in ("--set", f"evaluation.{name}=null")]
            case "serve" if "--build" not in words:
                more = ["--build", "served.yaml"]  # all but listening
            case "judge":
                more = ["--base-url", self.judge, "--cache", "none", "--out", f"judged-{words[1]}"]
        return [*words, *more]

    def _place(self, word: str) -> str:
        bundle = next(self.folder.glob("runs/adult/artifacts/bundle-*"), Path("BUNDLE"))
        word = "20" if re.fullmatch(r"\d{3,}", word) else word
        word = re.sub(r"(^|=)(~/|/)(?=shared/|\.ssh/|tables)|^s3://", r"\1", word)
        return {"BUNDLE": str(bundle)}.get(word, word)

    def _run(self, words: list[str]) -> list[str]:
        """Runs of people.csv and stays.csv are trained, once; others end behind the stage that reads their options."""
        if words[:4] == PEOPLE and not set(words[4::2]) - {"--quality", "--budget"}:
            return [*PEOPLE, *self.tiny]
        if words[1] == "stays.csv":
            return [*words, *self.tiny]
        dropped, private = any("drop=" in word for word in words), "--epsilon" in words
        other = "named.csv" if dropped else "many.csv" if private else "people.csv"
        words = [other if word == "people.csv" else word for word in words]
        return [*(words[: words.index("--until")] if "--until" in words else words), "--until", "prepare"]

    def make_ready(self, words: list[str]) -> None:
        """Bring what a command reads, and take away what another page made where it writes."""
        run = self.folder / "runs" / "people"
        for name in COPIES if run.exists() else ():
            if words[0] == "compare" or not (run.parent / name).exists():
                remove(run.parent / name)
                shutil.copytree(run, run.parent / name)
        if words[0] == "compare":
            (self.folder / "evaluation").mkdir(exist_ok=True)
            shutil.copy(next(run.glob("artifacts/report-*/report.json")), self.folder / "evaluation")
        for shared in {"shop=shared/shoppers", "shared/runs/adult"} & set(words):
            place = self.folder / shared.removeprefix("shop=")
            shutil.copytree(next(run.glob("artifacts/bundle-*")), place, dirs_exist_ok=True)
        if words[:2] == ["evaluate", "rows.csv"]:
            shutil.copy(self.folder / "theirs.csv", self.folder / "rows.csv")
        if "synthetic.jsonl" in words:
            synthetic(self.folder, words)
        if "--out" in words and words[0] != "judge":
            remove(self.folder / words[words.index("--out") + 1])
        for name in ("people.difflm", "people.yaml"):
            if words[0] in ("export", "init"):
                remove(self.folder / name)


def grades(body: dict[str, Any], number: int) -> Reaction:
    """Answer every question of a judge: five, and the first of two sides."""
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    chosen = {name: of.get("enum", ["r" if name == "reason" else 5])[0] for name, of in properties.items()}
    return says_json(chosen)


def agents(folder: Path, words: list[str]) -> None:
    """Start a server of agents that nobody speaks to."""
    (folder / "tables").mkdir(exist_ok=True)
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    command = [sys.executable, "-m", "difflm_jobs", *words]
    environment = {**os.environ, "PYTHONPATH": roots}
    subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=True, timeout=120)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own uploads
def test_commands_of_the_pages_run(
    blocks: ModuleType,
    people: Path,
    tiny: dict[str, Any],
    in_this_process: Any,
    difflm: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(people)
    monkeypatch.setenv("DIFFLM_DATA", str(people))
    monkeypatch.setenv("XDG_CACHE_HOME", str(people / "cache"))
    write_others(people)
    (rubric,) = [block for block in blocks.blocks("yaml") if block.text.startswith("# rubric.yaml")]
    (people / "rubric.yaml").write_text(rubric.text, encoding="utf-8")
    first = ["README.md", "docs/guide/quickstart.md"]
    pages = sorted(blocks.blocks("bash"), key=lambda block: (block.page not in first, block.page, block.line))
    done: list[list[str]] = []
    failed: list[str] = []
    with judge_server(grades) as judge, hub_of_huggingface_hub(people / "cache", monkeypatch):
        short = Shortened(people, tiny, judge.base_url)
        for block in pages:
            for given in blocks.commands(block):
                given = [word.removeprefix(".venv/bin/") if word == ".venv/bin/difflm" else word for word in given]
                if reason(given) is not None:
                    continue
                ours = short.here(blocks.verb(given) or pytest.fail(f"{block}: {given} is neither run nor excused"))
                if ours in done:
                    continue
                short.make_ready(ours)
                if ours[0] == "mcp":
                    agents(people, ours)
                    continue
                ended = difflm(*ours)
                gated = (
                    "--gate" in ours and ended.code == 1 and "gate" in ended.err
                )  # a tiny model keeps to no standard
                if ended.code != 0 and not gated:
                    failed.append(f"{block}: difflm {' '.join(ours)}\n{ended.err}")
                done.append(ours)
    assert failed == [], "\n".join(failed)
    verbs = {words[0] for words in done}
    assert verbs >= {"run", "synthesize", "impute", "evaluate", "show", "inspect", "export", "push", "judge", "sign"}


def test_what_is_not_run_is_said_of_commands_that_there_are_and_of_tests_that_there_are(blocks: ModuleType) -> None:
    given = [" ".join(words) + " " for block in blocks.blocks("bash") for words in blocks.commands(block)]
    unused = [name for name in NOT_RUN if not any(line.startswith(name) for line in given)]
    assert unused == []
    named = [path for why in (*NOT_RUN.values(), EVALUATED) for path in re.findall(r"tests/[\w./]+", why)]
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
