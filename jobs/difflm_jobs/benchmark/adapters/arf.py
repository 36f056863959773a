"""Adversarial random forests (package arfpy), with the library's settings."""

from typing import Any

TAKES_MISSING = False


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Grow the forests and estimate the densities in their leaves; columns get names that the library does not use."""
    from arfpy import arf

    categories = {column["name"] for column in job["columns"] if column["kind"] == "category"}
    coded = train.assign(**{name: train[name].astype("category") for name in categories})
    coded = coded.astype({name: float for name in train.columns if name not in categories})
    coded.columns = [f"column{place}" for place in range(coded.shape[1])]
    settings = job["settings"]
    model = arf.arf(
        coded,
        num_trees=settings["trees"],
        min_node_size=settings["min_node_size"],
        max_iters=settings["max_iterations"],
        random_state=job["seed"],
        n_jobs=-1,
    )
    model.forde()
    return model, list(train.columns)


def sample(model: Any, rows: int, job: dict[str, Any]) -> Any:
    """Draw all rows."""
    forest, names = model
    made = forest.forge(n=rows)
    made.columns = names
    return made
