"""Progress: what is logged meanwhile is told, what was logged before is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from difflm.runtime.work_folder import following


def row(step: int) -> str:
    event: dict[str, Any] = {"kind": "train", "step": step, "total": 100, "loss": 1.0 / step, "metrics": {}}
    return json.dumps(event) + "\n"


def test_steps_of_an_earlier_run_are_not_told(tmp_path: Path) -> None:
    events, told = tmp_path / "events.jsonl", list[tuple[int, int, float]]()

    def progress(step: int, total: int, metrics: Any) -> None:
        told.append((step, total, metrics["loss"]))

    events.write_text(row(80))
    with following(events, progress):
        pass
    assert told == []
    with following(events, progress), events.open("a") as file:
        file.write(row(50))
    assert told[-1] == (50, 100, 0.02)
