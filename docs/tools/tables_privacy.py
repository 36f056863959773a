"""Tables of copies, of what protection costs, and of differential privacy."""

from __future__ import annotations

from table import Table, percent, record, share

SIDES = ("ours", "package")


@Table
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


@Table
def protection_cost() -> list[list[str]]:
    """List what protected rows lose in the place of real ones."""
    rows = [["table", "rows changed", "shape, points", "trend, points", "taught by real", "by protected", "lost"]]
    for name, made in record("protection_cost")["tables"].items():
        points = [f"{made[key]:.3f}" for key in ("shape_points", "trend_points")]
        taught = [f"{made[key]:.4f}" for key in ("unprotected", "protected")]
        rows.append([name, percent(100 * made["rows_changed"]), *points, *taught, percent(made["lost_percent"])])
    return rows


@Table
def protection_fits() -> list[list[str]]:
    """List generators that were fitted with protection and without, as far as there are such."""
    rows = [["table", "shape error", "without protection", "trend error", "without", "usefulness", "without"]]
    for name, made in record("protection_cost")["tables"].items():
        if (fits := made.get("fitted")) is not None:
            errors = [percent(fits[side][key]) for key in ("shape_error", "trend_error") for side in ("on", "off")]
            useful = [share(fits[side][made["score"]]) for side in ("on", "off")]
            rows.append([name, *errors, *useful])
    return rows


@Table
def attacks_beside_package() -> list[list[str]]:
    """List the risks that our attacks and those of Anonymeter find on the same rows, with their intervals."""
    rows = [["copies among the rows", "attack", "ours", "of the package"]]
    titles = {"singling_out": "singling out", "linkability": "linkability", "attribute_inference": "inference"}
    for copied, found in record("anonymeter")["found"].items():
        for name, title in titles.items():
            rows.append([percent(100 * float(copied), 0), title, *(_risk(*found[side][name]) for side in SIDES)])
    return rows


def _risk(value: float, low: float | None, high: float | None) -> str:
    return share(value) if low is None or high is None else f"{share(value)} ({share(low)} to {share(high)})"


@Table
def private_counts() -> list[list[str]]:
    """List methods with differential privacy by epsilon, by the same scores of as many rows, best usefulness first."""
    titles = {
        "counts": "private counts, no decoder",
        "fitted_counts": "DiffLM, `privacy.epochs=0`",
        "private": "DiffLM",
        "mst": "MST",
        "tabularargn_dp": "TabularARGN, DP-SGD",
    }
    rows = [["epsilon", "rows of", "shape error", "trend error", "ROC-AUC", "DCR share", "exact copies"]]
    for epsilon, methods in sorted(record("dp_summaries")["epsilons"].items(), key=lambda pair: float(pair[0])):
        for name, scores in sorted(methods.items(), key=lambda pair: -pair[1].get("mle_auc", {}).get("value", 0.0)):
            if "reason" in scores:
                rows.append([epsilon, titles[name], scores["reason"], "", "", "", ""])
                continue
            value = {key: score["value"] for key, score in scores.items() if key != "facts"}
            figures = [percent(value["shape_error"]), percent(value["trend_error"])]
            figures += [share(value["mle_auc"]), share(value["dcr_share"]), percent(value["exact_copy_share"])]
            rows.append([epsilon, titles[name], *figures])
    return rows


@Table
def private_audit() -> list[list[str]]:
    """List what attacks show of epsilon, beside what is promised."""
    titles = {"step": "one step of DP-SGD, noise 1, the attacker knows the gradient", "counts": "the private counts"}
    rows = [["attacked", "trials a side", "epsilon is at least", "promised"]]
    found = record("dp_audit")
    for name, title in titles.items():
        made = found[name]
        rows.append([title, f"{made['trials']:,}", f"{made['at_least']:.2f}", f"{made['promised']:.2f}"])
    return rows
