"""pass@k on disk, whatever the programs raise."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from difflm_jobs.cli.passk import score_completions
from difflm_jobs.inputs.places import refuse_others


def test_half_a_surrogate_pair_in_an_error_loses_no_result(tmp_path: Path) -> None:
    """All programs had run, and nothing was written."""
    exercise = {"task_id": 1, "text": "t", "code": "x = 1", "test_list": ["assert x == 1"]}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(exercise))
    (tmp_path / "samples.jsonl").write_text(json.dumps({"task_id": 1, "completion": "raise Exception('\\ud800')"}))
    score_completions(
        str(tmp_path / "samples.jsonl"),
        problems=tmp_path / "mbpp.jsonl",
        ks=(1,),
        out=tmp_path / "out",
        workers=1,
        overrides=(),
        console=Console(file=io.StringIO()),
    )
    assert json.loads((tmp_path / "out" / "passk.json").read_bytes())["details"]["failures"][0]["error"].endswith(
        "\ud800"
    )
    refuse_others(tmp_path / "out", "passk")  # and it may be given again
    assert "Exception: ?" in (tmp_path / "out" / "passk.md").read_text("utf-8")
