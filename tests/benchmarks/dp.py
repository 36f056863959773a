"""Differential privacy measured: scores at several epsilons beside other methods, and attacks on the promise.

    python tests/benchmarks/dp.py scores [--table adult] [--train-rows N] [--minutes M] [--epsilon 1 --epsilon 3 ...]
    python tests/benchmarks/dp.py summaries [--table adult] [--epsilon 1 ...]
    python tests/benchmarks/dp.py audit

`scores` runs `difflm benchmark` once for every epsilon, each method with the same rows, epsilon and delta: our private
decoder (`private`), the same without DP-SGD (`fitted_counts`), MST and TabularARGN's own DP training. All of Adult
takes about an hour for each epsilon on two cores; --train-rows 3000 --minutes 5 shows that everything runs.

`summaries` scores 10,000 rows that are drawn from the private counts themselves, without a decoder: half a minute each.
With --methods it scores as many rows of others beside them: whole private runs of ours (`private`, and `fitted_counts`
without DP-SGD), MST and TabularARGN's own DP training, five to twenty minutes of one core each.

`audit` tries to find out whether one record was there: by the noisy gradient of a single step along the record's own
gradient, and by the private counts of a table in which the record's value is rare. What an attack finds bounds epsilon
from below (Clopper-Pearson, 95 %); the promise holds where that bound is below what was promised.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
import typer
import yaml
from provenance import provenance
from scipy.stats import beta
from torch import Tensor, nn

from difflm.artifacts import ArtifactStore
from difflm.config import apply_overrides
from difflm.models.compact import CompactDecoderConfig, build_compact_llama
from difflm.models.prompt import Prompt, causal_nll
from difflm.privacy.budget import PrivacyConfig, Steps, epsilon_of
from difflm.privacy.surrogate import summarize
from difflm.records.kinds.columns import conform_table
from difflm.telemetry import Stopwatch
from difflm.training.private.clipped_gradients import ClippedGradients
from difflm.training.private.engine import PrivateEngine
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.privacy.privacy import PrivacyConfig as PrivacyScores
from difflm_evaluators.scores.utility import UtilityConfig
from difflm_jobs.benchmark.cells import Bench, make_rows
from difflm_jobs.benchmark.environments import cache_folder
from difflm_jobs.benchmark.methods import read_methods
from difflm_jobs.benchmark.tables import BenchmarkTable, read_benchmark_table
from difflm_jobs.studies.protocol import read_rows

RESULTS = Path(__file__).parent / "results"
METHODS = ("real", "private", "fitted_counts", "mst", "tabularargn_dp")
EPSILONS = (1.0, 3.0, 10.0)
DELTA = 1e-5
ROWS = 2000

app = typer.Typer()


@app.command()
def scores(
    table: Annotated[str, typer.Option(help="a preset or a table")] = "adult",
    train_rows: Annotated[int | None, typer.Option(help="of all training rows")] = None,
    minutes: Annotated[float, typer.Option(help="of each method")] = 90.0,
    epsilon: Annotated[list[float] | None, typer.Option(help="may be repeated")] = None,
    methods: Annotated[str, typer.Option(help="with commas")] = ",".join(METHODS),
    count: Annotated[int | None, typer.Option(help="rows to make; by default as many as are learned")] = None,
    epochs: Annotated[float, typer.Option(help="passes of DP-SGD over the rows")] = 8.0,
    protocol: Annotated[bool, typer.Option(help="score by the published protocol as well")] = True,
    set_: Annotated[list[str] | None, typer.Option("--set", help="as of difflm benchmark")] = None,
    own: Annotated[list[str] | None, typer.Option(help="settings of ours, such as decoder_fit.steps=300")] = None,
    runs: Annotated[Path, typer.Option(help="folder of the results")] = Path("runs/dp"),
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS / "dp.json",
) -> None:
    """Run the methods at every epsilon and write the record."""
    record: dict[str, Any] = {"command": " ".join(sys.argv), **provenance(), "delta": DELTA, "epsilons": {}}
    for each in epsilon or EPSILONS:
        folder = runs / f"{table.replace('/', '-')}-{each:g}"
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "methods.yaml"
            file.write_text(yaml.safe_dump({"methods": _own(each, epochs, apply_overrides({}, own or []))}))
            command = [sys.executable, "-m", "difflm_jobs", "benchmark", table, "--methods", methods]
            command += ["--method-file", str(file), "--minutes", str(minutes), "--out", str(folder)]
            for name in ("mst", "tabularargn_dp"):
                if name in methods.split(","):
                    command += ["--set", f"{name}.epsilon={each}", "--set", f"{name}.delta={DELTA}"]
            command += ["--train-rows", str(train_rows)] if train_rows is not None else []
            command += ["--count", str(count)] if count is not None else []
            command += [] if protocol else ["--no-protocol"]
            command += [part for text in set_ or [] for part in ("--set", text)]
            subprocess.run(command, check=True)
        record["epsilons"][f"{each:g}"] = json.loads((folder / "benchmark.json").read_text())
        out.write_text(json.dumps(record, indent=1))


def _own(epsilon: float, epochs: float, config: dict[str, Any]) -> dict[str, Any]:
    privacy = {"epsilon": epsilon, "delta": DELTA, "epochs": epochs}
    return {
        "private": {
            "title": "DiffLM, DP-SGD",
            "module": "difflm_run",
            "settings": {"config": {**config, "privacy": privacy}},
        },
        "fitted_counts": {
            "title": "DiffLM, private counts",
            "module": "difflm_run",
            "settings": {"config": {**config, "privacy": {**privacy, "epochs": 0}}},
        },
    }


@app.command()
def summaries(
    table: Annotated[str, typer.Option(help="a preset or a table")] = "adult",
    epsilon: Annotated[list[float] | None, typer.Option(help="may be repeated")] = None,
    count: Annotated[int, typer.Option(help="rows to draw")] = 10_000,
    methods: Annotated[str, typer.Option(help="with commas, of private, fitted_counts, mst and tabularargn_dp")] = "",
    minutes: Annotated[float, typer.Option(help="of each of these")] = 60.0,
    epochs: Annotated[float, typer.Option(help="passes of DP-SGD over the rows")] = 8.0,
    runs: Annotated[Path, typer.Option(help="folder of their rows")] = Path("runs/dp"),
    out: Annotated[Path, typer.Option(help="where the record goes; what it has of other epsilons stays")] = RESULTS
    / "dp_summaries.json",
) -> None:
    """Score rows of the counts alone, the whole budget spent on them, beside those of other methods."""
    found = read_benchmark_table(table, target=None, train_rows=None)
    record: dict[str, Any] = {"command": " ".join(sys.argv), **provenance(), "delta": DELTA, "about": found.about}
    record |= {"train_rows": found.train.num_rows, "rows": count}
    record["epsilons"] = json.loads(out.read_text())["epsilons"] if out.is_file() else {}
    parts = EvaluationConfig(
        privacy=PrivacyScores(threads=1),
        utility=UtilityConfig(seeds=(0,), threads=1),
        **dict.fromkeys(("detection", "fidelity", "membership", "attacks", "projection")),
    )
    random = np.random.default_rng(0)  # of the real rows as many are compared with
    train, test = (each.take(random.permutation(each.num_rows)[:count]) for each in (found.train, found.test))
    splits = RealSplits(train=train, test=test)
    for each in epsilon or EPSILONS:
        scored = record["epsilons"].setdefault(f"{each:g}", {})
        for name in ("counts", *filter(None, methods.split(","))):
            if "value" in scored.get(name, {}).get("shape_error", {}):
                continue
            if name == "counts":
                made, facts = _counted(found, each, count)
            else:
                made, facts = _made(found, name, each, count, minutes, runs, epochs)
            scored[name] = {"facts": {**facts, "command": record["command"], **provenance()}}
            if isinstance(made, str):
                scored[name] |= {"reason": made}
            else:
                scores = evaluate_table(made, splits, found.schema, parts).scores
                scored[name] |= {score.name: {"value": score.value, "real": score.baseline} for score in scores}
            print(f"epsilon {each:g}, {name}: {json.dumps(scored[name])}", flush=True)
            out.write_text(json.dumps(record, indent=1) + "\n")


def _counted(found: BenchmarkTable, epsilon: float, count: int) -> tuple[pa.Table | str, dict[str, Any]]:
    config = PrivacyConfig(epsilon=epsilon, delta=DELTA, epochs=0)
    with Stopwatch() as watch:
        summary = summarize(found.train, np.arange(found.train.num_rows), config, target=found.spec.target)
        made = summary.draw(count, found.train.schema, np.random.default_rng(0))
    return made, {"wall_seconds": round(watch.seconds, 3)}


def _made(
    found: BenchmarkTable, name: str, epsilon: float, count: int, minutes: float, runs: Path, epochs: float
) -> tuple[pa.Table | str, dict[str, Any]]:
    """Return the rows of a method within the minutes, or why there are none; and what they took."""
    own = _own(epsilon, epochs, {})
    overrides = [] if name in own else [f"{name}.epsilon={epsilon}", f"{name}.delta={DELTA}"]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "methods.yaml"
        file.write_text(yaml.safe_dump({"methods": own}))
        (method,) = read_methods([name], overrides=overrides, file=file)
    folder = runs / "summaries"
    store = ArtifactStore(folder)
    bench = Bench(
        table=found,
        store=store,
        folder=folder / "table",
        hashes=found.write(folder / "table"),
        rows=count,
        minutes=minutes,
        cache=cache_folder(None),
        evaluation=EvaluationConfig(),
        protocol=False,
        say=print,
    )
    cell = make_rows(bench, method, 0)
    facts = {key: cell.facts[key] for key in ("wall_seconds", "seconds", "peak_mib", "notes") if key in cell.facts}
    if cell.rows is None:
        return cell.reason or "no rows", facts
    return conform_table(read_rows(cell.rows), found.schema), facts


@app.command()
def audit(
    trials: Annotated[int, typer.Option(help="steps with and without the record, each")] = 2000,
    tables: Annotated[int, typer.Option(help="summaries with and without the record, each")] = 200,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS / "dp_audit.json",
) -> None:
    """Attack, print and write what was found."""
    record: dict[str, Any] = {"command": " ".join(sys.argv), **provenance()}
    record["step"] = _audited_step(trials)
    record["counts"] = _audited_counts(tables)
    for name in ("step", "counts"):
        found = record[name]
        print(f"{name}: an attack shows epsilon >= {found['at_least']:.3f}; promised {found['promised']:.3f}")
    out.write_text(json.dumps(record, indent=1))


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = CompactDecoderConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16)
        self.model = build_compact_llama(config, vocabulary_size=30, bos_id=1, pad_id=0, longest=20)

    def nats_B(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        prompt = Prompt(embeds_BKD=torch.zeros(len(ids_BT), 1, 16))
        return causal_nll(self.model, prompt, ids_BT, lengths_B, bos_id=1).sum(dim=1)

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self.nats_B(**batch).mean()}


def _audited_step(trials: int) -> dict[str, float]:
    """Tell one step with a record from one without, by the noisy gradient along the record's own."""
    decoder, steps = _Decoder(), Steps(rate=1.0, noise=1.0, steps=1)
    one = {"ids_BT": torch.arange(2, 10)[None], "lengths_B": torch.tensor([8])}
    none = {name: value[:0] for name, value in one.items()}
    engine = PrivateEngine(
        decoder, steps=steps, units=1, largest_nats=50.0, chunk_rows=8, device=torch.device("cpu"), precision="float32"
    )
    own, _ = ClippedGradients(model=decoder.model)(lambda: decoder.nats_B(**one))

    def along(batch: dict[str, Tensor]) -> float:
        loss = float(engine.forward(batch)["loss"])
        gradient = sum(float((value.grad * own[name]).sum()) for name, value in decoder.model.named_parameters())
        return gradient + 0.1 * 0.1 * loss / 50.0

    found = [[along(batch) for _ in range(trials)] for batch in (none, one)]
    return {"at_least": lower_bound(*found, DELTA), "promised": epsilon_of(0.0, steps, DELTA), "trials": trials}


def _audited_counts(tables: int) -> dict[str, float]:
    """Tell the summaries of a table with a record from those without, by the count of the record's value."""
    random, config = np.random.default_rng(0), PrivacyConfig(epsilon=2.0, epochs=0)
    common = random.choice(["a", "b"], ROWS)
    found: list[list[float]] = []
    for extra in (0, 1):
        values = [*common.tolist(), *["c"] * (100 + extra)]
        table = pa.table({"x": values, "y": [value == "c" for value in values]})
        counts = []
        for _ in range(tables):
            summary = summarize(table, np.arange(len(values)), config, target=None)
            known = dict(zip(summary.columns[0].values, summary.columns[0].counts_K, strict=False))
            counts.append(float(known.get("c", 0.0)))
        found.append(counts)
    return {"at_least": lower_bound(*found, DELTA), "promised": config.epsilon, "trials": tables}


def lower_bound(without: Sequence[float], with_record: Sequence[float], delta: float) -> float:
    """Return the epsilon that the best threshold of half of the trials shows on the other half, at 95 %."""
    half = len(without) // 2
    candidates = np.quantile([*without[:half], *with_record[:half]], np.linspace(0.01, 0.99, 99))
    best = max(candidates, key=lambda cut: _shown(without[:half], with_record[:half], cut, delta))
    return _shown(without[half:], with_record[half:], best, delta)


def _shown(without: Sequence[float], with_record: Sequence[float], cut: float, delta: float) -> float:
    wrong, right = sum(value > cut for value in without), sum(value > cut for value in with_record)
    most_wrong = beta.ppf(0.975, wrong + 1, len(without) - wrong) if wrong < len(without) else 1.0
    least_right = beta.ppf(0.025, right, len(with_record) - right + 1) if right else 0.0
    return max(0.0, math.log(max(least_right - delta, 1e-12) / most_wrong))


if __name__ == "__main__":
    app()
