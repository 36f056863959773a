"""The synthesizer: noise to latents to records, every draw addressed by (seed, index, attempt).

Shape legend: B records, N noise numbers, T decoding steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from difflm.config import Config
from difflm.diffusion.priors import HeunSettings
from difflm.records.codec import Accepted
from difflm.records.values import Record
from difflm.seeding import derive_seed
from difflm.synthesis.bundle import Bundle
from difflm.synthesis.decoding import decode_batch
from difflm.synthesis.grammar import longest_record, table_grammar


class SamplingConfig(Config):
    """How records are drawn. Colder than temperature 1 sharpens every marginal."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    batch_size: int = Field(default=512, ge=1)
    attempts: int = Field(default=4, ge=1, description="draws of one index before it is given up and reported")
    text_tokens: int = Field(default=256, ge=1, description="most tokens of one free-text value")
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    steps: int = Field(default=25, ge=2, description="Heun steps of the diffusion prior (the paper: 50)")
    sigma_min: float = Field(default=0.002, gt=0, allow_inf_nan=False)
    sigma_max: float = Field(default=80.0, gt=0, allow_inf_nan=False)
    rho: float = Field(default=7.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _sigmas_decrease(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        return self

    def heun(self) -> HeunSettings:
        return HeunSettings(steps=self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho)

    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One attempt at one index: a record, or the reason why there is none."""

    index: int
    attempt: int
    record: Record | None
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class DrawAccount:
    """What became of the draws of a range of indices."""

    attempts: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    given_up: list[int] = field(default_factory=list)


class Synthesizer:
    """Draws records from a bundle, at most `config.batch_size` at a time."""

    def __init__(self, bundle: Bundle, config: SamplingConfig, *, device: torch.device | str = "cpu") -> None:
        self.bundle, self.config, self.device = bundle, config, torch.device(device)
        tokenizer = bundle.parts.tokenizer
        self.steps = longest_record(bundle.schema, tokenizer, text_tokens=config.text_tokens)
        bundle.autoencoder.check_room(self.steps, remedy="lower sampling.text_tokens")
        grammar = table_grammar(bundle.schema, tokenizer, text_tokens=config.text_tokens)
        self.automaton = grammar.to(self.device)

    def draw(self, indices: Sequence[int], *, seed: int, attempt: int) -> list[Draw]:
        """One draw of every index, in their order."""
        draws: list[Draw] = []
        for start in range(0, len(indices), self.config.batch_size):
            draws += self._draw_batch(indices[start : start + self.config.batch_size], seed=seed, attempt=attempt)
        return draws

    def draw_valid(self, indices: Sequence[int], *, seed: int) -> tuple[list[tuple[int, Record]], DrawAccount]:
        """A valid record for every index that has one within `config.attempts`, in order of the indices."""
        account, valid = DrawAccount(), dict[int, Record]()
        pending = list(indices)
        for attempt in range(self.config.attempts):
            if not pending:
                break
            draws = self.draw(pending, seed=seed, attempt=attempt)
            account.attempts += len(draws)
            account.rejections.update(item.reason for item in draws if item.reason is not None)
            valid |= {item.index: item.record for item in draws if item.record is not None}
            pending = [item.index for item in draws if item.record is None]
        account.given_up = pending
        return [(index, valid[index]) for index in indices if index in valid], account

    @torch.no_grad()
    def _draw_batch(self, indices: Sequence[int], *, seed: int, attempt: int) -> list[Draw]:
        noise_BN, uniforms_BT = self._randomness(indices, seed=seed, attempt=attempt)
        latents_BZ = self.bundle.prior.sample(noise_BN)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            prompt = self.bundle.autoencoder.inject(latents_BZ)
        decoder = self.bundle.autoencoder.decoder
        decoded = decode_batch(decoder, prompt, self.automaton, uniforms_BT, temperature=self.config.temperature)
        rows = zip(indices, decoded.tokens, decoded.finished_B, strict=True)
        return [self._judge(index, attempt, tokens, finished) for index, tokens, finished in rows]

    def _judge(self, index: int, attempt: int, tokens: list[int], finished: bool) -> Draw:
        if not finished:
            return Draw(index=index, attempt=attempt, record=None, reason="unfinished")
        bytes_V = self.bundle.parts.tokenizer.pieces.bytes_V
        text = b"".join([bytes_V[token] for token in tokens]).decode("utf-8", errors="replace")
        decoded = self.bundle.codec.decode(text)
        if isinstance(decoded, Accepted):
            return Draw(index=index, attempt=attempt, record=decoded.record)
        return Draw(index=index, attempt=attempt, record=None, reason=decoded.reason)

    def _randomness(self, indices: Sequence[int], *, seed: int, attempt: int) -> tuple[Tensor, Tensor]:
        """Latent noise (B, N) and token uniforms (B, T), each row from the generator of its own address."""
        size = self.bundle.prior.noise_size
        noise_BN, uniforms_BT = (
            np.empty((len(indices), size), np.float32),
            np.empty((len(indices), self.steps), np.float32),
        )
        key = derive_seed(seed, "draw")
        for row, index in enumerate(indices):
            generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, attempt]))
            noise_BN[row] = generator.standard_normal(size, dtype=np.float32)
            uniforms_BT[row] = generator.random(self.steps, dtype=np.float32)
        return torch.from_numpy(noise_BN).to(self.device), torch.from_numpy(uniforms_BT).to(self.device)
