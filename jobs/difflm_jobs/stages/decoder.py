"""Stage `fit-decoder`: the decoder's folder; a compact one is fitted to the training split first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from difflm.artifacts import atomic_directory
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm_jobs.inputs.models import fingerprint
from difflm_jobs.pipeline.runlog import NOTICES
from difflm_jobs.pipeline.stage import StageContext, StageOutcome
from difflm_jobs.pipeline.training import run_training

if TYPE_CHECKING:
    from difflm.models.decoder import DecoderConfig
    from difflm.training.decoder_task import DecoderFitConfig
    from difflm.training.loop import LoopConfig
    from difflm.training.steered_task import Steering
    from difflm.training.task import TaskSpec

OFTEN = 10
"""Steps between looks at the validation rows of a small table, which are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitDecoder:
    """Writes decoder.json, tokenizer/ and, for a compact decoder, model/ with best.safetensors and the loss curve.

    `fit` is how to fit a compact decoder; None for one that is fitted already. With `steering` it learns to write
    records by itself beside a latent of so few nats, without it to copy them from prompts. `cells` says whether the
    encoder or the decoder reads values in cells of so many tokens, so that longer values are worth a notice. Pieces of
    texts enter the tokenizer that at least `rows_per_piece` training rows have.
    """

    decoder: DecoderConfig
    fit: DecoderFitConfig | None
    steering: Steering | None
    seed: int
    cells: bool
    rows_per_piece: int = 0
    inputs: ClassVar[tuple[str, ...]] = ("prepare",)
    name: ClassVar[str] = "fit-decoder"
    version: ClassVar[int] = 7
    output: ClassVar[str] = "decoder"

    def sources(self) -> Mapping[str, str]:
        decoder = self.decoder
        return fingerprint(decoder.model, "decoder.model") if decoder.kind == "pretrained" else {}

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.models.decoder_store import read_parts, read_tensors, write_compact_model
        from difflm.records.schema import read_schema

        prepared, described = context.input("prepare"), context.work / "described"
        if not described.exists():
            context.report(0, None, "fitting the tokenizer" if self.fit is not None else "reading the decoder")
            self.describe(prepared, described)
        outcome = StageOutcome()
        if self.fit is not None:
            spec = self.spec(prepared, described)
            outcome = run_training(
                context, name=self.name, spec=spec, loop=self._loop(prepared), runtime=context.runtime
            )
        outcome = replace(outcome, facts={**outcome.facts, NOTICES: [*_cut(prepared), *self._partly_read(described)]})
        shutil.copytree(described, context.output, dirs_exist_ok=True)
        if self.fit is not None:
            parts = read_parts(context.output, read_schema(prepared))
            write_compact_model(context.output, parts, read_tensors(context.output / "best.safetensors"))
        return outcome

    def spec(self, prepared: Path, described: Path) -> TaskSpec:
        """Describe the fit of a compact decoder to a prepared table, with the tokenizer in `described`."""
        from difflm.training.task import TaskSpec

        assert self.fit is not None, "a pretrained decoder is not fitted"
        fit = self.fit.model_dump(mode="json")
        steering = None if self.steering is None else self.steering.model_dump(mode="json")
        return TaskSpec(
            factory="decoder" if steering is None else "steered_decoder",
            config=fit if steering is None else {"fit": fit, "steering": steering},
            inputs={"prepare": str(prepared), "tokenizer": str(described)},
            seed=derive_seed(self.seed, self.name),
        )

    def _loop(self, prepared: Path) -> LoopConfig:
        """Look often at a fit to few rows, so that it ends before they are known by heart."""
        from difflm.records.protection.smoothing import FEW_ROWS
        from difflm.records.schema import read_schema

        assert self.fit is not None, "a pretrained decoder is not fitted"
        loop = self.fit.loop
        if self.steering is None or read_schema(prepared).row_count >= FEW_ROWS:
            return loop
        return loop.model_copy(update={"evaluate_every": min(loop.evaluate_every, OFTEN)})

    def _partly_read(self, described: Path) -> list[JSON]:
        """Describe training values with more tokens than a cell has; a pooled latent has no cells."""
        if not self.cells:
            return []
        facts = json.loads((described / "decoder.json").read_bytes())
        return [
            f"{count:,} training values of {column!r} have more than {width} tokens; only these are encoded, while all "
            "are decoded: raise decoder.value_tokens"
            for (column, count), width in zip(facts["partly_read"].items(), facts["widths"], strict=True)
            if count
        ]

    def describe(self, prepared: Path, folder: Path) -> None:
        """Write the tokenizer and the layout of the training split's values."""
        from difflm.models.decoder_store import write_tokenizer
        from difflm.records.json_codec import JsonRecordCodec
        from difflm.records.schema import read_schema
        from difflm.training.record_data import read_split

        schema = read_schema(prepared)
        literals = JsonRecordCodec(schema).value_literals(read_split(prepared, "train", schema))
        with atomic_directory(folder) as temporary:
            write_tokenizer(
                temporary,
                self.decoder,
                schema,
                literals,
                any_order=self.steering is not None,
                rows_per_piece=self.rows_per_piece,
            )


def _cut(prepared: Path) -> list[JSON]:
    """Describe validation texts that are longer than any of training: the loss is that of their beginning."""
    import pyarrow.parquet as pq

    from difflm.records.json_codec import JsonRecordCodec
    from difflm.records.schema import read_schema

    validation = pq.read_table(prepared / "validation.parquet")
    notices = JsonRecordCodec(read_schema(prepared)).normalize_table(validation).notices
    return [f"validation, {notice.column!r}: {notice.message}" for notice in notices if notice.code == "length"]
