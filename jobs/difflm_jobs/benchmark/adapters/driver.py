"""What runs inside a method's own environment: `python -I driver.py ADAPTER JOB.json`; nothing here imports difflm.

An adapter is a file with `fit(train, job)`, which returns a model, and `sample(model, rows, job)`, which returns a
data frame, or yields them until enough rows were taken. With `TAKES_MISSING = False` missing numbers are filled in with
the median. `train` has numbers, and categories as text in which "" is a missing one. `job` holds what JOB.json does
(`method`, `rows`, `seed`, `minutes`, `target`, `task`, `columns`, `settings`, `scratch`), and `fit_until`, the
`time.monotonic()` at which training has to end, and `notes`, a list to append remarks to.

Rows go to `rows.csv` beside JOB.json, times and remarks to `facts.json`, which is written at the start of each phase,
so that a job that was killed says where. Rows that lack a value where no training row does are left out and counted.
"""

import importlib.util
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

FIT_SHARE = 0.7
"""Of the minutes; the rest is for drawing rows."""
LAST_MOMENT = 0.95
"""Of the minutes: what yields rows is stopped then, and keeps those it has."""


class Facts:
    """The facts on a job, on disk as soon as they are known."""

    def __init__(self, path: Path, started: float) -> None:
        self.path, self.started = path, started
        self.values: dict[str, Any] = {"phase": "start", "seconds": {}, "notes": []}
        self._since = started

    def begin(self, phase: str) -> None:
        """Note that a phase begins, and how long the last one took."""
        now = time.monotonic()
        if self.values["phase"] != "start":
            self.values["seconds"][self.values["phase"]] = round(now - self._since, 3)
            self._since = now  # what came before the first phase, imports, is a part of it
        self.values |= {"phase": phase, "peak_mib": _peak_mib()}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.values), encoding="utf-8")
        temporary.replace(self.path)


def main(adapter_path: str, job_path: str) -> None:
    """Fit, draw and write."""
    started = time.monotonic()
    end_with_parent()
    path = Path(job_path).resolve()
    job: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    facts = Facts(path.with_name("facts.json"), started)
    facts.begin("fitting")
    os.chdir(job["scratch"])  # libraries leave logs and checkpoints where they run
    import numpy as np

    random.seed(job["seed"])
    np.random.seed(job["seed"] % 2**32)
    adapter = _load(adapter_path)
    train = read_train(path.with_name("train.csv"), job["columns"])
    notes: list[str] = facts.values["notes"]
    if not getattr(adapter, "TAKES_MISSING", True):
        fill_numbers(train, job["columns"], notes)
    allowed = job["minutes"] * 60
    job |= {"notes": notes, "fit_until": started + FIT_SHARE * allowed}
    model = adapter.fit(train, job)
    facts.begin("sampling")
    rows, rejected = take(adapter.sample(model, job["rows"], job), job, train, until=started + LAST_MOMENT * allowed)
    if rejected:
        notes.append(f"{rejected:,} rows without a value that every training row has were left out")
    facts.values |= {"rows": len(rows), "rejected": rejected}
    rows.to_csv(path.with_name("rows.csv"), index=False)
    facts.begin("done")


def end_with_parent() -> None:
    """End this process and its group when the process that started it is killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("adapter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_train(path: Path, columns: list[dict[str, Any]]) -> Any:
    """Read the training rows: whole numbers as int64 unless some are missing, others as float64, categories as text."""
    import pandas as pd

    text = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[])
    read = {}
    for column in columns:
        name = column["name"]
        if column["kind"] == "category":
            read[name] = text[name].astype(object)
            continue
        numbers = pd.to_numeric(text[name].where(text[name] != "", None)).astype("float64")
        read[name] = numbers.astype("int64") if column["whole"] and not numbers.isna().any() else numbers
    return pd.DataFrame(read)


def fill_numbers(train: Any, columns: list[dict[str, Any]], notes: list[str]) -> None:
    """Fill missing numbers in with the median, and say so."""
    for column in columns:
        name = column["name"]
        if column["kind"] == "number" and train[name].isna().any():
            notes.append(f"{int(train[name].isna().sum()):,} missing numbers of {name!r} were given its median")
            train[name] = train[name].fillna(train[name].median())


def take(made: Any, job: dict[str, Any], train: Any, *, until: float) -> tuple[Any, int]:
    """Take as many usable rows as the job asks for, in the columns and number formats of training; count the others."""
    import pandas as pd

    frames, rows, rejected = [], 0, 0
    for frame in [made] if isinstance(made, pd.DataFrame) else made:
        good = usable(frame, job["columns"], train)
        frames.append(good)
        rows += len(good)
        rejected += len(frame) - len(good)
        if rows >= job["rows"] or time.monotonic() > until:
            break
    if rows == 0:
        raise ValueError(f"no usable row was made; {rejected} were not usable")
    if rows < job["rows"]:
        job["notes"].append(f"made {rows:,} of {job['rows']:,} rows")
    return pd.concat(frames, ignore_index=True).head(job["rows"]), rejected


def usable(frame: Any, columns: list[dict[str, Any]], train: Any) -> Any:
    """Return the rows that are complete where training is, numbers rounded as there."""
    import numpy as np
    import pandas as pd

    read, complete = {}, np.ones(len(frame), dtype=bool)
    for column in columns:
        name = column["name"]
        values = frame[name].reset_index(drop=True)
        if column["kind"] == "category":
            texts = values.astype(object).where(values.notna(), "").astype(str)
            complete &= ((texts != "") | bool((train[name] == "").any())).to_numpy()
            read[name] = texts
            continue
        numbers = pd.to_numeric(values, errors="coerce").astype("float64").replace([np.inf, -np.inf], np.nan)
        complete &= (numbers.notna() | bool(train[name].isna().any())).to_numpy()
        if column["decimals"] is not None:
            numbers = numbers.round(column["decimals"])
        read[name] = numbers.round().astype("Int64") if column["whole"] else numbers
    return pd.DataFrame(read)[complete]


def _peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
