"""The sampling endpoint under load: `difflm serve` in a process of its own, asked by clients of this one.

    python tests/benchmarks/serving.py runs/adult                                       # all parts, about 25 minutes
    python tests/benchmarks/serving.py runs/adult --only overload --overload-seconds 60
    python tests/benchmarks/serving.py runs/adult --only latency --only rate --seconds 20
    python tests/benchmarks/serving.py runs/adult --only before --before 4cbcc9e             # beside an older commit

Every part stands under its name in results/serving.json as soon as it is measured, with its own command, date and the
processors that other work took just before: parts can be measured one at a time on a quiet machine. One replica has one
core; clients, proxy and gateway share what is left.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from provenance import provenance
from serving_faults import fuzz, kill, overload, scaling
from serving_load import (
    Server,
    alone,
    client_of,
    closed_loop,
    first_row,
    one,
    open_loop,
    served,
    streamed_rate,
    summary,
    whole_stream,
)

RESULTS = Path(__file__).parent / "results" / "serving.json"
WARM_S = 10.0
SETTLE_S = 3.0
ALONE, CROWD, EACH, STREAMED = 20, 16, 6, 500  # requests and rows of a round of the part before
BLOCKS = 5  # the engine alone and the server take turns: the machine is not equally fast all the time


@dataclass(frozen=True)
class Options:
    """What the parts need."""

    bundle: Path
    folder: Path
    changes: list[str]
    seconds: float
    overload_seconds: float
    fuzz_examples: int
    before: str | None = None
    rounds: int = 5

    def served(self, replicas: int, *more: str) -> Any:
        """A server with so many replicas."""
        bounds = [f"server.replicas.{name}={replicas}" for name in ("min_replicas", "max_replicas")]
        return served(self.bundle, [*bounds, *more, *self.changes], self.folder / f"{replicas}.log")


def rate(options: Options) -> dict[str, Any]:
    """Rows per second of large streams over those of the offline engine on one core."""
    offline = Offline(options)
    streamed, alone_ = [], []
    with options.served(1) as server:
        asyncio.run(streamed_rate(server, WARM_S))
        for _ in range(BLOCKS):
            streamed.append(asyncio.run(streamed_rate(server, options.seconds / BLOCKS, settle=SETTLE_S)))
            time.sleep(1.0)  # what the streams left is given up within a step
            alone_.append(offline.rate(int(max(500, streamed[-1] * options.seconds / BLOCKS))))
    ratios = [one / other for one, other in zip(streamed, alone_, strict=True)]
    return {
        "streamed_rows_per_second": [round(value, 1) for value in streamed],
        "offline_rows_per_second": [round(value, 1) for value in alone_],
        "streamed_over_offline": round(sorted(ratios)[BLOCKS // 2], 3),
    }


class Offline:
    """`Synthesizer` on one core with the server's sampling settings."""

    def __init__(self, options: Options) -> None:
        import torch

        from difflm.synthesis.bundle import bundle_folder, load_bundle
        from difflm.synthesis.synthesizer import Synthesizer
        from difflm_jobs.cli.serve import read_settings

        torch.set_num_threads(1)
        settings = read_settings([str(options.bundle)], config=None, port=None, overrides=options.changes)
        sampling = settings.server.sampling
        loaded = load_bundle(bundle_folder(options.bundle), solver=sampling.solver_settings, precision=sampling.dtype())
        self._synthesizer = Synthesizer(loaded, sampling)
        self._synthesizer.draw_valid(range(64), seed=0)

    def rate(self, rows: int) -> float:
        """Rows per second, loading left out."""
        began = time.perf_counter()
        self._synthesizer.draw_valid(range(rows), seed=1)
        return rows / (time.perf_counter() - began)


def latency(options: Options) -> dict[str, Any]:
    """One-row requests alone and at 70 % of what the server can answer, and the first row of a large request."""
    with options.served(1) as server:
        asyncio.run(streamed_rate(server, WARM_S))
        single = summary(asyncio.run(alone(server, 50)))
        first = summary(asyncio.run(first_row(server, 10)))
        capacity = asyncio.run(closed_loop(server, options.seconds / 2, 64))
        loaded = asyncio.run(open_loop(server, 0.7 * capacity, options.seconds, 1))
    at_70 = summary([took for _, took in loaded])
    return {
        "alone": single,
        "first_row_of_many": first,
        "one_row_answers_per_second": round(capacity, 1),
        "at_70_percent": {**at_70, "statuses": dict(Counter(str(status) for status, _ in loaded))},
        "first_row_over_alone": round(first["median_ms"] / single["median_ms"], 2),
        "p99_over_alone": round(at_70["p99_ms"] / single["median_ms"], 2),
    }


def two(options: Options) -> dict[str, Any]:
    """Rows per second of two replicas over one, both ready at the same time in servers of their own."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for replicas in (1, 2, 1, 2):
        with options.served(replicas) as server:
            asyncio.run(streamed_rate(server, WARM_S))
            found[replicas].append(asyncio.run(streamed_rate(server, options.seconds / 2, settle=SETTLE_S)))
    best = {replicas: max(rates) for replicas, rates in found.items()}
    return {
        "rows_per_second": {str(replicas): [round(value, 1) for value in rates] for replicas, rates in found.items()},
        "two_over_one": round(best[2] / best[1], 3),
    }


def overloaded(options: Options) -> dict[str, Any]:
    """Ten times what fits."""
    with options.served(1) as server:
        per_second = asyncio.run(streamed_rate(server, 2 * WARM_S))
        return asyncio.run(overload(server, 10 * per_second / 100, options.overload_seconds))


def killed(options: Options) -> dict[str, Any]:
    """The process that draws rows, killed under load."""
    with options.served(1) as server:
        asyncio.run(streamed_rate(server, WARM_S))
        return asyncio.run(kill(server, options.seconds))


def scaled(options: Options) -> dict[str, Any]:
    """Replicas from none to two and back."""
    changes = [
        "server.replicas.min_replicas=0", "server.replicas.max_replicas=2", "server.replicas.target_queued_rows=1000",
        "server.replicas.upscale_delay_s=2", "server.replicas.downscale_delay_s=10", *options.changes,
    ]  # fmt: skip
    with served(options.bundle, changes, options.folder / "scaling.log") as server:
        return asyncio.run(scaling(server))


def fuzzed(options: Options) -> dict[str, Any]:
    """Requests made from the server's own document."""
    with options.served(1, "server.limits.rows_per_request=50") as server:
        return fuzz(server.url, options.fuzz_examples)


def beside(options: Options) -> dict[str, Any]:
    """The endpoint of an older commit and of this checkout, which take turns: both run, one is asked."""
    if options.before is None:
        raise typer.BadParameter("the part 'before' compares with a commit; give it", param_hint="--before")
    with older_checkout(options.before, options.folder) as (commit, checkout):
        bounds = [f"server.replicas.{name}=1" for name in ("min_replicas", "max_replicas")]
        settings = [*bounds, *options.changes]
        with (
            served(options.bundle, settings, options.folder / "before.log", checkout) as before,
            served(options.bundle, settings, options.folder / "now.log") as now,
        ):
            sides = {"before": before, "now": now}
            for server in sides.values():
                asyncio.run(streamed_rate(server, WARM_S))
            found: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
            for number in range(options.rounds):
                for side in sorted(sides, reverse=number % 2 == 1):
                    found_now = asyncio.run(figures(sides[side]))
                    print(f"round {number + 1}, {side}: {found_now}", file=sys.stderr, flush=True)
                    for name, value in found_now.items():
                        found[side].setdefault(name, []).append(value)
    medians = {side: {name: statistics.median(values) for name, values in one.items()} for side, one in found.items()}
    return {
        "before_commit": commit,
        "rounds": {side: {name: rounded(values) for name, values in one.items()} for side, one in found.items()},
        "medians": {side: dict(zip(one, rounded([*one.values()]), strict=True)) for side, one in medians.items()},
        "now_over_before": {name: round(value / medians["before"][name], 3) for name, value in medians["now"].items()},
    }


async def figures(server: Server) -> dict[str, float]:
    """One round of fixed work, by the clock and in processor time, which other work on the machine changes less."""
    found: dict[str, float] = {}
    async with client_of(server) as client:

        async def crowd() -> None:
            await asyncio.gather(*(_some(client) for _ in range(CROWD)))

        loads = {
            "one_row_alone": (ALONE, lambda: _some(client, ALONE)),
            "one_row_among_others": (CROWD * EACH, crowd),
            "row_of_a_stream": (STREAMED, lambda: whole_stream(client, STREAMED)),
        }
        for name, (units, load) in loads.items():
            spent, began = server.processor_seconds(), time.perf_counter()
            await load()
            found[f"{name}_ms"] = 1000 * (time.perf_counter() - began) / units
            found[f"{name}_cpu_ms"] = 1000 * (server.processor_seconds() - spent) / units
    return found


async def _some(client: Any, times: int = EACH) -> None:
    for _ in range(times):
        status, _ = await one(client)
        assert status == 200, status


def rounded(values: list[float]) -> list[float]:
    """What a record shows of figures."""
    return [round(value, 2) for value in values]


@contextmanager
def older_checkout(commit: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """A working tree of another commit, gone afterwards, and its short hash."""
    checkout = folder / "before"
    subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(checkout), commit], check=True)
    try:
        short = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True
        )
        yield short.stdout.strip(), checkout
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(checkout)], check=True)


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "rate": rate,
    "latency": latency,
    "two": two,
    "overload": overloaded,
    "kill": killed,
    "scaling": scaled,
    "fuzz": fuzzed,
    "before": beside,
}


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle, or a run that has one")],
    only: Annotated[list[str] | None, typer.Option(help=f"parts: {', '.join(PARTS)}; none: all")] = None,
    seconds: Annotated[float, typer.Option(help="of every measurement")] = 60.0,
    overload_seconds: Annotated[float, typer.Option(help="of ten times overload")] = 300.0,
    fuzz_examples: Annotated[int, typer.Option(help="of every operation, about; phases add theirs")] = 100,
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm serve")] = None,
    before: Annotated[str | None, typer.Option(help="an older commit, for the part of this name")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="of the part before")] = 5,
    out: Annotated[Path, typer.Option(help="where parts are put beside those that are there")] = RESULTS,
) -> None:
    """Measure parts and write them down."""
    if unknown := [name for name in only or () if name not in PARTS]:
        raise typer.BadParameter(f"no part is called {unknown[0]!r}; parts are {', '.join(PARTS)}", param_hint="--only")
    options = Options(
        bundle=bundle,
        folder=Path(tempfile.mkdtemp(prefix="difflm-bench-")),
        changes=set_ or [],
        seconds=seconds,
        overload_seconds=overload_seconds,
        fuzz_examples=fuzz_examples,
        before=before,
        rounds=rounds,
    )
    print(f"what the servers say: {options.folder}")
    for name in only or [name for name in PARTS if name != "before" or before is not None]:
        busy = psutil.cpu_percent(3.0) / 100 * (psutil.cpu_count() or 1)
        found = PARTS[name](options)
        command = " ".join(["serving.py", *sys.argv[1:]])
        found = {**found, "command": command, "cpus_of_other_work": round(busy, 1), **provenance()}
        print(json.dumps({name: found}, indent=2), flush=True)
        record = json.loads(out.read_text()) if out.exists() else {}
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps({**record, name: found}, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
