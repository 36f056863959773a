"""Script: a driver that runs the tests' training job in a Ray of its own. Arguments: work folder, scratch folder."""

from __future__ import annotations

import sys
from pathlib import Path

from difflm.runtime.cluster import ClusterConfig, start_or_connect
from difflm.runtime.deepspeed_engine import DeepSpeedEngineConfig
from difflm.runtime.training import TrainingJob, WorkersConfig, train
from difflm.testing.toys import TOY
from difflm.training.loop import LoopConfig
from difflm.training.task import TaskSpec

STEPS, HOLD, CHECKPOINT_EVERY = 24, 14, 4


def two_worker_job(work_dir: Path, scratch: Path) -> TrainingJob:
    """Two CPU workers, ZeRO-2; both wait at step index 14, after the checkpoints of steps 4, 8 and 12."""
    return TrainingJob(
        name="toy",
        spec=TaskSpec(
            factory=TOY, config={"steps": STEPS, "hold_at_step": HOLD}, inputs={"scratch": str(scratch)}, seed=10
        ),
        loop=LoopConfig(
            learning_rate=0.15,
            precision="float32",
            schedule="constant",
            warmup_steps=2,
            evaluate_every=3,
            checkpoint_every=CHECKPOINT_EVERY,
            log_every=1,
        ),
        engine=DeepSpeedEngineConfig(zero_stage=2),
        workers=WorkersConfig(num_workers=2),
        work_dir=work_dir,
        output_dir=work_dir.parent / "output",
    )


if __name__ == "__main__":
    start_or_connect(ClusterConfig(address="local", num_cpus=2, object_store_mib=128))
    train(two_worker_job(Path(sys.argv[1]), Path(sys.argv[2])))
