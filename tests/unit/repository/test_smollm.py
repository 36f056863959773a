"""The script that measures language models on a GPU works from end to end with a tiny random one."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def test_a_tiny_model_is_trained_measured_and_scored_on_a_cpu(tmp_path: Path) -> None:
    out, script = tmp_path / "smollm.json", REPOSITORY / "tests" / "gpu" / "smollm.py"
    command = [sys.executable, str(script), "--device", "cpu", "--tiny", "--presets", "llm/adult", "--out", str(out)]
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    environment = {**os.environ, "PYTHONPATH": roots}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = json.loads(out.read_text())["presets"].values()
    assert found["steps"] == 2
    assert found["training"]["record_tokens_per_second"] > 0
    assert 0 <= found["training"]["model_flop_utilisation"] < 1
    assert found["sampling"]["engine"]["rows"] == found["sampling"]["generate"]["rows"] == 8
    assert found["sampling"]["vllm"]
    assert "shape_error" in found["scores"]
