"""GReaT (package be_great): a language model fine-tuned on rows as text, for as many steps as the minutes allow."""

import time
from collections.abc import Iterator
from typing import Any

ROWS_AT_ONCE = 10


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Fine-tune until all epochs are done or the time for fitting is over."""
    import be_great.great as library
    import torch
    from transformers import TrainerCallback

    settings = job["settings"]
    if settings["model"] is None:
        raise ValueError("GReaT fine-tunes a causal language model; name one with --set great.model=FOLDER_OR_NAME")

    class Deadline(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if time.monotonic() > job["fit_until"]:
                job["notes"].append(f"{state.epoch:.2f} of {settings['epochs']} epochs")
                control.should_training_stop = True

    usual = library.GReaTTrainer
    library.GReaTTrainer = lambda *args, callbacks, **more: usual(*args, callbacks=[*callbacks, Deadline()], **more)
    torch.manual_seed(job["seed"])
    model = library.GReaT(
        settings["model"],
        experiment_dir="trainer",
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        efficient_finetuning="lora" if settings["lora"] else "",
        save_strategy="no",
        seed=job["seed"],
    )
    model.fit(train, conditional_col=job["target"])
    return model, longest(model, train)


def longest(model: Any, train: Any) -> int:
    """Count the tokens that a row may take: a fifth more than the longest of a thousand training rows, as written."""
    rows = train.head(1000).to_dict("records")
    texts = [", ".join(f"{name} is {value}" for name, value in row.items()) for row in rows]
    return int(1.2 * max(len(model.tokenizer(text)["input_ids"]) for text in texts)) + 8


def sample(model: Any, rows: int, job: dict[str, Any]) -> Iterator[Any]:
    """Yield rows until enough were taken, or a few batches in a row were empty."""
    great, tokens = model
    empty = 0
    while empty < 5:
        frame = great.sample(ROWS_AT_ONCE, k=ROWS_AT_ONCE, max_length=tokens)
        empty = empty + 1 if len(frame) == 0 else 0
        yield frame
