"""A fit within a budget that is killed goes on with the settings that were chosen, on whatever machine."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

FIT = """
import os, signal, sys
import difflm
from difflm.training.steered_task import SteeredDecoderTask
from difflm_jobs.planning import choice
from difflm_jobs.planning.speed import Speed, StepSpeed

each = StepSpeed(seconds=float(sys.argv[1]), rows=32.0)
choice.measure = lambda config, sample: Speed(decoder=each, autoencoder=each, prior=each)
if sys.argv[2] == "killed":
    SteeredDecoderTask.after_step = lambda task, step: os.kill(os.getpid(), signal.SIGKILL)
tiny = {"decoder": {"hidden_size": 16, "layers": 1, "heads": 1, "intermediate_size": 16}}
tiny |= {"decoder_fit": {"batch_size": 32}, "prior": {"steps": 4, "width": 16, "blocks": 1}}
tiny |= {"autoencoder": {"steps": 4, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}}}
difflm.fit("people.csv", config=tiny, out="run", budget="60s", progress=False)
"""


@pytest.mark.integration
def test_a_killed_fit_goes_on_with_what_was_chosen_for_it(tmp_path: Path) -> None:
    ages = list(range(200))
    pa.csv.write_csv(pa.table({"age": ages, "city": [f"c{age % 3}" for age in ages]}), tmp_path / "people.csv")

    def fit(*arguments: str) -> int:
        return subprocess.run([sys.executable, "-c", FIT, *arguments], cwd=tmp_path, check=False).returncode

    root = tmp_path / "run"
    assert fit("0.2", "killed") == -signal.SIGKILL
    chosen = (root / "quality.json").read_bytes()
    (killed,) = [path.name for path in (root / "work").iterdir() if path.name.startswith("decoder-")]
    assert fit("0.1", "undisturbed") == 0, "twice as fast: another choice would have twice the steps"
    assert (root / "quality.json").read_bytes() == chosen
    made = [path.name for path in (root / "artifacts").iterdir() if path.name.startswith("decoder-")]
    assert made == [killed]
    steps = json.loads(chosen)[0]["chosen"]["decoder_fit.steps"]
    assert f"  steps: {steps}\n" in (root / "config.yaml").read_text()
    (last,) = [
        line
        for line in (root / "runs.jsonl").read_text().splitlines()
        if '"error": null' in line or '"error":null' in line
    ]
    expected = {stage["stage"]: stage["predicted_seconds"] for stage in json.loads(last)["stages"]}
    assert expected["fit-decoder"] == pytest.approx(json.loads(chosen)[0]["times"]["fit-decoder"])
