"""The server of the Model Context Protocol: the tools' names, arguments and descriptions, and errors in one form.

Each error is the JSON that the endpoint answers with, {"error": {"code", "message", "field"}}.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import Field, ValidationError

import difflm
from difflm.errors import DiffLMError, OverloadError, UserError
from difflm.serving.problems import FAULT, Problem, invalid, overloaded, validation_problem
from difflm.serving.requests import MAX_CONDITION, MAX_NAMES, SEED_BITS
from difflm_jobs.cli.agents.workbench import Workbench

_log = logging.getLogger(__name__)

FilePath = Annotated[str, Field(min_length=1, max_length=4096, description="relative to the folder, or absolute in it")]
NewFile = Annotated[
    str | None,
    Field(max_length=4096, description="write to this new file (.csv, .jsonl, .parquet, .arrow, .xlsx, .ods) instead"),
]
Run = Annotated[str, Field(max_length=64, description="the name of a run")]
Column = Annotated[str | None, Field(max_length=1000)]
Columns = Annotated[list[str] | None, Field(max_length=MAX_NAMES, description="which columns, in this order")]
Condition = Annotated[
    str | None, Field(max_length=MAX_CONDITION, description="what every row satisfies: age >= 40 and job == 'cook'")
]
Seed = Annotated[int, Field(ge=0, lt=2**SEED_BITS, description="the same seed gives the same rows")]
Quality = Literal["fast", "balanced", "best"] | None
Budget = Annotated[str | None, Field(pattern=r"^[0-9hms. ]{1,20}$", description="about how long: 90s, 10m, 1h30m")]
Answer = dict[str, Any]

INSTRUCTIONS = """Synthetic tables: inspect_table, then train (minutes; ask training_status until it has finished), then
read_report, sample and evaluate. What sample returns is synthetic; inspect_table shows values of the real table."""


class Tools:
    """The tools; the first paragraph of each docstring is what agents read."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._one = anyio.CapacityLimiter(1)  # models and scores take the whole machine

    async def inspect_table(self, table: FilePath, target: Column = None) -> Answer:
        """Say what each column of a table is taken for, why, and what share is missing. Trains nothing."""
        return await self._alone(partial(self._workbench.inspect_table, table, target))

    async def train(
        self,
        table: FilePath,
        target: Column = None,
        name: Run | None = None,
        quality: Quality = None,
        budget: Budget = None,
    ) -> Answer:
        """Learn a table in the background: train, synthesize as many rows, evaluate them. Returns at once; given again
        for the same table and name, it goes on. `target` is the column that a model would predict."""
        return self._workbench.train(table, target, name, quality, budget)

    async def training_status(self, run: Run) -> Answer:
        """Tell whether a training is running, finished, failed or stopped, and the last lines that it said."""
        return self._workbench.training_status(run)

    async def cancel_training(self, run: Run) -> Answer:
        """Ask a training to end; train with the same table and name goes on from there."""
        return self._workbench.cancel_training(run)

    async def list_runs(self) -> Answer:
        """List the runs that there are, and whether they have a report."""
        return self._workbench.list_runs()

    async def sample(
        self,
        run: Run,
        rows: Annotated[int, Field(ge=1)] = 10,
        seed: Seed = 0,
        where: Condition = None,
        balance: Column = None,
        columns: Columns = None,
        out: NewFile = None,
    ) -> Answer:
        """Draw synthetic rows of a run, all of which satisfy a condition if one is given. `balance` is a column whose
        values all come up equally often."""
        return await self._alone(partial(self._workbench.sample, run, rows, seed, where, balance, columns, out))

    async def evaluate(
        self, synthetic: FilePath, train: FilePath, test: FilePath | None = None, target: Column = None
    ) -> Answer:
        """Score synthetic rows against the real ones that they were made from: shape, trends, detection, usefulness,
        copies, privacy. `test` holds real rows that the generator never saw."""
        return await self._alone(partial(self._workbench.evaluate, synthetic, train, test, target))

    async def read_report(self, run: Run) -> Answer:
        """Return the scores of a run's synthetic rows beside those of real rows, warnings, and the worst columns."""
        return await self._alone(partial(self._workbench.read_report, run))

    async def _alone(self, call: Callable[[], Answer]) -> Answer:
        return await anyio.to_thread.run_sync(call, limiter=self._one)


TOOLS = (
    *("inspect_table", "train", "training_status", "cancel_training"),
    *("list_runs", "sample", "evaluate", "read_report"),
)


class OneForm(MCPServer[Any]):
    """A server whose tools answer every failure in one form; what is a defect is logged and not told."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool by its name."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            problem = problem_of(error)
            if problem is FAULT:
                _log.exception("the tool %r failed", name)
            return CallToolResult(content=[TextContent(type="text", text=json.dumps(problem.content))], is_error=True)


def problem_of(error: ToolError) -> Problem:
    """Return what a failed call tells: the problem or error that a tool raised, or what is wrong with its arguments."""
    cause = error.__cause__
    match cause:
        case Problem():
            return cause
        case ValidationError():
            return validation_problem([{**details, "loc": ("body", *details["loc"])} for details in cause.errors()])
        case OverloadError():
            return overloaded(str(cause))
        case UserError():
            return invalid("arguments", " ".join(str(cause).split()))
        case DiffLMError():
            return Problem(500, "failed", " ".join(str(cause).split()))
        case None:
            return Problem(404, "not_found", str(error), field="name")  # a tool that there is not
    return FAULT


def make_server(workbench: Workbench) -> MCPServer[Any]:
    """Build the server over a workbench."""
    server = OneForm("difflm", instructions=INSTRUCTIONS, version=difflm.__version__, log_level="WARNING")
    tools = Tools(workbench)
    for name in TOOLS:
        server.add_tool(getattr(tools, name))
    return server
