"""Tables of figures in Markdown, made from the records in tests/benchmarks/results.

    python docs/tools/figures.py            # write the tables anew, in README.md and docs/
    python docs/tools/figures.py --check    # end with code 1 where a table is not what the records say

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is a function of `TABLES`. Nobody types a figure.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "tests" / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z0-9_]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NBSP = "\u00a0"
TABLES: dict[str, Callable[[], str]] = {}


def table(function: Callable[[], list[list[str]]]) -> Callable[[], str]:
    """Register a function that returns rows of cells, the header first, under its name."""

    def written() -> str:
        header, *rows = function()
        return "".join(f"| {' | '.join(row)} |\n" for row in [header, ["---"] * len(header), *rows])

    TABLES[function.__name__] = written
    return written


def record(name: str) -> Any:
    """Read a record."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def share(value: float, digits: int = 3) -> str:
    """Write a number between 0 and 1 without its leading zero: .563."""
    return f"{value:.{digits}f}".removeprefix("0")


def percent(value: float, digits: int = 2) -> str:
    """Write percent, with `digits` places and a space where no line breaks: 1.29 %."""
    return f"{value:.{digits}f}{NBSP}%"


def with_error(value: float, error: float | None, write: Callable[[float], str]) -> str:
    """Write a value, and its standard error where one is known."""
    unit = f"{NBSP}%" if write(value).endswith("%") else ""
    return write(value) if error is None else f"{write(value).removesuffix(unit)} ± {write(error)}"


def scores_of(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return scores by name."""
    return {entry["name"]: entry for entry in entries}


@table
def protocol() -> list[list[str]]:
    """By the published protocol: ours beside what others printed."""
    header = ["table", "training rows", "C2ST (XGBoost), AUC", "shape error", "trend error", "usefulness", "DCR share"]
    rows = []
    for name, run in sorted(record("protocol").items()):
        found = {figure["score"]["name"]: figure for figure in run["protocol"]["figures"]}
        score = {key: figure["score"] for key, figure in found.items()}
        ours = score["c2st_xgboost"]["value"]
        others = sorted((entry["value"], entry["method"]) for entry in found["c2st_xgboost"]["printed"])
        mine = share(ours)
        if all(ours < value for value, _ in others):
            mine = f"**{mine}**"
        taught = next(score[key] for key in ("mle_auc", "mle_rmse") if key in score)
        trend = score.get("trend_error_training_bins", score["trend_error"])  # one extreme value does not move its bins
        rows.append(
            [
                f"`{name}`",
                f"{run['protocol']['rows']['real training']:,}",
                f"{mine} ({', '.join(f'{method}{NBSP}{share(value)}' for value, method in others)})",
                percent(score["shape_error"]["value"]),
                percent(trend["value"]),
                f"{share(taught['value'])} (real{NBSP}{share(taught['baseline'])})",
                share(score["dcr_share"]["value"]),
            ]
        )
    return [header, *rows]


@table
def protocol_all() -> list[list[str]]:
    """Every figure of the published protocol, with what real rows get and what others printed."""
    header = ["table", "score", "ours", "real rows", "TabSyn", "TabDiff", "TabPC"]
    rows = []
    for name, run in record("protocol").items():
        for figure in run["protocol"]["figures"]:
            score = figure["score"]
            write = percent if score["unit"] == "%" else share
            printed = {entry["method"]: write(entry["value"]) for entry in figure["printed"]}
            real = "" if score["baseline"] is None else write(score["baseline"])
            others = [printed.get(method, "") for method in header[4:]]
            rows.append([f"`{name}`", score["title"], write(score["value"]), real, *others])
    return [header, *rows]


@table
def protocol_runs() -> list[list[str]]:
    """How the runs of the protocol were made."""
    rows = [["table", "seconds of `difflm run`", "seed", "commit", "hardware"]]
    for name, run in record("protocol").items():
        rows.append([f"`{name}`", f"{run['run_seconds']:,}", str(run["seed"]), f"`{run['commit']}`", run["hardware"]])
    return rows


@table
def own_scores() -> list[list[str]]:
    """By this project's own scores, before the decoder wrote by itself and now."""
    names = {"c2st_auc": "C2ST", "shape_error": "shape error", "mle_auc": "usefulness"}
    header = ["table", *(f"{title} {when}" for title in names.values() for when in ("before", "now"))]
    rows = []
    for name, run in record("own_scores")["tables"].items():
        write = {key: percent if key == "shape_error" else share for key in names}
        cells = [write[key](run[when][key]) for key in names for when in ("before", "now")]
        rows.append([f"`{name}` ({run['about']})", *cells])
    return [header, *rows]


@table
def adult_own() -> list[list[str]]:
    """Adult by this project's own scores, beside real rows."""
    made = record("own_scores")["tables"]["adult"]["now"]
    real = scores_of(record("adult")["scores"])
    names = {"c2st_auc": "C2ST, AUC", "shape_error": "shape error", "mle_auc": "usefulness"}
    write = {key: percent if key == "shape_error" else share for key in names}
    return [
        ["`adult`", *names.values()],
        ["synthetic rows", *(write[key](made[key]) for key in names)],
        ["real rows in their place", *(write[key](real[key]["baseline"]) for key in names)],
    ]


@table
def decoding() -> list[list[str]]:
    """Rows a second of the decoding engine and what it is compared with."""
    made = record("decoding")
    sides = {
        "engine": "decoding engine, grammar on",
        "generate": "Hugging Face `generate`, batched and cached",
        "forced": "one teacher-forced pass over the same tokens (a limit)",
        "uncached": "one record at a time without a cache",
        "whole draw": "whole draws: noise, prior, decoding, parsing",
    }
    models = {"bundle": "compact decoder", "random_llama_100M": "random Llama of {:.0f} M"}
    parameters = {key: made[key]["decoder_parameters"] / 1e6 for key in models}
    header = ["rows a second", *(title.format(parameters[key]) for key, title in models.items())]
    rows = []
    for side, title in sides.items():
        cells = []
        for key in models:
            found = made[key]["sides"].get(side)
            speed = 0.0 if found is None else found["rows_per_second"]
            cells.append("" if found is None else f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}")
        rows.append([title, *cells])
    for other in ("generate", "forced", "uncached"):
        ratios = [f"{made[key]['ratios'][f'engine / {other}']:.2f}" for key in models]
        rows.append([f"engine over `{other}`", *ratios])
    return [header, *rows]


@table
def scaling() -> list[list[str]]:
    """Rows a second and memory by workers and rows."""
    header = ["job", "rows", "workers", "seconds", "rows a second", "memory of driver", "of a worker"]
    rows = []
    for name in ("scaling", "scaling_million"):
        for job in record(name)["jobs"].values():
            memory = job["peak_rss_mib"]
            worker = max(value for key, value in memory.items() if key.startswith("actor"))
            record_link = f"[record](../tests/benchmarks/results/{name}.json)"
            cells = [
                f"{job['rows']:,}",
                str(job["workers"]),
                f"{job['seconds']:,.0f}",
                f"{job['rows_per_second']:,.0f}",
            ]
            rows.append([record_link, *cells, f"{memory['driver']:,.0f} MiB", f"{worker:,.0f} MiB"])
    return [header, *rows]


@table
def imputation() -> list[list[str]]:
    """Filled-in cells of Adult's test rows."""
    means = record("imputation")["means"]
    titles = {
        "guess, difflm": "`difflm impute`, best guess of several draws",
        "guess, boosting": "XGBoost, one model per column",
        "guess, mode or median": "mode or median of the training rows",
        "draw, difflm": "`difflm impute`, one draw",
        "draw, boosting": "drawn from XGBoost's probabilities",
        "draw, random rows": "cells of random training rows",
    }
    header = ["", "accuracy of categories", "error of numbers, in standard deviations", "shape error of the cells"]
    rows = []
    for key, title in titles.items():
        found = means[key]
        error = f"{found['error']:.3f}" if "error" in found else ""
        rows.append([title, share(found["accuracy"]), error, percent(found["shape_error"], 1)])
    return [header, *rows]


def _texts(name: str, titles: Mapping[str, str]) -> list[list[str]]:
    found = scores_of(record(name)["scores"])
    rows = [[f"`{name}`", "synthetic", "real test split"]]
    for key, title in titles.items():
        unit = found[key]["unit"]
        write: Callable[[float], str] = percent if unit == "%" else "{:.0f}".format
        real = found[key]["baseline"]
        rows.append([title, write(found[key]["value"]), "" if real is None else write(real)])
    return rows


@table
def tools() -> list[list[str]]:
    """Scores of the preset tools."""
    return _texts(
        "tools",
        {
            "valid_share": "fit the JSON schema",
            "consistent_share": "required parameters consistent",
            "category_coverage": "categories covered",
            "near_copy_share": "near-copies of training",
            "exact_copy_share": "exact copies of training",
            "near_duplicate_share": "near-duplicates within",
            "valid_draw_share": "draws that were valid",
        },
    )


@table
def code() -> list[list[str]]:
    """Scores of the preset code."""
    return _texts(
        "code",
        {
            "parses_share": "parse",
            "compiles_share": "compile",
            "near_copy_share": "near-copies of training",
            "exact_copy_share": "exact copies of training",
            "near_duplicate_share": "near-duplicates within",
            "lint_rate": "linter's messages per 100 lines",
            "valid_draw_share": "draws that were valid; the others are drawn again",
        },
    )


@table
def serving() -> list[list[str]]:
    """Tell what the endpoint reaches, beside the aim."""
    made = record("serving")
    rate, latency, kill, overload = made["rate"], made["latency"], made["kill"], made["overload"]
    alone, loaded, two = latency["alone"], latency["at_70_percent"], made["two"]
    answers = ", ".join(f"{count:,} answers {status}" for status, count in overload["statuses"].items())
    unlike = kill["requests_under_way"] - kill["with_the_same_rows_as_without_a_kill"]
    until = sorted(kill["seconds_until_a_new_request_is_answered"])
    return [
        ["", "measured", "the aim"],
        ["rows a second of 8 streams over those of the engine alone", f"{rate['streamed_over_offline']:.2f}", "0.85"],
        ["first row of a large stream over a lone request for one row", f"{latency['first_row_over_alone']:.2f}", "2"],
        [
            "SIGKILL of the replica under load: answers that differ, and until the next answer",
            f"{unlike} of {kill['requests_under_way']}, {until[0]:.1f} to {until[-1]:.1f} s",
            "none lost",
        ],
        [
            f"overload for {overload['seconds']:.0f} s",
            f"{answers}; idle again after {overload['recovery_seconds']:.1f} s",
            "no other answer",
        ],
        ["first answer with no replica", f"{made['scaling']['first_answer_from_zero']['seconds']:.1f} s", "seen"],
        [
            "requests made from the server's own OpenAPI document: answers 5xx",
            f"{len(made['fuzz']['failures'])} of {made['fuzz']['cases']:,}",
            "0",
        ],
        [
            f"p99 of one-row requests at 70 % of capacity ({latency['one_row_answers_per_second']:.0f} answers/s)",
            f"{loaded['p99_ms']:.0f} ms, {latency['p99_over_alone']:.1f} times a lone one's {alone['median_ms']:.0f}",
            "3 times, missed",
        ],
        ["rows a second of two replicas over one", f"{two['two_over_one']:.2f}", "1.7, missed"],
    ]


@table
def watching() -> list[list[str]]:
    """Tell what scores cost while rows are made."""
    streaming, actors = record("streaming"), record("evaluator_actors")
    quality = max(streaming["quality"], key=lambda entry: float(entry["synthetic_rows"]))
    ours, theirs = quality["ours"]["seconds"], quality["sdmetrics"]["seconds"]
    size = f"{quality['synthetic_rows']:,} rows of {quality['columns']} columns"
    return [
        ["", "measured"],
        ["rate of sampling with evaluator actors over that without", f"{actors['median_ratio']:.2f}"],
        [f"shape and trend of {size}, one core", f"{ours:.2f} s"],
        ["the same by SDMetrics' QualityReport", f"{theirs:.1f} s, {quality['times_faster']:.0f} times as long"],
    ]


def _ablation(name: str) -> list[list[str]]:
    made = record(name)
    names = {
        "shape_error": "shape error",
        "trend_error": "trend error",
        "mle_auc": "usefulness, ROC-AUC",
        "c2st_auc": "C2ST, AUC",
    }
    rows = [["", *names.values()]]
    for cell in made["cells"]:
        cells = []
        for key in names:
            score = cell["scores"].get(key)
            write = percent if key.endswith("_error") else share
            cells.append("" if score is None else with_error(score["mean"], score["standard_error"], write))
        rows.append([cell["name"], *cells])
    return rows


@table
def ablation_priors() -> list[list[str]]:
    """Compare the diffusion with simpler priors."""
    return _ablation("ablation_priors")


@table
def ablation_table4() -> list[list[str]]:
    """How the latent reaches the decoder, and the schedule of beta."""
    return _ablation("ablation_table4")


@table
def study() -> list[list[str]]:
    """Compare what a classifier learns from real, synthetic and mixed rows."""
    runs = record("study")["runs"]
    header = ["learned from", *(f"`{name}`" for name in runs)]
    names = [entry["name"] for entry in next(iter(runs.values()))]
    rows = []
    for name in names:
        cells = []
        for entries in runs.values():
            (entry,) = [entry for entry in entries if entry["name"] == name]
            kind = " (RMSE)" if entry["score"] == "mle_rmse" else ""
            cells.append(share(entry["value"], 4 if not kind else 3) + kind)
        rows.append([name, *cells])
    return [header, *rows]


@table
def flywheel() -> list[list[str]]:
    """List rounds of training on what was drawn."""
    names = {"shape_error": "shape error", "trend_error": "trend error", "mle_auc": "usefulness, ROC-AUC"}
    rows = [["round", "training rows", *names.values()]]
    for made in record("flywheel")["rounds"]:
        found = scores_of(made["scores"])
        cells = [(percent if key.endswith("_error") else share)(found[key]["value"]) for key in names]
        rows.append([str(made["round"]), f"{made['training_rows']:,}", *cells])
    return rows


@table
def downstream() -> list[list[str]]:
    """Compare what real and synthetic code teach a small language model."""
    titles = {
        "base-model": "nothing",
        "train-real": "real functions",
        "train-synthetic": "synthetic functions of the preset `code`",
        "train-mixed": "both",
    }
    rows = [["trained further on", "texts", "held-out perplexity", "bits per character", "gained, nats a token"]]
    for key, title in titles.items():
        made = record("downstream")["models"][key]
        gain = with_error(made["gain_nats_per_token"], made["gain_standard_error"] or None, "{:.2f}".format)
        texts = f"{made['texts']:,}" if "texts" in made else ""
        rows.append([title, texts, f"{made['perplexity']:.1f}", f"{made['bits_per_character']:.2f}", gain])
    return rows


@table
def ruler() -> list[list[str]]:
    """List published generators, trained and scored here, beside their published figures."""
    names = {"mle_auc": "ROC-AUC", "shape_error": "shape error", "trend_error": "trend error"}
    rows = [["", *(cell for title in names.values() for cell in (title, "published"))]]
    for name, made in record("ruler")["models"].items():
        printed = {entry["score"]: entry["value"] for entry in made["published"]}
        cells = []
        for key in names:
            write = share if key == "mle_auc" else percent
            cells += [write(made["scores"][key]["value"]), write(printed[key]) if key in printed else ""]
        rows.append([f"{name}, {made['epochs']} epochs", *cells])
    return rows


@table
def small_tables() -> list[list[str]]:
    """List copies from tables of few rows, beside what fresh rows get."""
    rows = [["rows", "settings", "exact copies", "DCR share", "shape error", "of fresh rows"]]
    for made in record("small_tables")["tables"]:
        synthetic, fresh = made["synthetic"], made["fresh"]
        settings = ", ".join(f"`{change}`" for change in made["overrides"]) or "default"
        shape = [percent(side["shape_error"]) for side in (synthetic, fresh)]
        copies, distance = percent(synthetic["exact_copy_share"], 1), share(synthetic["dcr_share"])
        rows.append([str(made["rows"]), settings, copies, distance, *shape])
    return rows


@table
def small_samples() -> list[list[str]]:
    """List copies from samples of real tables, beside what real test rows are by chance, or why they were refused."""
    rows = [["sample", "exact copies", "of real test rows", "singling out", "linkability", "attribute inference"]]
    for made in record("small_samples")["samples"]:
        name = f"{made['rows']} rows of {made['table'].capitalize()}"
        if "refused" in made:
            rows.append([name, "refused", "", "", "", ""])
            continue
        risks = [
            "not measured" if risk["value"] is None else f"{share(risk['value'])} (to {share(risk['interval'][1])})"
            for risk in made["risks"].values()
        ]
        copies = [percent(made[key]) for key in ("exact_copies_percent", "test_rows_that_are_copies_percent")]
        rows.append([name, *copies, *risks])
    return rows


@table
def protection_cost() -> list[list[str]]:
    """List what protected rows lose in the place of real ones."""
    rows = [["table", "rows changed", "shape, points", "trend, points", "taught by real", "by protected", "lost"]]
    for name, made in record("protection_cost")["tables"].items():
        points = [f"{made[key]:.3f}" for key in ("shape_points", "trend_points")]
        taught = [f"{made[key]:.4f}" for key in ("unprotected", "protected")]
        rows.append([name, percent(100 * made["rows_changed"]), *points, *taught, percent(made["lost_percent"])])
    return rows


@table
def private_counts() -> list[list[str]]:
    """List methods with differential privacy by epsilon, by the same scores of as many rows."""
    titles = {"counts": "private counts", "mst": "MST", "tabularargn_dp": "TabularARGN, DP-SGD"}
    rows = [["epsilon", "rows of", "shape error", "trend error", "ROC-AUC", "DCR share", "exact copies"]]
    for epsilon, methods in sorted(record("dp_summaries")["epsilons"].items(), key=lambda pair: float(pair[0])):
        for name, scores in methods.items():
            if "reason" in scores:
                rows.append([epsilon, titles[name], scores["reason"], "", "", "", ""])
                continue
            value = {key: score["value"] for key, score in scores.items()}
            figures = [percent(value["shape_error"]), percent(value["trend_error"])]
            figures += [share(value["mle_auc"]), share(value["dcr_share"]), percent(value["exact_copy_share"])]
            rows.append([epsilon, titles[name], *figures])
    return rows


@table
def private_audit() -> list[list[str]]:
    """List what attacks show of epsilon, beside what is promised."""
    titles = {"step": "one step of DP-SGD, noise 1, the attacker knows the gradient", "counts": "the private counts"}
    rows = [["attacked", "trials a side", "epsilon is at least", "promised"]]
    found = record("dp_audit")
    for name, title in titles.items():
        made = found[name]
        rows.append([title, f"{made['trials']:,}", f"{made['at_least']:.2f}", f"{made['promised']:.2f}"])
    return rows


@table
def records() -> list[list[str]]:
    """Every record, with its command, commit and date."""
    rows = [["record", "command", "commit", "date"]]
    for path in sorted(RECORDS.glob("*.json")):
        for facts in _facts(record(path.stem)):
            command = facts.get("command", "")
            text = command if isinstance(command, str) else "; ".join(command)
            link = f"[{path.stem}](../tests/benchmarks/results/{path.name})"
            rows.append([link, f"`{text}`" if text else "", f"`{facts['commit']}`", facts.get("date", "")])
            break
    return rows


def _facts(made: Any) -> Iterator[Mapping[str, Any]]:
    """Find the objects of a record that name a commit, the outermost first."""
    if isinstance(made, Mapping):
        if "commit" in made:
            yield made
        for value in made.values():
            yield from _facts(value)


def current(text: str, source: str) -> str:
    """Return a page with its tables as the records say; the links of `records` lead from docs/."""

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            raise SystemExit(f"{source}: no table {name!r}; there are {', '.join(TABLES)}")
        return f"{found[1]}{TABLES[name]()}{found[3]}"

    return BLOCK.sub(made, text)


def pages() -> list[Path]:
    """List the pages that may hold tables."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def main(arguments: list[str]) -> int:
    """Write or check all tables; returns the exit code."""
    stale = []
    for path in pages():
        text = path.read_text(encoding="utf-8")
        fresh = current(text, str(path))
        if fresh != text:
            stale.append(path.relative_to(REPOSITORY).as_posix())
            if "--check" not in arguments:
                path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"not what the records say: {', '.join(stale)}; run python docs/tools/figures.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
