"""Tables of the published protocol: ours beside what others printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from table import NBSP, Table, percent, record, share


def _mean_figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By name, the figures of a table's runs: each value the mean over the seeds, all else as the first run has it."""
    found: dict[str, dict[str, Any]] = {}
    for figure in runs[0]["protocol"]["figures"]:
        name = figure["score"]["name"]
        of_name = [each for run in runs for each in run["protocol"]["figures"] if each["score"]["name"] == name]
        value = mean(each["score"]["value"] for each in of_name)
        found[name] = {**figure, "score": {**figure["score"], "value": value}}
    return found


@Table
def protocol() -> list[list[str]]:
    """By the published protocol: ours beside what others printed."""
    header = ["table", "training rows", "C2ST (XGBoost), AUC", "shape error", "trend error", "usefulness", "DCR share"]
    rows = []
    for name, entry in sorted(record("protocol").items()):
        found = _mean_figures(entry["runs"])
        score = {key: figure["score"] for key, figure in found.items()}
        ours = score["c2st_xgboost"]["value"]
        others = sorted((each["value"], each["method"]) for each in found["c2st_xgboost"]["printed"])
        mine = share(ours)
        if all(ours < value for value, _ in others):
            mine = f"**{mine}**"
        taught = next(score[key] for key in ("mle_auc", "mle_rmse") if key in score)
        trend = score.get("trend_error_training_bins", score["trend_error"])  # one extreme value does not move its bins
        rows.append(
            [
                f"`{name}`",
                f"{entry['runs'][0]['protocol']['rows']['real training']:,}",
                f"{mine} ({', '.join(f'{method}{NBSP}{share(value)}' for value, method in others)})",
                percent(score["shape_error"]["value"]),
                percent(trend["value"]),
                f"{share(taught['value'])} (real{NBSP}{share(taught['baseline'])})",
                share(score["dcr_share"]["value"]),
            ]
        )
    return [header, *rows]


@Table
def protocol_all() -> list[list[str]]:
    """Every figure of the published protocol, with what real rows and chance get and what others printed."""
    header = ["table", "score", "ours", "real rows", "chance", "TabSyn", "TabDiff", "TabPC"]
    rows = []
    for name, entry in sorted(record("protocol").items()):
        for figure in _mean_figures(entry["runs"]).values():
            score = figure["score"]
            write = percent if score["unit"] == "%" else share
            printed = {each["method"]: write(each["value"]) for each in figure["printed"]}
            real, chance = (
                "" if value is None else write(value) for value in (score["baseline"], figure.get("chance"))
            )
            others = [printed.get(method, "") for method in header[5:]]
            rows.append([f"`{name}`", score["title"], write(score["value"]), real, chance, *others])
    return [header, *rows]


@Table
def protocol_runs() -> list[list[str]]:
    """How the runs of the protocol were made."""
    rows = [["table", "seconds of `difflm run`", "seed", "commit", "hardware"]]
    for name, entry in sorted(record("protocol").items()):
        for run in entry["runs"]:
            facts = [f"{run['run_seconds']:,}", str(run["seed"]), f"`{run['commit']}`", run["hardware"]]
            rows.append([f"`{name}`", *facts])
    return rows


@Table
def critic() -> list[list[str]]:
    """Say what the critic of each table's bundle does."""
    header = ["table", "draws", "C2ST (XGBoost)", "with pairs of columns", "shape error", "rows/s", "recognised"]
    rows = []
    for name, entry in sorted(record("critic").items()):
        known = entry.get("trees tell training from test rows")
        for side, said in (("plain", "without"), ("critic", "with it")):
            if side == "critic" and known is None:
                continue
            found = entry[side]
            figures = [share(found["c2st"]), share(found["c2st_with_pairs"]), percent(found["shape"])]
            recognised = share(known) if side == "critic" else ""
            rows.append(
                [f"`{name.removesuffix('-protocol')}`", said, *figures, str(found["rows_per_second"]), recognised]
            )
    return [header, *rows]
