"""The configuration of `difflm downstream`: texts, model, training and exercises."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, model_validator

from difflm.config import Config
from difflm.models.compact import CompactDecoderConfig
from difflm.models.sources import MODEL_NAME
from difflm.training.language_model_task import LanguageModelConfig
from difflm.training.loop import LoopConfig
from difflm_evaluators.texts.sandbox import SandboxLimits
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.inputs.sources import Source

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
    model: str | None = Field(default=None, description=MODEL_NAME)
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
        """Return the sources of texts by their keys."""
        scratch = {} if self.scratch is None else {"scratch": self.scratch.texts}
        return {"real": self.real, "synthetic": self.synthetic, "held_out": self.held_out, **scratch}
