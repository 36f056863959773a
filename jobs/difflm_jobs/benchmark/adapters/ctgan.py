"""CTGAN and TVAE (package ctgan), with the library's settings; as many epochs as the minutes allow."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

TAKES_MISSING = False


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Train until all epochs are done or the time for fitting is over: the progress bar stands in for a callback."""
    import torch
    from ctgan.synthesizers import ctgan, tvae

    torch.manual_seed(job["seed"])
    method = job["method"]
    module, kind = (tvae, tvae.TVAE) if method == "tvae" else (ctgan, ctgan.CTGAN)
    epochs = Epochs(job["fit_until"])
    module.tqdm = epochs
    model = kind(epochs=job["settings"]["epochs"])
    model.fit(train, [column["name"] for column in job["columns"] if column["kind"] == "category"])
    if epochs.done < job["settings"]["epochs"]:
        job["notes"].append(f"{epochs.done} of {job['settings']['epochs']} epochs")
    return model


def sample(model: Any, rows: int, job: dict[str, Any]) -> Any:
    """Draw all rows."""
    return model.sample(rows)


class Epochs:
    """Iterates as the bar that the library wraps its epochs in, and ends early."""

    def __init__(self, until: float) -> None:
        self.until, self.done = until, 0
        self._epochs: Iterable[int] = ()

    def __call__(self, epochs: Iterable[int], **_: Any) -> "Epochs":
        self._epochs = epochs
        return self

    def __iter__(self) -> Iterator[int]:
        for epoch in self._epochs:
            if self.done and time.monotonic() > self.until:
                return
            yield epoch
            self.done += 1

    def set_description(self, *_: Any) -> None:
        """Show nothing."""
