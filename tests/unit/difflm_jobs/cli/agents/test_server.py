"""The tools for agents: through the protocol's own client, in memory and over a process's standard input and output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

import difflm
from difflm.errors import ConfigError
from difflm.testing.processes import wait_until
from difflm_jobs.cli.agents import verb
from difflm_jobs.cli.agents import workbench as workbench_module
from difflm_jobs.cli.agents.server import TOOLS, make_server
from difflm_jobs.cli.agents.trainings import Trainings
from difflm_jobs.cli.agents.workbench import AgentLimits, Workbench

PEOPLE = pa.table({"age": [20 + row % 40 for row in range(120)], "job": ["cook", "pilot", "nurse"] * 40})
LIMITS = AgentLimits(rows=20, rows_in_file=40, table_bytes=10_000)
SCRIPT = "import sys, time; print('at work', flush=True); time.sleep(60 if '--name=slow' in sys.argv else 0)"
FAILS = "import sys; print('error: no such column'); sys.exit(2)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that may be used, with a table, beside one that may not."""
    folder = tmp_path / "root"
    (folder / "runs").mkdir(parents=True)
    arrow_csv.write_csv(PEOPLE, folder / "people.csv")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    return folder


class Drawn:
    """A generator whose rows say what they were drawn with."""

    def batches(self, n: int, **asked: Any) -> list[pa.RecordBatch]:
        return pa.table({"index": range(n), "seed": [asked["seed"]] * n, "where": [asked["where"]] * n}).to_batches()


@pytest.fixture
def with_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (root / "runs" / "mixed").mkdir()
    monkeypatch.setattr(difflm, "load", lambda _: Drawn(), raising=False)
    return root


def bench(root: Path, script: str = SCRIPT, limits: AgentLimits = LIMITS) -> Workbench:
    runs = root.resolve() / "runs"
    trainings = Trainings(runs, most=limits.trainings, command=(sys.executable, "-c", script))
    return Workbench([root.resolve()], runs, limits, trainings)


def ask(workbench: Workbench, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Call tools of a server in this process; returns what each answered: its content, or the problem."""
    answers: list[Any] = []

    async def talk() -> None:
        async with Client(make_server(workbench)) as client:
            for name, arguments in calls:
                answers.append(_content(await client.call_tool(name, arguments)))

    with workbench:
        anyio.run(talk)
    return answers


def _content(result: Any) -> Any:
    if result.is_error:
        found = json.loads(result.content[0].text)
        assert list(found) == ["error"]
        assert sorted(found["error"]) == ["code", "field", "message"]
        return found["error"]
    return result.structured_content


def test_every_tool_has_a_description_and_bounded_arguments(root: Path) -> None:
    listed: list[Any] = []

    async def talk() -> None:
        async with Client(make_server(bench(root))) as client:
            listed.extend((await client.list_tools()).tools)

    anyio.run(talk)
    assert sorted(tool.name for tool in listed) == sorted(TOOLS)
    assert all(tool.description for tool in listed)
    sample = next(tool for tool in listed if tool.name == "sample").input_schema["properties"]
    assert sample["rows"]["minimum"] == 1
    assert sample["seed"]["exclusiveMaximum"] == 2**53


def test_a_table_is_inspected_and_evaluated(root: Path) -> None:
    inspected, scored = ask(
        bench(root),
        ("inspect_table", {"table": "people.csv"}),
        ("evaluate", {"synthetic": "people.csv", "train": str(root / "people.csv")}),
    )
    assert [(line["column"], line["kind"]) for line in inspected["columns"]] == [
        ("age", "integer"),
        ("job", "categorical"),
    ]
    scores = {score["name"]: score for score in scored["scores"]}
    assert scores["shape_error"]["value"] == pytest.approx(0, abs=1e-9)
    assert scored["rows"]["train"] == 120


def test_rows_are_drawn_under_conditions_and_within_the_limits(with_run: Path) -> None:
    few = {"run": "mixed", "rows": 3, "seed": 5, "where": "age >= 40"}
    first, written, many, there = ask(
        bench(with_run),
        ("sample", few),
        ("sample", {**few, "out": "rows.csv"}),
        ("sample", {**few, "rows": 21}),
        ("sample", {**few, "out": "rows.csv"}),
    )
    assert first["rows"] == [{"index": index, "seed": 5, "where": "age >= 40"} for index in range(3)]
    assert (written["written"], (with_run / "rows.csv").read_text().count("\n")) == (3, 4)
    assert (many["code"], many["field"]) == ("too_large", "rows")
    assert "with out, a file takes 40" in many["message"]
    assert (there["code"], there["field"]) == ("conflict", "out")


@pytest.mark.parametrize("path", ["../secret.csv", "link.csv", "/etc/passwd", "runs/../../secret.csv"])
def test_no_path_leads_out_of_the_folders(root: Path, path: str) -> None:
    read, written = ask(
        bench(root),
        ("inspect_table", {"table": path}),
        ("sample", {"run": "mixed", "out": path}),
    )
    assert (read["code"], read["field"]) == ("forbidden", "table")
    assert (written["code"], written["field"]) == ("forbidden", "out")


def test_a_name_that_no_file_has_is_no_fault_of_the_server(root: Path) -> None:
    long = "x" * 300 + ".csv"
    read, written = ask(bench(root), ("inspect_table", {"table": long}), ("sample", {"run": "mixed", "out": long}))
    assert (read["code"], read["field"]) == ("invalid", "table")
    assert (written["code"], written["field"]) == ("invalid", "out")


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "field"),
    [
        ("inspect_table", {"table": "none.csv"}, "not_found", "table"),
        ("inspect_table", {"table": "people.yaml"}, "invalid", "table"),
        ("inspect_table", {"table": "postgresql://u:s3cret@h/db?table=a"}, "invalid", "table"),
        ("inspect_table", {"table": "x" * 5000}, "invalid", "table"),
        ("inspect_table", {"table": "a\0b.csv"}, "invalid", "table"),
        ("train", {"table": "${HOME}.csv"}, "invalid", "table"),
        ("sample", {"run": "mixed", "out": "${HOME}.csv"}, "invalid", "out"),
        ("inspect_table", {}, "invalid", "table"),
        ("inspect_table", {"table": "people.csv", "target": "wage"}, "invalid", "arguments"),
        ("train", {"table": "people.csv", "name": "../x"}, "invalid", "run"),
        ("train", {"table": "people.csv", "target": "a\0b"}, "invalid", "target"),
        ("train", {"table": "people.csv", "budget": "--set x"}, "invalid", "budget"),
        ("training_status", {"run": "none"}, "not_found", "run"),
        ("read_report", {"run": "none"}, "not_found", "run"),
        ("sample", {"run": "none"}, "not_found", "run"),
        ("sample", {"run": "none", "rows": 0}, "invalid", "rows"),
        ("sample", {"run": "none", "where": "a" * 5000}, "invalid", "where"),
        ("no_such_tool", {}, "not_found", "name"),
    ],
)
def test_what_cannot_be_is_a_problem_in_one_form(
    root: Path, tool: str, arguments: dict[str, Any], code: str, field: str
) -> None:
    (found,) = ask(bench(root), (tool, arguments))
    assert (found["code"], found["field"]) == (code, field)
    assert "s3cret" not in found["message"]
    assert "\n" not in found["message"]


def test_a_path_tells_nothing_of_the_environment(root: Path) -> None:
    """A run took such a name for a variable, and its error, which agents are shown, held the value."""
    (root / "${HOME}.csv").write_text("a,b\n1,2\n")
    (found,) = ask(bench(root), ("train", {"table": "${HOME}.csv"}))
    assert (found["code"], found["field"]) == ("invalid", "table")


def test_links_among_the_runs_lead_out_of_nothing(root: Path, tmp_path: Path) -> None:
    """A folder from elsewhere may hold them: what they lead to was shown as a training's words, or emptied for them."""
    (tmp_path / "key.log").write_text("s3cret")
    (root / "runs" / ".logs").mkdir()
    (root / "runs" / ".logs" / "key.log").symlink_to(tmp_path / "key.log")
    shown, started = ask(
        bench(root), ("training_status", {"run": "key"}), ("train", {"table": "people.csv", "name": "key"})
    )
    assert shown["code"] == started["code"] == "forbidden"
    (root / "runs" / ".logs" / "key.log").unlink()
    (root / "runs" / ".logs").rmdir()
    (root / "runs" / ".logs").symlink_to(tmp_path)
    (started,) = ask(bench(root), ("train", {"table": "people.csv", "name": "key"}))
    assert started["code"] == "forbidden"
    assert (tmp_path / "key.log").read_text() == "s3cret"


def test_links_and_settings_of_a_run_lead_out_of_nothing(with_run: Path, tmp_path: Path) -> None:
    """Through a link, rows came of another run; and the error of settings elsewhere showed what is in them."""
    run = with_run / "runs" / "mixed"
    (run / "work").mkdir()
    (run / "work" / "inside").symlink_to(run)
    drawn = ("sample", {"run": "mixed"})
    (fine,) = ask(bench(with_run), drawn)
    assert fine["rows"]
    (run / "config.yaml").write_text("extends: /home/ann/secrets.yaml")
    (found,) = ask(bench(with_run), drawn)
    assert found["code"] == "forbidden"
    (run / "config.yaml").write_text("name: mixed")
    for name in ("artifacts", "work/deeper"):
        (run / name).symlink_to(tmp_path)
        found = ask(bench(with_run), drawn, ("read_report", {"run": "mixed"}), ("training_status", {"run": "mixed"}))
        assert [each["code"] for each in found] == ["forbidden"] * 3
        (run / name).unlink()


def test_a_folder_of_runs_that_leads_elsewhere_is_asked_for(root: Path, tmp_path: Path) -> None:
    (root / "runs").rmdir()
    (root / "runs").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"runs: leads to .*; give --runs"):
        Workbench.over([root])
    with Workbench.over([root], runs=root / "runs") as workbench:
        assert workbench.list_runs() == {"runs": []}


def test_a_table_that_is_too_large_is_refused(root: Path) -> None:
    (root / "large.csv").write_text("a\n" + "1\n" * 6000)
    (found,) = ask(bench(root), ("inspect_table", {"table": "large.csv"}))
    assert (found["code"], found["field"]) == ("too_large", "table")


def test_a_defect_is_logged_and_not_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr(workbench_module.Workbench, "list_runs", broken)
    (found,) = ask(bench(root), ("list_runs", {}))
    assert found["code"] == "internal"
    assert "s3cret" not in json.dumps(found)
    assert "s3cret" in caplog.text


def test_a_training_runs_beside_is_cancelled_and_only_so_many_run(root: Path) -> None:
    workbench = bench(root)
    started, twice, other, _, cancelled = ask(
        workbench,
        ("train", {"table": "people.csv", "name": "slow", "target": "job"}),
        ("train", {"table": "people.csv", "name": "slow"}),
        ("train", {"table": "people.csv"}),
        ("training_status", {"run": "slow"}),
        ("cancel_training", {"run": "slow"}),
    )
    assert (started["run"], started["state"]) == ("slow", "running")
    assert (twice["code"], other["code"]) == ("conflict", "overloaded")
    assert cancelled == {"run": "slow", "cancelled": True}
    assert workbench.training_status("slow")["state"] == "stopped"


@pytest.mark.parametrize(
    ("script", "state", "said"), [(SCRIPT, "finished", "at work"), (FAILS, "failed", "no such column")]
)
def test_a_training_tells_how_it_ended(root: Path, script: str, state: str, said: str) -> None:
    with bench(root, script) as workbench:
        workbench.train("people.csv", None, None, "fast", "10m")
        wait_until(lambda: workbench.training_status("people")["state"] != "running", what="ended", timeout_s=60)
        status = workbench.training_status("people")
    assert (status["state"], said in status["said"][-1]) == (state, True)


def test_a_run_is_asked_for_with_what_the_agent_wanted(root: Path) -> None:
    shows = "import sys; print(sys.argv[1:])"
    with bench(root, shows) as workbench:
        workbench.train("people.csv", "job", None, "fast", "10m")
        wait_until(lambda: workbench.training_status("people")["state"] != "running", what="ended", timeout_s=60)
        (said,) = workbench.training_status("people")["said"]
    folder = root.resolve()
    assert said == str(
        [
            str(folder / "people.csv"),
            *("--target=job", "--name=people", "--quality=fast", "--budget=10m", f"--runs={folder / 'runs'}"),
        ]
    )


def test_the_command_speaks_the_protocol_over_its_standard_input_and_output(root: Path) -> None:
    arguments = ["-m", "difflm_jobs", "mcp", "--root", str(root), "--max-rows", "5"]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    answers: list[Any] = []

    async def talk() -> None:
        async with Client(server) as client:
            answers.append(sorted(tool.name for tool in (await client.list_tools()).tools))
            answers.append(_content(await client.call_tool("list_runs", {})))
            answers.append(_content(await client.call_tool("inspect_table", {"table": "people.csv"})))
            answers.append(_content(await client.call_tool("inspect_table", {"table": "link.csv"})))

    anyio.run(talk)
    names, runs, inspected, refused = answers
    assert names == sorted(TOOLS)
    assert runs == {"runs": []}
    assert [line["column"] for line in inspected["columns"]] == ["age", "job"]
    assert refused["code"] == "forbidden"


def test_a_client_that_goes_away_within_a_call_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def run(self, transport: str) -> None:
            raise ExceptionGroup("tasks", [ExceptionGroup("tasks", [BrokenPipeError()])])

    monkeypatch.setattr("difflm_jobs.cli.agents.server.make_server", lambda workbench: Gone())
    verb.mcp(root=[tmp_path], runs=None, max_rows=1, max_rows_in_file=1, max_table_mib=1, max_trainings=1)
