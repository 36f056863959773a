"""Tables of how good rows are: own scores, other methods, ablations, studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from table import NBSP, Table, percent, record, scores_of, share, with_error

BESIDE = ("protocol_c2st_xgboost", "protocol_shape_error", "protocol_trend_error_training_bins")


@Table
def benchmark() -> list[list[str]]:
    """Beside methods that learned the same rows here: fidelity, usefulness, and what of training rows is handed out."""
    return _beside("benchmark")


@Table
def further_tables() -> list[list[str]]:
    """Beside the same methods on tables that nobody tuned on, with equal minutes."""
    return _beside("further_tables")


@Table
def table1() -> list[list[str]]:
    """Baselines of the paper and our own at equal minutes; a cell that could not run says why."""
    names = ["rows made", "C2ST (XGBoost), AUC", "shape error", "trend error", "usefulness", "DCR share"]
    rows = [["table", "method", *names]]
    for table, run in sorted(record("table1").items()):
        for method in run["methods"]:
            if (found := method["figures"]) is None or BESIDE[0] not in found:
                why = (method["reason"] or "").rpartition("Error: ")[2]
                rows.append([f"`{table}`", method["title"], f"none: {why}", *[""] * (len(names) - 1)])
                continue
            made = f"{method['rows']:,}" if method["rows"] else ""
            rows.append([f"`{table}`", method["title"], made, *_figures(found), share(found["dcr_share"])])
    return rows


def _beside(name: str) -> list[list[str]]:
    names = ["C2ST (XGBoost), AUC", "shape error", "trend error", "usefulness"]
    rows = [["table", "method", *names, "DCR share", "rare values", "membership"]]
    for table, run in sorted(record(name).items()):
        for method in run["methods"]:
            found = method["figures"]
            copied = [share(found["dcr_share"]), percent(found["rare_cell_share"]), share(found["mia_auc"])]
            ours = method["name"] in ("difflm", "compact")
            rows.append([f"`{table}`", "ours" if ours else method["title"], *_figures(found), *copied])
    return rows


def _figures(found: Mapping[str, float]) -> list[str]:
    """Write C2ST, shape, trend and usefulness."""
    taught = next(found[key] for key in ("mle_auc", "mle_rmse") if key in found)
    return [share(found[BESIDE[0]]), *(percent(found[key]) for key in BESIDE[1:]), share(taught)]


@Table
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


@Table
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


@Table
def conditions() -> list[list[str]]:
    """Rows of Adult that were asked for, beside plain draws against as few real rows."""
    header = ["condition", "training rows", "shape error of the others", "plain draws, as few real rows", "ratio"]
    rows = [
        [
            f"`{text.replace('`', '')}`",
            f"{found['training_rows']:,}",
            percent(found["conditional"]),
            percent(found["unconditional, as many real rows"]),
            f"{found['over_unconditional_as_many_real_rows']:.2f}",
        ]
        for text, found in record("conditions")["conditions"].items()
    ]
    return [header, *rows]


@Table
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


def _texts(name: str, titles: Mapping[str, str], preset: str | None = None) -> list[list[str]]:
    found = scores_of(record(name)["scores"])
    rows = [[f"`{preset or name}`", "synthetic", "real test split"]]
    for key, title in titles.items():
        unit = found[key]["unit"]
        write: Callable[[float], str] = percent if unit == "%" else "{:.3g}".format
        real = found[key]["baseline"]
        rows.append([title, write(found[key]["value"]), "" if real is None else write(real)])
    return rows


@Table
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


@Table
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


@Table
def llm_code() -> list[list[str]]:
    """Scores of the preset llm/code."""
    return _texts(
        "llm-code",
        {
            "compiles_share": "compile",
            "known_word_share": "words known to training",
            "bits_per_character": "bits a character, by Gemma 3 270M",
            "repetition_within": "repeated within a function",
            "near_copy_share": "near-copies of training",
            "near_duplicate_share": "near-duplicates within",
            "lint_rate": "linter's messages per 100 lines",
            "valid_draw_share": "draws that were valid; the others are drawn again",
        },
        preset="llm/code",
    )


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


@Table
def ablation_priors() -> list[list[str]]:
    """Compare the diffusion with simpler priors."""
    return _ablation("ablation_priors")


@Table
def ablation_table4() -> list[list[str]]:
    """How the latent reaches the decoder, and the schedule of beta."""
    return _ablation("ablation_table4")


@Table
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


@Table
def flywheel() -> list[list[str]]:
    """List rounds of training on what was drawn."""
    names = {"shape_error": "shape error", "trend_error": "trend error", "mle_auc": "usefulness, ROC-AUC"}
    rows = [["round", "training rows", *names.values()]]
    for made in record("flywheel")["rounds"]:
        found = scores_of(made["scores"])
        cells = [(percent if key.endswith("_error") else share)(found[key]["value"]) for key in names]
        rows.append([str(made["round"]), f"{made['training_rows']:,}", *cells])
    return rows


@Table
def downstream() -> list[list[str]]:
    """Compare what real and synthetic code teach a small language model."""
    arms = [
        ("downstream", "base-model", "nothing"),
        ("downstream", "train-real", "real functions"),
        ("downstream", "train-synthetic", "synthetic functions of the preset `code`"),
        ("downstream", "train-mixed", "both"),
        ("downstream_llm", "train-synthetic", "synthetic functions of the preset `llm/code`"),
        ("downstream_llm", "train-mixed", "both"),
    ]
    rows = [["trained further on", "texts", "held-out perplexity", "bits per character", "gained, nats a token"]]
    for name, key, title in arms:
        made = record(name)["models"][key]
        gain = with_error(made["gain_nats_per_token"], made["gain_standard_error"] or None, "{:.2f}".format)
        texts = f"{made['texts']:,}" if "texts" in made else ""
        rows.append([title, texts, f"{made['perplexity']:.1f}", f"{made['bits_per_character']:.2f}", gain])
    return rows


@Table
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


@Table
def kinds() -> list[list[str]]:
    """List scores with the kinds of columns of an older commit and of today, and what real rows have."""
    rows = [["table", "kinds", "training", "valid rows", "shape error", "trend error", "C2ST, AUC", "usefulness"]]
    for name, found in record("kinds")["tables"].items():
        for side, title in (("before", "before"), ("now", "today's"), ("now", "real rows")):
            made, end = found[side], "_of_real" if title == "real rows" else ""
            taught = next(key for key in ("mle_auc", "mle_rmse") if key in made)
            usefulness = share(made[taught + end]) + (" (RMSE)" if taught == "mle_rmse" else "")
            scores = [
                percent(made[f"shape_error{end}"]),
                percent(made[f"trend_error{end}"]),
                share(made[f"c2st_auc{end}"]),
            ]
            cost = (
                ["", ""] if end else [f"{made['training_s']:.0f}{NBSP}s", f"{made['valid_rows']:,} of {made['rows']:,}"]
            )
            rows.append([f"`{name}`" if title == "before" else "", title, *cost, *scores, usefulness])
    return rows
