"""`difflm downstream`: a language model trained further on real, on synthetic and on both kinds of code, and compared.

    texts ─> base-model ─> train-real, train-synthetic, train-mixed ─> compare-models

Every arm begins with the same model and takes as many optimizer steps, of as many texts, as `epochs` passes over the
real texts take. Held-out texts that are equal to one that an arm trains on are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pydantic import Field, model_validator

from difflm.artifacts import Artifact, ArtifactStore, write_bytes_atomic, write_json_atomic
from difflm.config import Config, dump_yaml
from difflm.errors import DataError
from difflm.models.compact import CompactDecoderConfig
from difflm.records.notices import Notice
from difflm.records.reading import ReadConfig
from difflm.seeding import derive_seed
from difflm.telemetry import JSON
from difflm.training.language_model_task import TEXT, LanguageModelConfig
from difflm.training.loop import LoopConfig
from difflm_evaluators.texts.sandbox import SandboxLimits
from difflm_jobs.cli.summary import NOTICES
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.inputs.models import fingerprint
from difflm_jobs.inputs.record_kinds import hash_source, read_text_records, usable
from difflm_jobs.inputs.sources import Source, locate
from difflm_jobs.pipeline.pipeline import execute, resolve
from difflm_jobs.pipeline.stage import Stage, StageContext, StageOutcome
from difflm_jobs.pipeline.training import run_training
from difflm_jobs.stages.stages import cluster_of

if TYPE_CHECKING:
    from rich.console import Console

ARMS: Final = ("real", "synthetic", "mixed")
MODEL: Final = "model"


class ScratchConfig(Config):
    """A small model that is made for the comparison, where no pretrained one is at hand."""

    texts: Source = Field(description="code that it is trained on first; none of it is held out")
    decoder: CompactDecoderConfig = CompactDecoderConfig(vocabulary_size=2000)
    training: LanguageModelConfig = LanguageModelConfig(
        epochs=2.0, loop=LoopConfig(learning_rate=2e-3, warmup_steps=50, evaluate_every=200)
    )


class PassAtKConfig(Config):
    """Exercises that every model is given."""

    problems: str = Field(min_length=1, description="a file of HumanEval or MBPP")
    k: tuple[int, ...] = (1,)
    samples: int = Field(default=1, ge=1, description="completions of each exercise")
    temperature: float = Field(default=0.2, gt=0)
    max_tokens: int = Field(default=256, ge=1)
    workers: int = Field(default=2, ge=1, description="programs that run at a time")
    limits: SandboxLimits = SandboxLimits()


class DownstreamConfig(Config):
    """What is compared. `model` is a causal LM; without one, a small one is made of `scratch`."""

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    model: str | None = Field(default=None, description="hub id or a folder made by save_pretrained")
    revision: str | None = None
    scratch: ScratchConfig | None = None
    real: Source
    synthetic: Source
    held_out: Source
    longest: int = Field(default=2000, ge=1, description="most characters of a text; longer ones are left out, counted")
    training: LanguageModelConfig = LanguageModelConfig()
    pass_at_k: PassAtKConfig | None = None
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.model is None) == (self.scratch is None):
            raise ValueError("give either model, or scratch with texts that a small model is trained on first")
        return self

    def sources(self) -> dict[str, Source]:
        """The files of texts by their keys."""
        scratch = {} if self.scratch is None else {"scratch": self.scratch.texts}
        return {"real": self.real, "synthetic": self.synthetic, "held_out": self.held_out, **scratch}


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Writes real, synthetic, mixed, held_out and scratch as Parquet files of texts that parse, each text once."""

    config: DownstreamConfig
    name: str = "texts"
    version: int = 1
    output: str = "texts"
    inputs: tuple[str, ...] = ()

    def section(self) -> Mapping[str, JSON]:
        return {"longest": self.config.longest}

    def sources(self) -> Mapping[str, str]:
        return {key: hash_source(self._path(key)) for key in self.config.sources()}

    def _path(self, key: str) -> Path:
        return locate(self.config.sources()[key], key, folders=True)

    def run(self, context: StageContext) -> StageOutcome:
        notices: list[JSON] = []
        texts = {key: self._read(key, notices) for key in self.config.sources()}
        texts["mixed"] = list(dict.fromkeys(texts["real"] + texts["synthetic"]))
        trained = {text for key, some in texts.items() if key != "held_out" for text in some}
        fresh = [text for text in texts["held_out"] if text not in trained]
        if len(fresh) < len(texts["held_out"]):
            notices.append(
                f"held_out: {len(texts['held_out']) - len(fresh)} texts are also trained on and are left out"
            )
        if not fresh:
            raise DataError("held_out: every text is also trained on; give texts that are in no other file")
        texts["held_out"] = fresh
        for key, some in texts.items():
            _write(context.output / f"{key}.parquet", some)
        counts: dict[str, JSON] = {key: len(some) for key, some in texts.items()}
        return StageOutcome(facts={**counts, NOTICES: notices})

    def _read(self, key: str, notices: list[JSON]) -> list[str]:
        def tell(notice: Notice) -> None:
            notices.append(f"{key}: {notice.message}")

        records = read_text_records(self._path(key), "code", ReadConfig(), tell)
        texts: list[str] = usable(records, "code", longest=self.config.longest, report=tell).column(0).to_pylist()
        return texts


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """Writes the model that every arm begins with, as `save_pretrained` does."""

    config: DownstreamConfig
    name: str = "base-model"
    version: int = 1
    output: str = "language-model"
    inputs: tuple[str, ...] = ("texts",)

    def section(self) -> Mapping[str, JSON]:
        scratch = self.config.scratch
        made = None if scratch is None else scratch.model_dump(mode="json", exclude={"texts"})
        return {"model": self.config.model, "revision": self.config.revision, "scratch": made, "seed": self.config.seed}

    def sources(self) -> Mapping[str, str]:
        return {} if self.config.model is None else fingerprint(self.config.model, "model")

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.models.compact import write_small_language_model
        from difflm.training.language_model_task import load_language_model, read_texts

        scratch = self.config.scratch
        if scratch is None:
            assert self.config.model is not None
            module, tokenizer = load_language_model(self.config.model, self.config.revision)
            save(module.model, tokenizer, context.output / MODEL)
            return StageOutcome()
        texts = context.input("texts")
        begun = context.work / "begun"
        if not begun.exists():
            seed = derive_seed(self.config.seed, self.name)
            longest = scratch.training.longest_tokens
            write_small_language_model(
                begun, scratch.decoder, read_texts(texts / "scratch.parquet"), longest=longest, seed=seed
            )
        return train_further(
            context, self.config, name=self.name, model=begun, arm="scratch", training=scratch.training
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArm:
    """Writes the base model as it is after the arm's texts."""

    config: DownstreamConfig
    arm: str
    version: int = 1
    output: str = "language-model"
    inputs: tuple[str, ...] = ("texts", "base-model")

    @property
    def name(self) -> str:
        return f"train-{self.arm}"

    def section(self) -> Mapping[str, JSON]:
        training = self.config.training.model_dump(mode="json")
        return {"arm": self.arm, "training": training, "seed": self.config.seed}

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        training = self.config.training
        if training.steps is None:  # the same budget for every arm
            from difflm.training.record_data import RowOrder

            facts = context.inputs["texts"].manifest.facts
            order = RowOrder(count=int(str(facts["real"])), batch_size=training.batch_size, seed=0)
            steps = order.steps(most=10**9, epochs=training.epochs, floor=1)
            training = training.model_copy(update={"steps": steps})
        model = context.input("base-model") / MODEL
        return train_further(context, self.config, name=self.name, model=model, arm=self.arm, training=training)


def train_further(
    context: StageContext,
    config: DownstreamConfig,
    *,
    name: str,
    model: Path,
    arm: str,
    training: LanguageModelConfig,
) -> StageOutcome:
    """Train a model on an arm's texts through the training runtime, and save it beside its loss curve."""
    from difflm.models.decoder_store import read_tensors
    from difflm.training.language_model_task import load_language_model
    from difflm.training.task import TaskSpec

    texts = context.input("texts")
    spec = TaskSpec(
        factory="language_model",
        config=training.model_dump(mode="json"),
        inputs={
            "model": str(model),
            "train": str(texts / f"{arm}.parquet"),
            "held_out": str(texts / "held_out.parquet"),
        },
        seed=derive_seed(config.seed, "downstream"),
    )
    outcome = run_training(context, name=name, spec=spec, loop=training.loop, runtime=config.runtime)
    module, tokenizer = load_language_model(str(model))
    best = context.output / "best.safetensors"
    module.model.load_state_dict(read_tensors(best), strict=False)  # tied matrices are there once
    save(module.model, tokenizer, context.output / MODEL)
    best.unlink()
    return outcome


def save(model: object, tokenizer: object, folder: Path) -> None:
    """Both as `save_pretrained` does."""
    for part in (model, tokenizer):
        part.save_pretrained(folder)  # type: ignore[attr-defined]


def _write(path: Path, texts: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({TEXT: pa.array(texts, pa.string())}), path)


def run_downstream(config: DownstreamConfig, runs: Path, console: Console) -> Artifact:
    """Run every stage whose artifact is not there yet; returns the comparison's artifact."""
    from difflm_jobs.pipeline.progress import reporting
    from difflm_jobs.studies.downstream_scores import CompareModels

    stages: list[Stage] = [
        Texts(config=config),
        BaseModel(config=config),
        *(TrainArm(config=config, arm=arm) for arm in ARMS),
        CompareModels(config=config),
    ]
    store = ArtifactStore(runs / config.name)
    steps = resolve(stages, store)
    with store.exclusive(), reporting(console) as reporter:
        write_bytes_atomic(store.root / "config.yaml", dump_yaml(config).encode())
        made = list(execute(steps, store, reporter=reporter, cluster=cluster_of(config.runtime)))
    costs: dict[str, JSON] = {record.stage: round(record.seconds, 1) for record, _ in made}
    notices = made[0][1].manifest.facts[NOTICES]
    write_json_atomic(store.root / "notices.json", {"notices": notices, "seconds": costs})
    return made[-1][1]
