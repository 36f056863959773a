"""A row's way from the verb to the decoding loop is short: whoever reads the code follows it through a dozen files."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from difflm.synthesis.decoding.loop import SlotTable
from difflm.testing.bundles import untrained_stages
from difflm.testing.tables import mixed_table
from difflm_jobs.cli.main import main
from difflm_jobs.stages.stages import this_process

OURS = ("difflm.", "difflm_jobs.", "difflm_evaluators.")
MAX_MODULES = 12


def test_a_row_passes_at_most_twelve_modules_between_the_verb_and_the_decoding_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = untrained_stages(tmp_path / "stages", mixed_table(80)).bundle
    ways: list[list[str]] = []
    refill = SlotTable.refill

    def watched(self: SlotTable, *arguments: Any) -> Any:
        if not ways:
            names = [str(frame.frame.f_globals.get("__name__")) for frame in inspect.stack()]
            ways.append(list(dict.fromkeys(name for name in reversed(names) if name.startswith(OURS))))
        return refill(self, *arguments)

    monkeypatch.setattr(SlotTable, "refill", watched)
    monkeypatch.setattr("difflm_jobs.rows.bundle_rows.cluster_of", lambda runtime: this_process)
    quick = ["sampling.steps=2", "sampling.precision=float32", "sampling.text_tokens=8"]
    settings = [part for setting in quick for part in ("--set", setting)]
    out = tmp_path / "rows.csv"
    monkeypatch.setattr(sys, "argv", ["difflm", "synthesize", str(bundle), "--rows", "4", "--out", str(out), *settings])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    assert out.is_file()
    (way,) = ways
    assert (way[0], way[-1]) == ("difflm_jobs.cli.main", "difflm.synthesis.decoding.loop")
    assert len(way[1:-1]) <= MAX_MODULES, way
