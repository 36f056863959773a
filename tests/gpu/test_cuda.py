"""On a GPU: constrained synthesis, and a training task's step; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import untrained_stages
from difflm.testing.tables import mixed_table
from difflm.training.autoencoder_task import AutoencoderConfig, build_autoencoder_task
from difflm.training.engine import PlainEngine
from difflm.training.task import TaskSpec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_records_drawn_on_the_device_are_valid(tmp_path: Path) -> None:
    stages = untrained_stages(tmp_path, mixed_table(60))
    config = SamplingConfig(steps=4, attempts=8, precision="bfloat16")
    bundle = load_bundle(stages.bundle, solver=config.solver_settings(), device="cuda", precision=config.dtype())
    draws = Synthesizer(bundle, config, device="cuda").draw(range(16), seed=0, attempt=0)
    assert {draw.reason for draw in draws} <= {None, "datetime", "range", "length"}
    assert any(draw.record is not None for draw in draws)


def test_a_training_step_changes_what_is_trainable_only(tmp_path: Path) -> None:
    stages = untrained_stages(tmp_path, mixed_table(60))
    spec = TaskSpec(
        factory="autoencoder",
        config=AutoencoderConfig(batch_size=8).model_dump(mode="json"),
        inputs={"prepare": str(stages.prepared), "fit-decoder": str(stages.decoder)},
    )
    task = build_autoencoder_task(spec, "cuda")
    frozen = {name: value.clone() for name, value in task.module.named_parameters() if not value.requires_grad}
    engine = PlainEngine(task.module, device=torch.device("cuda"), precision="bfloat16")
    engine.backward(engine.forward(task.batch(0, 0, 0, 1))["loss"])
    assert engine.step(1e-3) > 0
    assert all(torch.equal(value, dict(task.module.named_parameters())[name]) for name, value in frozen.items())
