"""The warm-up of a vocabulary injector: encoder and injector learn the draft of a record, without the language model.

Of the decoder only the embeddings of the tokens that training uses are read. What is learned is where the training
through the decoder begins (`best.safetensors`: encoder, head, injector).

Shape legend: B batch, G grid cells, Z latent size, S slots, R places of a slot, U used tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.autoencoder import AutoencoderShape, PosteriorHead, build_encoder
from difflm.models.decoder_store import load_decoder, read_parts
from difflm.models.encoder import CompactEncoderConfig
from difflm.models.vocabulary_injector import NOTHING, UNKNOWN, VocabularyConfig, VocabularyInjector, used_tokens
from difflm.records.schema import read_schema
from difflm.telemetry import JSON
from difflm.training.loop import LoopConfig
from difflm.training.record_data import TokenBatches, read_split, tokenize
from difflm.training.task import TaskSpec, Verdict

EMPTY_ASKED = 8
"""Of so many empty places a training step asks one."""


class DraftConfig(Config):
    """How drafts are learned. Slots have `decoder.cells_per_slot` places: one or two are what a model reads easily."""

    beta: float = Field(default=0.001, ge=0, description="nats of KL cost so much beside nats of the draft")
    steps: int = Field(default=600, ge=0, description="optimizer steps; 0: no warm-up")
    batch_size: int = Field(default=64, ge=1)
    validation_records: int = Field(default=512, ge=1)
    loop: LoopConfig = LoopConfig(learning_rate=2e-3, warmup_steps=50, evaluate_every=100, checkpoint_every=100)


class DraftTraining(Config):
    """What is trained, and how."""

    encoder: CompactEncoderConfig = CompactEncoderConfig(latent_per_slot=16)
    injector: VocabularyConfig = VocabularyConfig()
    draft: DraftConfig = DraftConfig()


class DraftModel(nn.Module):
    """Encoder, posterior and injector, whose forward is the negative ELBO of the draft alone: no language model."""

    def __init__(self, *, encoder: nn.Module, head: PosteriorHead, injector: VocabularyInjector) -> None:
        super().__init__()
        self.encoder, self.head, self.injector = encoder, head, injector

    def forward(self, grid_BG: Tensor, beta: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the loss, a mean over drafted tokens, and the nats of draft and KL of a record.

        `inputs` are the encoder's; without any it reads the grid. Most places are empty, so training asks for one of
        `EMPTY_ASKED` of these only, which then counts so often: the comparison with every token is most of the work.
        """
        posterior = self.head.posterior(self.encoder(**(inputs or {"grid_BG": grid_BG})))
        latents_BZ = posterior.sample(torch.randn_like(posterior.mean_BZ))
        wanted_N = self.injector.draft(grid_BG).flatten()
        empty_N = wanted_N == NOTHING
        one_of = EMPTY_ASKED if self.training else 1
        asked_N = (wanted_N != UNKNOWN) & (~empty_N | (torch.rand(len(wanted_N), device=wanted_N.device) * one_of < 1))
        logits_AU = self.injector.scores(self.injector.keys(latents_BZ).flatten(0, 2)[asked_N]).float()
        wanted_A, filled_A = wanted_N[asked_N], ~empty_N[asked_N]
        nats_A = nn.functional.cross_entropy(logits_AU, wanted_A, reduction="none")
        nats = torch.where(filled_A, nats_A, one_of * nats_A).sum()
        rows, drafted = len(grid_BG), (~empty_N).sum().clamp(min=1)  # tokens that training lacks are wrong ones
        kl = posterior.kl_nats().sum()
        return {
            "loss": (nats + beta * kl) / drafted,
            "draft_nats": nats / rows,
            "kl_nats": kl / rows,
            "right": ((logits_AU.argmax(dim=-1) == wanted_A) & filled_A).sum() / drafted,
        }


class DraftTask:
    """`TrainingTask` of drafts."""

    def __init__(
        self, config: DraftConfig, module: DraftModel, train: TokenBatches, validation: TokenBatches, *, seed: int
    ) -> None:
        self.config, self._module, self.train, self.validation = config, module, train, validation
        self.order = train.order(most=config.batch_size, tokens=1 << 30, group_by_length=False, seed=seed)
        self.last: dict[str, float] = {}

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        return self.config.steps

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        return self._batch(self.train.at(self.order.rows(step, micro, rank, world_size)))

    def _batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        grid_BG = batch["grid_BG"]
        return {"grid_BG": grid_BG, "beta": torch.tensor(self.config.beta, device=grid_BG.device)}

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        size, most = self.config.batch_size, self.config.validation_records
        for count, batch in self.validation.share(rank, world_size, batch_size=size, most=most):
            yield count, self._batch(batch)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = dict(metrics)
        note = f"draft {metrics['draft_nats']:.2f} nats, {100 * metrics['right']:.1f} % of tokens right"
        return Verdict(objective=metrics["draft_nats"] + self.config.beta * metrics["kl_nats"], note=note)

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last = state["last"]

    def artifact_tensors(self) -> dict[str, Tensor]:
        return dict(self._module.named_parameters())

    def summary(self) -> dict[str, JSON]:
        return {"used_tokens": len(self._module.injector.tokens_U), **self.last}


def build_draft_task(spec: TaskSpec, device: torch.device | str) -> DraftTask:
    """Build the task. Inputs: `prepare` (the prepared data) and `fit-decoder` (the decoder's directory); the
    configuration is a `DraftTraining`.
    """
    prepared = Path(spec.inputs["prepare"])
    config, schema = DraftTraining.model_validate(spec.config), read_schema(prepared)
    decoder, parts = load_decoder(Path(spec.inputs["fit-decoder"]), schema, dtype=torch.float32)
    train, validation = (
        TokenBatches.of(tokenize(read_split(prepared, split, schema), schema, parts.tokenizer, parts.slots), device)
        for split in ("train", "validation")
    )
    tokens_U = used_tokens(train.grid_NG.cpu(), pad_id=parts.tokenizer.pad_id)
    torch.manual_seed(spec.seed)
    encoder, head = build_encoder(config.encoder, parts)
    injector = VocabularyInjector(
        config.injector,
        parts.slots,
        tokens_U,
        decoder.embeddings(tokens_U),
        latent_per_slot=config.encoder.latent_per_slot,
    )
    module = DraftModel(encoder=encoder, head=head, injector=injector)
    return DraftTask(config.draft, module.to(device), train, validation, seed=spec.seed)


def with_used_tokens(shape: AutoencoderShape, prepared: Path, decoder: Path) -> AutoencoderShape:
    """Return a shape with the tokens of the training split's values, where its injector writes through them."""
    if shape.injector.kind != "vocabulary":
        return shape
    schema = read_schema(prepared)
    parts = read_parts(decoder, schema)
    tokens = tokenize(read_split(prepared, "train", schema), schema, parts.tokenizer, parts.slots)
    used_U = used_tokens(torch.from_numpy(tokens.grid_NG), pad_id=parts.tokenizer.pad_id)
    return shape.model_copy(update={"tokens": tuple(used_U.tolist())})
