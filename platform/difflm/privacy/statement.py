"""What is promised, in numbers and in words: privacy.json of a bundle, and the sentence in report and summary."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from difflm.privacy.budget import PRIVACY_NAME, PrivacyConfig, Spent, Steps, epsilon_of
from difflm.telemetry import JSON

PROMISED = "promised_privacy"
"""Among the settings that a report shows."""
VOIDED_BY = (
    "publishing the folders of the run, whose rows, checkpoints of DP-SGD and report read the table",
    "dropping or choosing synthetic rows, seeds or settings by how they compare with the real rows",
    "further fits of the same people: their budgets add up",
    "several people behind one unit, or one behind several",
)


def promised_in(folder: Path) -> dict[str, JSON]:
    """Return the promise of a bundle or a decoder under the key `promised_privacy`; nothing where there is none."""
    path = folder / PRIVACY_NAME
    return {PROMISED: json.loads(path.read_bytes())} if path.is_file() else {}


def promise(config: PrivacyConfig, *, delta: float, spent: Sequence[Spent], steps: Steps | None) -> dict[str, JSON]:
    """Return what is promised of everything that a bundle is made of, composed over all parts."""
    rho, thresholds = math.fsum(each.rho for each in spent), math.fsum(each.delta for each in spent)
    epsilon = epsilon_of(rho, steps, delta - thresholds)
    assert epsilon <= config.epsilon * (1 + 1e-6), f"{epsilon} was spent of {config.epsilon}"
    parts: dict[str, float] = {}
    for each in spent:
        name = each.part.split(" ")[0]
        parts[name] = parts.get(name, 0.0) + each.rho
    unit = "row" if config.unit is None else f"value of {config.unit!r}"
    return {
        "epsilon": config.epsilon,
        "epsilon_spent": round(epsilon, 4),
        "delta": delta,
        "unit": config.unit or "row",
        "neighbours": "one unit added or left out",
        "accountant": "Rényi divergence: zCDP of OpenDP's measurements and Opacus's Poisson-sampled Gaussian, added up",
        "rho": dict[str, JSON](parts),
        "dp_sgd": None if steps is None else {"rate": steps.rate, "noise": steps.noise, "steps": steps.steps},
        "covers": ["schema", "tokenizer", "decoder", "encoder and injector", "prior", "every row that is drawn"],
        "does_not_cover": ["the report and its scores", "the names and types of columns", "messages of errors"],
        "voided_by": list[JSON](VOIDED_BY),
        "says": (
            f"({epsilon:.3g}, {delta:.2g})-differential privacy of every {unit}, for the bundle and all rows drawn "
            "from it; the report reads real rows and is outside of it"
        ),
    }
