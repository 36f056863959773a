"""The configuration of an experiment: every component's own section, put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from difflm.config import Config
from difflm.errors import ConfigError
from difflm.models.compact import CompactDecoderConfig
from difflm.models.decoder import DecoderConfig
from difflm.privacy.budget import PrivacyConfig
from difflm.records.files.reading import ReadConfig
from difflm.records.protection.settings import PROTECTED, Protection
from difflm.records.schema import SchemaConfig
from difflm.runtime.cluster import ClusterConfig, in_ray_job
from difflm.runtime.process import usable_processors
from difflm.runtime.shard_actor import ActorPoolConfig
from difflm.runtime.training import AutoEngineConfig, EngineConfig, WorkersConfig
from difflm.serving.config import ServeConfig
from difflm.synthesis.calibration import CalibrationConfig
from difflm.synthesis.critic.fit import CriticConfig
from difflm.synthesis.decoding.vllm import require_soft_prompt
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.training.autoencoder_task import WHOLE_RECORDS, AutoencoderConfig
from difflm.training.conditional_task import ConditionsConfig
from difflm.training.decoder_task import DecoderFitConfig
from difflm.training.diffusion_task import DiffusionPriorConfig, PriorConfig
from difflm_evaluators.evaluation import EvaluationConfig
from difflm_evaluators.live.live import LiveConfig
from difflm_evaluators.texts.language import LanguageConfig
from difflm_evaluators.texts.text_scores import CopiesConfig
from difflm_jobs.inputs.gates import table_gates
from difflm_jobs.inputs.relations import AUTO, RelationsConfig, asked_of
from difflm_jobs.inputs.sources import DataConfig


def default_threads() -> int:
    """Threads of a training worker: one for every processor that may be used, or fewer where OMP_NUM_THREADS says so.

    A driver that Ray started has that variable from Ray, not from a person.
    """
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wished.isdecimal() and int(wished) >= 1 and not in_ray_job():
        return min(usable_processors(), int(wished))
    return usable_processors()


class MapConfig(Config):
    """How a stage that maps rows is spread over actors."""

    rows_per_shard: int = Field(default=2048, ge=1, description="a killed run loses at most the shards under way")
    timeout_s: float = Field(default=1800.0, gt=0, description="longest wait for the next shard")
    pool: ActorPoolConfig = ActorPoolConfig()


class MemoryConfig(Config):
    """What a cluster has, for `plan` and `run` to compare with; on this machine they look for themselves."""

    node_gib: float | None = Field(default=None, gt=0, description="memory of a machine that workers run on")
    gpu_gib: float | None = Field(default=None, gt=0, description="memory of a GPU that workers run on")


class RuntimeConfig(Config):
    """Where and on how much the stages run; an artifact's identity does not depend on it, but for the size of shards.

    Trained weights do: each worker takes batches of its own, so more workers mean more rows per step.
    By default one worker trains with all processors of this machine.
    """

    cluster: ClusterConfig = ClusterConfig()
    workers: WorkersConfig = Field(default_factory=lambda: WorkersConfig(cpus_per_worker=default_threads()))
    engine: EngineConfig = AutoEngineConfig()
    encoding: MapConfig = MapConfig()
    synthesis: MapConfig = MapConfig()
    memory: MemoryConfig = MemoryConfig()


class PublishedConfig(Config):
    """A figure that somebody else printed, shown in the report together with its source."""

    method: str = Field(min_length=1)
    score: str = Field(min_length=1, description="name of the score, such as shape_error")
    value: float
    source: str = Field(min_length=1)


class ExperimentConfig(Config):
    """One experiment. Every section is described where its component is."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="also the name of its folder")
    seed: int = Field(default=0, ge=0, lt=2**63, description="the root of all randomness")
    data: DataConfig
    schema_: SchemaConfig = Field(default=SchemaConfig(), alias="schema")
    relations: RelationsConfig = Field(
        default=AUTO,
        description="between columns, kept in every synthetic row: auto (those that are found), off, or a list such as "
        "['start <= end', 'total == n * unit'], with auto in it for both",
    )
    protect: Protection = Field(
        default=PROTECTED,
        description="values that few training rows have are not learned, written or drawn; off, or off for columns",
    )
    decoder: DecoderConfig = CompactDecoderConfig()
    decoder_fit: DecoderFitConfig = Field(default=DecoderFitConfig(), description="for a compact decoder only")
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    prior: PriorConfig = DiffusionPriorConfig()
    conditions: ConditionsConfig = Field(
        default=ConditionsConfig(), description="for conditional synthesis, if enabled"
    )
    calibration: CalibrationConfig = Field(default=CalibrationConfig(), description="of how often values are drawn")
    critic: CriticConfig = Field(default=CriticConfig(), description="trees that turn down some of a table's draws")
    sampling: SamplingConfig = SamplingConfig()
    privacy: PrivacyConfig | None = Field(
        default=None,
        exclude_if=lambda privacy: privacy is None,
        description="differential privacy, where it is asked for",
    )
    rows: int | None = Field(default=None, ge=1, description="rows to make; None: as many as were trained on")
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="of tables")
    copies: CopiesConfig = Field(default=CopiesConfig(), description="how tools and code are evaluated")
    language: LanguageConfig = Field(default=LanguageConfig(), description="how their words and fluency are")
    gates: tuple[str, ...] = Field(
        default=(), description="what the report's scores must hold, such as 'shape < 3' or 'warn: mia_auc < 0.6'"
    )
    published: tuple[PublishedConfig, ...] = ()
    runtime: RuntimeConfig = RuntimeConfig()

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take the defaults of `WHOLE_RECORDS` where z carries whole records: an encoder is chosen that does so, or the
        decoder is pretrained and knows nothing of the table. For engines that know characters only, numbers are in
        single digits.
        """
        given = _spelled_for_its_engine(given)
        sections = {name: given.get(name, {}) for name in ("decoder", *WHOLE_RECORDS)}
        if not all(isinstance(section, Mapping) for section in sections.values()):
            return given  # what is wrong is said where it is read
        encoder = sections["autoencoder"].get("encoder", {})
        if "encoder" not in sections["autoencoder"] and sections["decoder"].get("kind") == "pretrained":
            encoder = {"kind": "compact"}
        if not isinstance(encoder, Mapping) or encoder.get("kind", "pooled") == "pooled":
            return given
        whole = {name: _beside(sections[name], defaults) for name, defaults in WHOLE_RECORDS.items()}
        return {**given, **whole, "autoencoder": {**whole["autoencoder"], "encoder": encoder}}

    @model_validator(mode="after")
    def _few_nats_go_with_a_fitted_decoder(self) -> Self:
        encoder, kl, injector = self.autoencoder.encoder.kind, self.autoencoder.kl.kind, self.autoencoder.injector
        if (encoder == "pooled") != (kl == "capacity") and injector.kind != "prefix":
            raise ValueError(
                f"autoencoder.encoder.kind={encoder} does not go with autoencoder.kl.kind={kl}: a capacity is for "
                "pooled encoders, which need one; others take adaptive, cyclical or constant"
            )
        if injector.kind == "prefix" and self.decoder.kind != "pretrained":
            raise ValueError(
                f"autoencoder.injector.kind=prefix begins as a text that decoder.kind={self.decoder.kind} cannot read; "
                "choose decoder.kind=pretrained, or injector.kind=kv_memory"
            )
        words, drafted = injector.kind == "prefix" and injector.words > 0, self.autoencoder.draft.steps
        if words and (encoder not in ("bag", "pretrained") or kl != "capacity" or drafted == 0):
            raise ValueError(
                "autoencoder.injector.words says in words what one latent of a record carries: choose "
                "autoencoder.encoder.kind bag or pretrained, autoencoder.kl.kind=capacity with its nats, and some "
                f"autoencoder.draft.steps, not encoder {encoder}, kl {kl} and {drafted} steps"
            )
        if encoder == "bag" and not words:
            raise ValueError(
                "autoencoder.encoder.kind=bag is for latents that are said in words: choose "
                "autoencoder.injector.kind=prefix and its words"
            )
        if encoder == "pooled" and self.decoder.kind == "pretrained":
            raise ValueError(
                "a pretrained decoder is not fitted beside a latent of few nats; choose autoencoder.encoder.kind "
                "compact, bag or pretrained"
            )
        if injector.kind == "vocabulary" and (encoder, self.decoder.kind) != ("compact", "pretrained"):
            raise ValueError(
                "autoencoder.injector.kind=vocabulary writes token embeddings of decoder.kind=pretrained from slots of "
                f"autoencoder.encoder.kind=compact, not of a {self.decoder.kind} decoder from a {encoder} encoder"
            )
        if encoder == "pooled" and injector.kind != "soft_prompt":
            raise ValueError(
                f"autoencoder.injector.kind={injector.kind} needs an encoder of whole records; choose "
                "autoencoder.encoder.kind=compact"
            )
        if encoder == "pooled" and injector.kind == "soft_prompt" and not injector.empty:
            raise ValueError(
                "autoencoder.injector.empty=false leaves a decoder that is fitted beside a latent of few nats no "
                "prompt for what it writes by itself; leave it out"
            )
        return self

    @field_validator("gates", mode="after")
    @classmethod
    def _gates_can_be_read(cls, gates: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        data: DataConfig | None = info.data.get("data")
        try:
            table_gates(gates, "table" if data is None else data.kind)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return gates

    @field_validator("relations", mode="after")
    @classmethod
    def _constraints_can_be_read(cls, relations: RelationsConfig, info: ValidationInfo) -> RelationsConfig:
        from difflm.records.relations.constraints import check_constraints

        data: DataConfig | None = info.data.get("data")
        texts, _ = asked_of(relations)
        if texts and data is not None and not data.record_kind.tabular:
            raise ValueError(f"constraints are for tables, not for records of kind {data.kind}")
        try:
            check_constraints(texts)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return relations

    @model_validator(mode="after")
    def _conditions_have_a_denoiser(self) -> Self:
        if self.conditions.enabled and self.prior.kind != "diffusion":
            raise ValueError(f"conditions.enabled needs prior.kind diffusion, not {self.prior.kind}")
        return self

    @model_validator(mode="after")
    def _flash_attention_has_gpus(self) -> Self:
        models = {"decoder": self.decoder, "autoencoder.encoder": self.autoencoder.encoder}
        for key, model in models.items():
            flash = model.kind == "pretrained" and model.attention == "flash_attention_2"
            if flash and not self.runtime.workers.gpus_per_worker:
                raise ValueError(f"{key}.attention flash_attention_2 needs runtime.workers.gpus_per_worker of 1")
        return self

    @model_validator(mode="after")
    def _everything_has_a_private_form(self) -> Self:
        if self.privacy is None:
            return self
        texts, _ = asked_of(self.relations)
        encoder, workers = self.autoencoder.encoder.kind, self.runtime.workers.num_workers
        refused = {
            f"data.kind={self.data.kind}: its texts have no private form": not self.data.record_kind.tabular,
            "decoder.kind=pretrained: only the compact one is fitted by DP-SGD": self.decoder.kind == "pretrained",
            f"autoencoder.encoder.kind={encoder}: only the pooled one has a private decoder": encoder != "pooled",
            f"runtime.engine.kind={self.runtime.engine.kind} and runtime.workers.num_workers={workers}: one process "
            "draws the sample and the noise": self.runtime.engine.kind == "deepspeed" or workers > 1,
            "a list of relations: it is checked against rows; give relations=auto or off": bool(texts),
        }
        for reason, found in refused.items():
            if found:
                raise ValueError(f"privacy.epsilon={self.privacy.epsilon:g} does not go with {reason}")
        return self

    @model_validator(mode="after")
    def _the_engine_reads_what_the_injector_writes(self) -> Self:
        if self.sampling.engine.kind == "vllm":
            try:
                require_soft_prompt(self.autoencoder.injector.kind)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self


def _spelled_for_its_engine(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is given, `decoder.number_pairs` being false by default where only the automaton would know pairs."""
    decoder, sampling = given.get("decoder", {}), given.get("sampling", {})
    engine = sampling.get("engine", {}) if isinstance(sampling, Mapping) else {}
    if (
        not (isinstance(decoder, Mapping) and isinstance(engine, Mapping))
        or decoder.get("kind", "compact") != "compact"
    ):
        return given
    characters = engine.get("kind") == "vllm" or engine.get("constraint") == "llguidance"
    return {**given, "decoder": {"number_pairs": False, **decoder}} if characters else given


def _beside(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of a section and the defaults of the rest; those of another kind than given do not count."""
    if given.get("kind", defaults.get("kind")) != defaults.get("kind"):
        return dict(given)
    both: dict[str, Any] = {**defaults, **given}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(own := given.get(name), Mapping):
            both[name] = _beside(own, default)
    return both


class ReadSettings(Config):
    """How tables given on the command line are read."""

    read: ReadConfig = ReadConfig()


class SynthesisSettings(Config):
    """What `difflm synthesize` and `difflm impute` take with --set: the same keys as an experiment, and `live`."""

    data: ReadSettings = ReadSettings()
    sampling: SamplingConfig = SamplingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    live: LiveConfig = Field(default=LiveConfig(), description="evaluation while rows are made, where it is asked for")


class ServeSettings(Config):
    """What `difflm serve` takes in a file and with --set."""

    server: ServeConfig
    cluster: ClusterConfig = ClusterConfig()


class EvaluationSettings(Config):
    """What `difflm evaluate` takes with --set: the same keys as an experiment."""

    data: ReadSettings = ReadSettings()
    schema_: SchemaConfig = Field(default=SchemaConfig(), alias="schema")
    evaluation: EvaluationConfig = EvaluationConfig()
    copies: CopiesConfig = CopiesConfig()
    language: LanguageConfig = LanguageConfig()
