"""TabularARGN (package mostlyai-engine), with the library's settings; it knows a training time of its own."""

import time
from pathlib import Path
from typing import Any


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Train; ends by the library's early stopping, or with the time for fitting."""
    from mostlyai.engine import TabularARGN

    kinds = {"category": "TABULAR_CATEGORICAL", "number": "TABULAR_NUMERIC_AUTO"}
    settings = job["settings"]
    model = TabularARGN(
        model=settings["model"],
        max_epochs=settings["epochs"],
        value_protection=settings["value_protection"],
        max_training_time=max(0.1, (job["fit_until"] - time.monotonic()) / 60),
        tgt_encoding_types={column["name"]: kinds[column["kind"]] for column in job["columns"]},
        workspace_dir=str(Path("workspace").resolve()),
        random_state=job["seed"],
    )
    return model.fit(train)


def sample(model: Any, rows: int, job: dict[str, Any]) -> Any:
    """Draw all rows; rare categories that are protected are drawn from the others, not written as a token."""
    return model.sample(n_samples=rows, rare_category_replacement_method="SAMPLE")
