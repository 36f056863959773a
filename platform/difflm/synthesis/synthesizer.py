"""The synthesizer: noise to latents to records, every draw addressed by (seed, index, attempt).

Shape legend: N records, M noise numbers, T most tokens of a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field, model_validator

from difflm.config import Config
from difflm.diffusion.priors import Solver, SolverSettings
from difflm.models.autoencoder import AutoencoderShape
from difflm.models.precision import DESCRIPTION, PrecisionSetting, resolve_precision
from difflm.records.codec import Accepted
from difflm.records.kinds.codes_of_form import named
from difflm.records.relations.keeping import RELATION, Broken, Keeper
from difflm.records.relations.model import Relations
from difflm.records.repetition import repetition_fault
from difflm.records.schema import Record
from difflm.synthesis.bundle import Bundle
from difflm.synthesis.candidates import CANDIDATES, candidates_for
from difflm.synthesis.critic.judge import CRITIC, CRITIC_TRIES
from difflm.synthesis.decoding.engines import BuiltinEngineConfig, EngineConfig, load_engine, max_tokens
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.decoding.vllm import COLDEST, HOTTEST
from difflm.synthesis.draws import PRIVACY, Draw, DrawAccount, DrawQueue
from difflm.synthesis.plans.draw_plans import DrawPlan, DrawPlans
from difflm.synthesis.randomness import DrawNumbers
from difflm.synthesis.signatures import PublicKey

COARSE = SolverSettings(solver="dpmpp_2m", steps=8, sigma_min=0.1, sigma_max=10.0, rho=4.0)
"""For latents of a few nats: next to no information below a noise of 0.1, none above 10."""
COARSE_HEUN = SolverSettings(solver="heun", steps=10, sigma_min=0.1, sigma_max=10.0, rho=4.0)
"""The same by Heun's method."""
WHOLE = SolverSettings(steps=16, sigma_min=0.002, sigma_max=80.0, rho=7.0)
"""For latents of whole records: the paper's levels, in fewer steps."""


class SamplingConfig(Config):
    """How records are drawn. Colder than temperature 1 sharpens every marginal."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1, description="least mass of the likeliest tokens that are drawn from")
    top_k: int | None = Field(default=None, ge=1, description="only the k likeliest tokens; 1 is greedy decoding")
    batch_size: int = Field(default=512, ge=1, description="records under way at a time")
    stratified: bool = Field(
        default=True,
        description="spread random numbers evenly over the rows, so that shares are nearer to the model's than those "
        "of independent rows; every single row is distributed as before",
    )
    attempts: int = Field(default=4, ge=1, description="draws of one index before it is given up and reported")
    candidates: int = Field(
        default=CANDIDATES,
        ge=1,
        le=64,
        exclude_if=lambda candidates: candidates == CANDIDATES,  # as for the solver
        description="of a record that is given values of some columns: one is chosen as if all had been drawn in the "
        "table's order; more are truer and slower, 1 is fastest",
    )
    critic: bool = Field(
        default=True,
        exclude_if=lambda critic: critic,  # as for the solver
        description="turn down draws that the bundle's critic tells from real rows; false is faster",
    )
    text_tokens: int = Field(default=256, ge=1, description="most tokens of one free-text value")
    precision: PrecisionSetting = Field(default="auto", description=DESCRIPTION)
    solver: Solver | None = Field(
        default=None,
        exclude_if=lambda solver: solver is None,  # artifacts that were made before there was a choice keep their names
        description="of the diffusion prior (the paper: heun, two evaluations a step); null, as for the next four: "
        "dpmpp_2m with 8 steps from 10 to 0.1 and rho 4 for latents of a few nats (heun: 10), else heun with 16 from "
        "80 to 0.002 and rho 7",
    )
    steps: int | None = Field(default=None, ge=2, le=10_000, description="of the solver; the paper: 50")
    sigma_min: float | None = Field(default=None, ge=1e-9, le=1e6, description="the paper: 0.002")
    sigma_max: float | None = Field(default=None, ge=1e-9, le=1e6, description="the paper: 80")
    rho: float | None = Field(default=None, ge=0.1, le=1000, description="the paper: 7")
    engine: EngineConfig = Field(default=BuiltinEngineConfig(), description="what turns prompts into records")
    allow_local_base: bool = Field(
        default=False,
        exclude_if=lambda allowed: not allowed,  # it changes no row, so that jobs and artifacts keep their names
        description="let a bundle from elsewhere name a folder of this machine as its base model",
    )
    signed_by: PublicKey | None = Field(
        default=None,
        exclude_if=lambda key: key is None,  # it changes no row either
        description="the public key that a bundle must be signed with: what stands between BEGIN and END of its file",
    )

    @model_validator(mode="after")
    def _sigmas_decrease(self) -> Self:
        for known in (COARSE, WHOLE):
            low, high = self.sigma_min or known.sigma_min, self.sigma_max or known.sigma_max
            if low >= high:
                raise ValueError(f"sigma_min {low} must be below sigma_max {high}")
        return self

    @model_validator(mode="after")
    def _engine_takes_the_temperature(self) -> Self:
        if self.engine.kind == "vllm" and not COLDEST <= self.temperature <= HOTTEST:
            raise ValueError(
                f"temperature is {self.temperature}, and engine vllm takes {COLDEST} to {HOTTEST}: "
                "give one of these, or top_k 1 for greedy decoding"
            )
        return self

    def solver_settings(self, shape: AutoencoderShape | None = None) -> SolverSettings:
        """Return how the prior of a bundle with this shape is sampled; without one, of latents of whole records."""
        few = shape is not None and (shape.encoder.kind == "pooled" or shape.injector.kind == "prefix")
        known = (COARSE_HEUN if self.solver == "heun" else COARSE) if few else WHOLE
        steps, low = self.steps or known.steps, self.sigma_min or known.sigma_min
        high, rho = self.sigma_max or known.sigma_max, self.rho or known.rho
        solver = self.solver or known.solver
        return SolverSettings(solver=solver, steps=steps, sigma_min=low, sigma_max=high, rho=rho)

    def truncation(self) -> Truncation:
        return Truncation(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)

    def resolved(self, device: torch.device | str) -> Self:
        """Return the same with a precision of `auto` replaced by the one that the device is fast in."""
        return self.model_copy(update={"precision": resolve_precision(self.precision, device)})

    def dtype(self, device: torch.device | str = "cpu") -> torch.dtype:
        """Return what a bundle is loaded in to be drawn from on a device."""
        return torch.bfloat16 if resolve_precision(self.precision, device) == "bfloat16" else torch.float32


class Screen(Protocol):
    """Says which records may leave, each by itself: the answer about one does not depend on the others."""

    def __call__(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return (N,) booleans, True for the rows that may; the table is as it would be written."""
        ...


class Synthesizer:
    """Draws records from a bundle, at most `config.batch_size` under way at a time."""

    def __init__(
        self,
        bundle: Bundle,
        config: SamplingConfig,
        *,
        device: torch.device | str = "cpu",
        plan: DrawPlan | None = None,
        screen: Screen | None = None,
        relations: Relations | None = None,
    ) -> None:
        """Load the engine for `plan`: where latents come from, which records they may become (default: plain draws).

        `draw_valid` rejects the records that `screen` holds back, with the reason `PRIVACY`. Records keep `relations`,
        by default those of the schema.

        Raises:
            ModelError: the longest record has no room in the decoder, or the engine cannot read its tokenizer.
            ConfigError: the engine is vLLM, and that or a GPU is missing.
        """
        self.bundle, self.device = bundle, torch.device(device)
        self.config = config.resolved(self.device)
        self.screen = screen
        self.keeper = Keeper(bundle.schema, bundle.schema.relations if relations is None else relations)
        self.steps = max_tokens(config.engine, bundle, text_tokens=config.text_tokens)
        bundle.autoencoder.check_room(self.steps, remedy="lower sampling.text_tokens")
        self.plan = plan or DrawPlans(bundle, text_tokens=config.text_tokens, device=self.device).plain()
        self.critic = bundle.critic if config.critic and self.plan.plain else None
        self.candidates = candidates_for(bundle, self.plan.records, config.candidates, config.truncation())
        self._numbers = DrawNumbers(
            normals=0 if self.plan.latents is None else self.plan.latents.noise_size,
            uniforms=self.steps * self.tries,
            stratified=config.stratified,
        )
        self.engine = load_engine(
            config.engine,
            bundle,
            self.plan.records,
            slots=config.batch_size,
            truncation=config.truncation(),
            text_tokens=config.text_tokens,
        )

    @property
    def attempts(self) -> int:
        """Draws of an index before it is given up; those that a critic may turn down do not count."""
        return self.config.attempts if self.critic is None else self.config.attempts + CRITIC_TRIES - 1

    @property
    def tries(self) -> int:
        """Candidates of every draw."""
        return 1 if self.candidates is None else self.candidates.count

    def stream(self, indices: Iterable[int], *, seed: int) -> Iterator[Draw]:
        """Yield draws of every index until one is accepted or its attempts are spent, in the order in which they end.

        Memory does not grow with the number of indices. What an index becomes depends on the bundle, the configuration
        but for `batch_size`, the seed and the attempt; how exactly, the engine says.
        """
        yield from self._until_accepted(self._queue(indices, seed=seed, attempt=0))

    def _until_accepted(self, queue: DrawQueue) -> Iterator[Draw]:
        for draw in self._draws(queue):
            if draw.record is None and draw.attempt + 1 < self.attempts:
                queue.again(Address(index=draw.index, attempt=draw.attempt + 1))
            yield draw

    def draw(self, indices: Sequence[int], *, seed: int, attempt: int) -> list[Draw]:
        """Draw once for every index, in their order. Indices are distinct."""
        drawn = {draw.index: draw for draw in self._draws(self._queue(indices, seed=seed, attempt=attempt))}
        return [drawn[index] for index in indices]

    def draw_valid(self, indices: Sequence[int], *, seed: int) -> tuple[list[tuple[int, Record]], DrawAccount]:
        """Draw a valid record for every index that has one within `config.attempts`, in order of the indices."""
        account, valid = DrawAccount(), dict[int, Record]()
        queue: DrawQueue | None = self._queue(indices, seed=seed, attempt=0)
        while queue is not None:
            drawn: list[tuple[Draw, Record]] = []
            for draw in self._until_accepted(queue):
                if draw.record is None:
                    account.add(draw, attempts=self.attempts)
                else:
                    drawn.append((draw, draw.record))
            held_back: list[Address] = []
            for (draw, record), passed in zip(drawn, self._passed([record for _, record in drawn]), strict=True):
                account.add(draw if passed else replace(draw, record=None, reason=PRIVACY), attempts=self.attempts)
                if passed:
                    valid[draw.index] = record
                elif draw.attempt + 1 < self.attempts:
                    held_back.append(Address(index=draw.index, attempt=draw.attempt + 1))
            queue = self._queue((), seed=seed, attempt=0) if held_back else None
            for address in held_back:
                assert queue is not None
                queue.again(address)
        account.given_up.sort()
        return [(index, valid[index]) for index in indices if index in valid], account

    def _passed(self, records: Sequence[Record]) -> Sequence[bool]:
        if self.screen is None or not records:
            return [True] * len(records)
        passed_N = self.screen(self.bundle.codec.table_of(records))
        return [bool(passed) for passed in passed_N]

    def _queue(self, indices: Iterable[int], *, seed: int, attempt: int) -> DrawQueue:
        return DrawQueue(
            indices,
            first_attempt=attempt,
            prompts=lambda addresses: self.prompts(addresses, seed=seed),
            candidates=self.tries,
            seed=seed,
        )

    def _draws(self, queue: DrawQueue) -> Iterator[Draw]:
        each = self.candidates
        items = self.engine.decode(queue) if each is None else each.stream(self.engine.decode, queue)
        for item in items:
            yield self.parse(item)

    def prompts(self, addresses: Sequence[Address], *, seed: int) -> Prompts:
        """Compute the prompts of these draws from their latents, and the uniform numbers of their tokens."""
        return self.seeded_prompts(addresses, [seed] * len(addresses))

    @torch.no_grad()
    def seeded_prompts(self, addresses: Sequence[Address], seeds: Sequence[int]) -> Prompts:
        """Compute prompts as `prompts` does, for draws that each have a seed of their own.

        Every candidate of a draw has a prompt, one behind the other.
        """
        noise_NM, uniforms_NT = (torch.from_numpy(each).to(self.device) for each in self._numbers(addresses, seeds))
        source, autoencoder = self.plan.latents, self.bundle.autoencoder
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            if source is None:
                prompt = autoencoder.empty_prompt(len(addresses))
            else:
                prompt = autoencoder.inject(source.latents([address.index for address in addresses], noise_NM))
        prompt = prompt.to(self.bundle.autoencoder.decoder.embeddings_VD.dtype)
        made = Prompts(addresses=list(addresses), prompt=prompt, uniforms_NT=uniforms_NT)
        return made if self.candidates is None else self.candidates.prompts(made)

    def parse(self, item: Decoded) -> Draw:
        """Return the decoded record, or the reason why it is rejected."""
        if item.failure is not None:
            return _rejected(item.address, item.failure)
        tokenizer = self.bundle.parts.tokenizer
        tokens = item.tokens if self.plan.records.first is None else tokenizer.in_order(item.tokens)
        text = b"".join([tokenizer.pieces.bytes_V[token] for token in tokens]).decode("utf-8", errors="replace")
        try:
            decoded = self.bundle.codec.decode(text)
        except Exception as error:  # a codec never raises; one that does costs its record, not the shard
            return _rejected(item.address, "codec_error", f"{type(error).__name__}: {error}")
        if not isinstance(decoded, Accepted):
            return _rejected(item.address, decoded.reason, decoded.detail)
        schema, records = self.bundle.schema, self.plan.records
        cells = records.cells(item.address.index) if records.cells is not None else {}
        given = frozenset(schema.names[place] for place in cells)
        fault = repetition_fault(schema, decoded.record, given)
        if fault is not None:
            return _rejected(item.address, "repetition", fault)
        record = self.keeper.keep(decoded.record, given)
        if isinstance(record, Broken):
            return _rejected(item.address, RELATION, record.detail)
        fault = records.fault(item.address.index, record, schema)
        if fault is not None:
            return _rejected(item.address, "condition", fault)
        where = item.address
        if self.critic is not None and not self.critic.keeps(record, index=where.index, attempt=where.attempt):
            return _rejected(where, CRITIC)
        record = named(record, self.bundle.schema, where.index)
        return Draw(index=item.address.index, attempt=item.address.attempt, record=record)


def _rejected(address: Address, reason: str, detail: str | None = None) -> Draw:
    return Draw(index=address.index, attempt=address.attempt, record=None, reason=reason, detail=detail)
