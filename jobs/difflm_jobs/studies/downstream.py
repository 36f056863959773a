"""`difflm downstream`: a language model trained further on real, on synthetic and on both kinds of code, and compared.

    texts ─> base-model ─> train-real, train-synthetic, train-mixed ─> compare-models

Every arm begins with the same model and takes as many optimizer steps, of as many texts, as `epochs` passes over the
real texts take. Held-out texts that are equal to one that an arm trains on are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from difflm.artifacts import Artifact, ArtifactStore, write_bytes_atomic, write_json_atomic
from difflm.config import dump_yaml, load_yaml, validate
from difflm.errors import DataError
from difflm.records.files.reading import ReadConfig
from difflm.records.notices import Notice
from difflm.regular_files import read_file
from difflm.seeding import derive_seed
from difflm.telemetry import JSON, parse_json
from difflm.training.language_model_task import TEXT, LanguageModelConfig
from difflm_jobs.experiment import refuse_anybodys
from difflm_jobs.inputs.models import fingerprint
from difflm_jobs.inputs.record_kinds import CODE
from difflm_jobs.inputs.sources import Source, hash_source, locate
from difflm_jobs.pipeline.pipeline import execute, resolve
from difflm_jobs.pipeline.runlog import NOTICES
from difflm_jobs.pipeline.stage import Stage, StageContext, StageOutcome, apart
from difflm_jobs.pipeline.training import run_training
from difflm_jobs.stages.stages import cluster_of
from difflm_jobs.studies.downstream_config import ARMS, MODEL, DownstreamConfig, ScratchConfig
from difflm_jobs.studies.downstream_scores import CompareModels

if TYPE_CHECKING:
    from difflm_jobs.pipeline.progress import Reporting


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Writes real, synthetic, mixed, held_out and scratch as Parquet files of texts that parse, each text once."""

    files: Mapping[str, Source] = field(metadata=apart())
    longest: int
    name: ClassVar[str] = "texts"
    version: ClassVar[int] = 1
    output: ClassVar[str] = "texts"
    inputs: ClassVar[tuple[str, ...]] = ()

    def sources(self) -> Mapping[str, str]:
        return {key: hash_source(self._path(key)) for key in self.files}

    def _path(self, key: str) -> Path:
        return locate(self.files[key], key, folders=True)

    def run(self, context: StageContext) -> StageOutcome:
        notices: list[JSON] = []
        texts = {key: self._read(key, notices) for key in self.files}
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

        records = CODE.read(self._path(key), ReadConfig(), tell)
        texts: list[str] = CODE.usable(records, longest=self.longest, report=tell).column(0).to_pylist()
        return texts


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """Writes the model that every arm begins with, as `save_pretrained` does."""

    model: str | None
    revision: str | None
    scratch: ScratchConfig | None = field(metadata=apart("texts"))
    seed: int
    name: ClassVar[str] = "base-model"
    version: ClassVar[int] = 1
    output: ClassVar[str] = "language-model"
    inputs: ClassVar[tuple[str, ...]] = ("texts",)

    def sources(self) -> Mapping[str, str]:
        return {} if self.model is None else fingerprint(self.model, "model")

    def run(self, context: StageContext) -> StageOutcome:
        from difflm.models.compact import write_small_language_model
        from difflm.training.language_model_task import load_language_model, read_texts

        scratch = self.scratch
        if scratch is None:
            assert self.model is not None
            module, tokenizer = load_language_model(self.model, self.revision)
            save(module.model, tokenizer, context.output / MODEL)
            return StageOutcome()
        texts = context.input("texts")
        begun = context.work / "begun"
        if not begun.exists():
            seed = derive_seed(self.seed, self.name)
            longest = scratch.training.longest_tokens
            write_small_language_model(
                begun, scratch.decoder, read_texts(texts / "scratch.parquet"), longest=longest, seed=seed
            )
        return train_further(
            context, name=self.name, model=begun, arm="scratch", training=scratch.training, seed=self.seed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArm:
    """Writes the base model as it is after the arm's texts."""

    training: LanguageModelConfig
    seed: int
    arm: str
    version: ClassVar[int] = 1
    output: ClassVar[str] = "language-model"
    inputs: ClassVar[tuple[str, ...]] = ("texts", "base-model")

    @property
    def name(self) -> str:
        """Return the stage's name, with that of the arm."""
        return f"train-{self.arm}"

    def sources(self) -> Mapping[str, str]:
        return {}

    def run(self, context: StageContext) -> StageOutcome:
        training = self.training
        if training.steps is None:  # the same budget for every arm
            from difflm.training.record_data import RowOrder

            facts = context.inputs["texts"].manifest.facts
            order = RowOrder(count=int(str(facts["real"])), batch_size=training.batch_size, seed=0)
            steps = order.steps(most=10**9, epochs=training.epochs, floor=1)
            training = training.model_copy(update={"steps": steps})
        model = context.input("base-model") / MODEL
        return train_further(context, name=self.name, model=model, arm=self.arm, training=training, seed=self.seed)


def train_further(
    context: StageContext,
    *,
    name: str,
    model: Path,
    arm: str,
    training: LanguageModelConfig,
    seed: int,
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
        seed=derive_seed(seed, "downstream"),
    )
    outcome = run_training(context, name=name, spec=spec, loop=training.loop, runtime=context.runtime)
    module, tokenizer = load_language_model(str(model))
    best = context.output / "best.safetensors"
    module.model.load_state_dict(read_tensors(best), strict=False)  # tied matrices are there once
    save(module.model, tokenizer, context.output / MODEL)
    best.unlink()
    return outcome


def save(model: object, tokenizer: object, folder: Path) -> None:
    """Save model and tokenizer with `save_pretrained`."""
    for part in (model, tokenizer):
        part.save_pretrained(folder)  # type: ignore[attr-defined]


def _write(path: Path, texts: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({TEXT: pa.array(texts, pa.string())}), path)


def downstream_stages(config: DownstreamConfig) -> list[Stage]:
    """Make the stages of a comparison, each with its own part of the configuration."""
    return [
        Texts(files=config.sources(), longest=config.longest),
        BaseModel(model=config.model, revision=config.revision, scratch=config.scratch, seed=config.seed),
        *(TrainArm(arm=arm, training=config.training, seed=config.seed) for arm in ARMS),
        CompareModels(
            model=config.model,
            pass_at_k=config.pass_at_k,
            longest_tokens=config.training.longest_tokens,
            seed=config.seed,
        ),
    ]


def run_downstream(config: DownstreamConfig, runs: Path, reporting: Reporting) -> Artifact:
    """Run every stage whose artifact is not there yet; return the comparison's artifact."""
    store = ArtifactStore(runs / config.name)
    refuse_anybodys(store.root, _OURS)
    steps = resolve(downstream_stages(config), store)
    with store.exclusive(), reporting() as reporter:
        write_bytes_atomic(store.root / "config.yaml", dump_yaml(config).encode())
        cluster = cluster_of(config.runtime)
        made = list(execute(steps, store, runtime=config.runtime, reporter=reporter, cluster=cluster))
    costs: dict[str, JSON] = {record.stage: round(record.seconds, 1) for record, _ in made}
    notices = made[0][1].manifest.facts[NOTICES]
    write_json_atomic(store.root / "notices.json", {"notices": notices, "seconds": costs})
    return made[-1][1]


def _is_configuration(path: Path) -> bool:
    """Tell whether a file is a configuration as `run_downstream` writes it."""
    found = validate(DownstreamConfig, load_yaml(path), str(path))
    return dump_yaml(found).encode() == read_file(path)


def _is_account(path: Path) -> bool:
    found = parse_json(read_file(path))
    return isinstance(found, dict) and set(found) == {"notices", "seconds"}


_OURS = {"config.yaml": _is_configuration, "notices.json": _is_account}
