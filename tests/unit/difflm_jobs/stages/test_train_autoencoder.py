"""The stage `train-autoencoder` with a warm-up: through the stages, and on from where it was killed."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest
from rich.console import Console

from difflm.artifacts import Artifact
from difflm.synthesis.bundle import load_bundle
from difflm.testing.models import save_decoder
from difflm.testing.tables import mixed_table
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.experiment import run_experiment
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.progress import reporting
from difflm_jobs.stages import autoencoder
from difflm_jobs.stages.stages import this_process


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    model = save_decoder(tmp_path / "llama", "llama")
    pyarrow.csv.write_csv(mixed_table(60).select(["age", "city"]), tmp_path / "people.csv")
    loop = "{warmup_steps: 1, evaluate_every: 2, checkpoint_every: 2}"
    (tmp_path / "tiny.yaml").write_text(
        f"""
name: tiny
data: {{train: {tmp_path / "people.csv"}, validation: 0.2, test_share: 0.1}}
decoder: {{kind: pretrained, model: {model}, dtype: float32, cells_per_slot: 2}}
autoencoder:
  encoder: {{kind: compact, hidden_size: 16, layers: 1, heads: 2}}
  injector: {{kind: vocabulary, hidden_size: 16}}
  draft: {{steps: 4, batch_size: 8, loop: {loop}}}
  steps: 2
  batch_size: 8
  loop: {loop}
prior: {{width: 16, blocks: 1, steps: 2, loop: {loop}}}
"""
    )
    return load_experiment(str(tmp_path / "tiny.yaml"))


def run(config: ExperimentConfig, runs: Path) -> list[Artifact]:
    _, artifacts = run_experiment(
        config,
        runs,
        last="assemble",
        started=time.time(),
        reporting=partial(reporting, Console(quiet=True)),
        cluster=this_process,
    )
    return artifacts


def test_a_draft_comes_first_and_a_killed_training_goes_on_behind_it(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = autoencoder.run_training, list[str]()

    def killed_behind_the_draft(*args: Any, name: str, **given: Any) -> Any:
        calls.append(name)
        if name == "train-autoencoder":
            raise KeyboardInterrupt
        return train(*args, name=name, **given)

    with monkeypatch.context() as patched:
        patched.setattr(autoencoder, "run_training", killed_behind_the_draft)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "runs")
    assert calls == ["train-autoencoder-draft", "train-autoencoder"]
    found = {artifact.kind: artifact for artifact in run(config, tmp_path / "runs")}
    facts: Any = found["autoencoder"].manifest.facts
    assert (facts["steps"], facts["draft"]["steps"]) == (2, 4)
    assert facts["draft"]["timings"] == {}, "the draft was trained by the run before"
    bundle = load_bundle(found["bundle"].path, allow_local_base=True)
    assert bundle.shape.tokens
    assert bundle.shape.injector.kind == "vocabulary"
