"""TabularARGN's own differentially private training: DP-SGD by Opacus, and value ranges for a share of epsilon."""

import time
from pathlib import Path
from typing import Any


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Train until the epsilon is spent, or the time for fitting is over."""
    from mostlyai.engine import TabularARGN
    from mostlyai.engine.domain import DifferentialPrivacyConfig

    kinds = {"category": "TABULAR_CATEGORICAL", "number": "TABULAR_NUMERIC_AUTO"}
    settings = job["settings"]
    model = TabularARGN(
        model=settings["model"],
        max_epochs=settings["epochs"],
        value_protection=True,
        differential_privacy=DifferentialPrivacyConfig(
            max_epsilon=settings["epsilon"],
            delta=settings["delta"],
            noise_multiplier=settings["noise_multiplier"],
            value_protection_epsilon=settings["values_share"] * settings["epsilon"],
        ),
        max_training_time=max(0.1, (job["fit_until"] - time.monotonic()) / 60),
        tgt_encoding_types={column["name"]: kinds[column["kind"]] for column in job["columns"]},
        workspace_dir=str(Path("workspace").resolve()),
        random_state=job["seed"],
    )
    return model.fit(train)


def sample(model: Any, rows: int, job: dict[str, Any]) -> Any:
    """Draw all rows; rare categories that are protected are drawn from the others, not written as a token."""
    return model.sample(n_samples=rows, rare_category_replacement_method="SAMPLE")
