"""The gates of `difflm synthesize`: checked before any work, and those on single records carried out by the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.artifacts.hashing import hash_folder
from difflm.errors import ConfigError
from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_jobs.inputs.given_tables import RealFiles

if TYPE_CHECKING:
    from difflm.artifacts.dataset import Shard
    from difflm_evaluators.live.gates import Gate
    from difflm_evaluators.privacy.screen import ScreenConfig


def row_gates(texts: Sequence[str], real: RealFiles | None) -> tuple[Gate, ...]:
    """Read the gates on rows that are still being made.

    Raises:
        ConfigError: one cannot be read, is on no score that there is, or there is nothing real to compare with.
    """
    from difflm_evaluators.live.gates import STREAMED_SCORES, parse_gate

    gates = tuple(parse_gate(text, STREAMED_SCORES) for text in texts)
    for gate in gates:
        if real is None:
            raise ConfigError(
                f"gate {gate.text!r}: nothing is evaluated; give --evaluate for a run's own splits, or "
                "--evaluate-against TABLE"
            )
        if real.holdout is None and gate.score in ("dcr_quantile", "dcr_share"):
            raise ConfigError(
                f"gate {gate.text!r}: {gate.score} needs rows that were not trained on; give them with --holdout"
            )
    return gates


def screen_of(gates: Sequence[Gate], schema: RecordSchema) -> ScreenConfig | None:
    """Return what the gates that drop records ask for, None where there are none.

    Raises:
        ConfigError: records are to be dropped for their distance, and all columns are free text.
    """
    from difflm_evaluators.columns.columns import column_kind
    from difflm_evaluators.privacy.screen import ScreenConfig

    drops = [gate for gate in gates if gate.action == "drop"]
    if not drops:
        return None
    quantiles = [gate.bound for gate in drops if gate.score == "dcr_quantile"]
    if quantiles and all(column_kind(field) == "text" for field in schema.fields):
        raise ConfigError("drop: dcr_quantile: every column is free text, which has no distance; drop this gate")
    copies = any(gate.score == "exact_copy_share" for gate in drops)
    return ScreenConfig(copies=copies, quantile=max(quantiles, default=None))


def screen_facts(screen: ScreenConfig, real: Path) -> Mapping[str, JSON]:
    """Return what of a screen the rows depend on."""
    return {"config": screen.model_dump(mode="json"), "real_sha256": hash_folder(real)}


class ScreenedSynthesisWorker:
    """A `SynthesisWorker` whose records pass a privacy screen. Further arguments: `real` (the folder of the real
    tables) and `screen` (as of `screen_facts`).
    """

    def __init__(self, args: dict[str, Any]) -> None:
        from difflm.synthesis.workers import SynthesisWorker
        from difflm_evaluators.privacy.screen import PrivacyScreen, ScreenConfig

        screen = PrivacyScreen(Path(args["real"]), ScreenConfig.model_validate(args["screen"]["config"]))
        self._worker = SynthesisWorker(args, screen=screen)

    def run(self, shard: Shard) -> dict[str, JSON]:
        """Draw the records of indices shard.start to shard.stop."""
        return self._worker.run(shard)
