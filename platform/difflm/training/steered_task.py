"""Fitting the compact decoder as a language model of the records, with a draft of the latent that steers it.

Shape legend: B batch, F fields.

Of every batch a share of the records is written behind the prompt of their latents, in the table's order; the others
behind the empty prompt, a share of them with some fields first, for conditions and gaps. The objective is the mean of
the nats of both on the validation split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.autoencoder import AutoencoderShape
from difflm.models.building import build_encoder, build_injector
from difflm.models.compact import EMBEDDING_STD, CompactDecoderConfig, build_compact_llama
from difflm.models.decoder import FrozenDecoder
from difflm.models.decoder_store import DecoderParts, read_parts
from difflm.models.encoder import CompactEncoder, PooledEncoderConfig
from difflm.models.field_slots import DigitTokens
from difflm.models.injection.injector import PooledInjector, SoftPromptConfig
from difflm.models.steered import FieldClasses, IndependentFields, SteeredDecoderFit, liken_numbers
from difflm.records.schema import JsonField, RecordSchema, TextField, read_schema
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.training.any_order import (
    RareFirst,
    counted_tokens,
    draw_ranks,
    fields_of,
    opening_tokens,
    placed_first,
    reorder,
)
from difflm.training.decoder_task import DecoderFitConfig
from difflm.training.least_steps import STEERED_STEPS
from difflm.training.patience import Lengthening, Patience, rate_share
from difflm.training.record_data import TokenBatches, read_split, read_told, tokenize
from difflm.training.task import TaskSpec, Verdict


class Steering(Config):
    """The latent that a decoder is fitted with: the shape of encoder and injector, and the nats that it may carry."""

    shape: AutoencoderShape
    nats: float = Field(ge=0)


RARE_SHARE = 0.7
"""Of the reordered rows: those that are drawn for the value of the field that stands first in them."""

FEW_PASSES = 0.5
"""Of the passes over the rows: a fit becomes longer up to here. Rows that are seen more often are learned by heart,
also where that helps with others."""


class SteeredDecoderTask:
    """`TrainingTask` of the decoder stage where the latent is pooled."""

    def __init__(
        self,
        config: DecoderFitConfig,
        module: SteeredDecoderFit,
        train: tuple[TokenBatches, Tensor],
        validation: tuple[TokenBatches, Tensor],
        *,
        opening_F: Tensor | None,
        any_order: bool,
        seed: int,
        copies: int = 1,
    ) -> None:
        """Take the splits with the classes of their fields, (N, F); `opening_F` is as of `opening_tokens`.

        Every training row is told `copies` times in `train`: a pass over the rows is so many times less of it.
        """
        self.config, self._module, self.seed, self.copies = config, module, seed, copies
        self.train, self.train_class_NF = train
        self.validation, self.validation_class_NF = validation
        self.opening_F, self.rare = opening_F, RareFirst.of(train[1]) if any_order else None
        self.order = self.train.order(
            most=config.batch_size, tokens=config.tokens_per_batch, group_by_length=config.group_by_length, seed=seed
        )
        self.last: dict[str, float] = {}
        self.patience = Patience(evaluations=config.patience)
        self.lengthening = Lengthening(most=config.lengthened)

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        fit, times, epochs = self.config, self.lengthening.times, self.config.epochs / self.copies
        planned = self.order.steps(most=fit.steps, epochs=epochs, floor=STEERED_STEPS)
        longer = self.order.steps(most=round(times * fit.steps), epochs=FEW_PASSES * epochs, floor=1)
        return max(planned, longer)

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        rows_B = self.order.rows(step, micro, rank, world_size)
        generator = torch_generator(self.seed, "prompts", step, micro, rank)
        told_B = torch.rand(len(rows_B), generator=generator) < self.config.told_share
        if self.rare is None or self.opening_F is None:
            return self._completed(self.train.at(rows_B), self._classes(rows_B), told_B)
        count, fields = len(rows_B), len(self.opening_F)
        share_B = torch.where(told_B, self.config.told_reordered_share, self.config.reordered_share)
        other_B = torch.rand(count, generator=generator) < share_B
        ranks_BF = torch.where(other_B[:, None], draw_ranks(count, fields, generator), torch.arange(fields))
        drawn_B = other_B & (torch.rand(count, generator=generator) < RARE_SHARE)
        field_B, rare_B = self.rare.draw(count, generator)
        rows_B = torch.where(drawn_B, rare_B, rows_B)
        ranks_BF = torch.where(drawn_B[:, None], placed_first(ranks_BF, field_B), ranks_BF)
        batch, device = self.train.at(rows_B), self.train.lengths_N.device
        batch["ids_BT"] = reorder(batch["ids_BT"], batch["lengths_B"], self.opening_F, ranks_BF.to(device))
        batch = self._completed(batch, self._classes(rows_B), told_B)
        # The value that a row was drawn for says nothing of how frequent it is.
        first_BT = fields_of(batch["ids_BT"], batch["lengths_B"], self.opening_F) == 0
        batch["counted_BT"] = batch["counted_BT"] & ~(first_BT & drawn_B[:, None].to(device))
        return batch

    def _classes(self, rows_B: Tensor) -> Tensor:
        return self.train_class_NF[rows_B.to(self.train_class_NF.device)]

    def _completed(self, batch: dict[str, Tensor], class_BF: Tensor, told_B: Tensor) -> dict[str, Tensor]:
        counted_BT = counted_tokens(batch["ids_BT"], batch["lengths_B"], self.opening_F)
        return batch | {"counted_BT": counted_BT, "class_BF": class_BF, "told_B": told_B.to(class_BF.device)}

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        rows = torch.arange(rank, min(len(self.validation), self.config.validation_records), world_size)
        for part in rows.split(self.order.batch_size):  # type: ignore[no-untyped-call]
            if len(part):
                class_BF = self.validation_class_NF[part.to(self.validation_class_NF.device)]
                # Every record both ways, so that small splits say something of either.
                batch = {name: torch.cat([value, value]) for name, value in self.validation.at(part).items()}
                told_B = torch.arange(2 * len(part)) < len(part)
                yield len(part), self._completed(batch, torch.cat([class_BF, class_BF]), told_B)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = dict(metrics)
        alone, told, kl = metrics["nats_empty"], metrics["nats_told"], metrics["kl_nats"]
        note = f"by itself {alone:.2f} nats, steered by {kl:.2f} {told:.2f}"
        total = self.steps()
        self.lengthening.observe(metrics["nats"], step=step, total=total)
        if self.steps() > total:
            note += f"; still better, so {self.steps():,} steps"
        stop = self.patience.ends(metrics["nats"], rate=rate_share(step, self.steps(), self.config.loop))
        return Verdict(objective=metrics["nats"], stop=stop, note=note)

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def state_dict(self) -> dict[str, Any]:
        return {
            "last": self.last,
            "patience": self.patience.state_dict(),
            "lengthening": self.lengthening.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last = state["last"]
        self.patience.load_state_dict(state["patience"])
        self.lengthening.load_state_dict(state["lengthening"])

    def artifact_tensors(self) -> dict[str, Tensor]:
        # The output matrix is the tied embedding: one of the two is enough.
        return dict(self._module.named_parameters())

    def summary(self) -> dict[str, JSON]:
        return {"parameters": sum(value.numel() for value in self._module.model.parameters()), **self.last}


def build_steered_task(spec: TaskSpec, device: torch.device | str) -> SteeredDecoderTask:
    """Build the task. Inputs: `prepare` (the data) and `tokenizer` (a decoder directory with tokenizer and layout).

    The configuration has the parts `fit` (`DecoderFitConfig`) and `steering` (`Steering`).
    """
    prepared = Path(spec.inputs["prepare"])
    schema = read_schema(prepared)
    parts = read_parts(Path(spec.inputs["tokenizer"]), schema)
    fit = DecoderFitConfig.model_validate(spec.config["fit"])
    told, copies = read_told(prepared, schema, most=fit.steps * fit.batch_size, seed=spec.seed)
    train, validation = (
        TokenBatches.of(tokenize(table, schema, parts.tokenizer, parts.slots), device)
        for table in (told, read_split(prepared, "validation", schema))
    )
    texts = text_fields(schema)
    classes = FieldClasses.of(
        train.grid_NG,
        parts.slots.grid,
        tuple(tuple(edges) for edges in parts.facts["knots"]),
        DigitTokens.of(parts.tokenizer),
        texts,
    )
    torch.manual_seed(spec.seed)
    module = unfitted_steered(parts, Steering.model_validate(spec.config["steering"]), texts)
    opening_F = opening_tokens(parts.tokenizer)
    return SteeredDecoderTask(
        fit,
        module.to(device),
        (train, classes(train.grid_NG)),
        (validation, classes(validation.grid_NG)),
        opening_F=None if opening_F is None else opening_F.to(device),
        any_order=parts.any_order,
        seed=spec.seed,
        copies=copies,
    )


def text_fields(schema: RecordSchema) -> list[int]:
    return [place for place, field in enumerate(schema.fields) if isinstance(field, TextField | JsonField)]


def unfitted_steered(parts: DecoderParts, steering: Steering, texts: list[int]) -> SteeredDecoderFit:
    """Build decoder and draft as they are before the fit, with weights of torch's global generator."""
    tokenizer, encoder_config, injector_config = parts.tokenizer, steering.shape.encoder, steering.shape.injector
    assert isinstance(encoder_config, PooledEncoderConfig)
    assert isinstance(injector_config, SoftPromptConfig)
    vocabulary = len(tokenizer.tokenizer)
    model = build_compact_llama(
        CompactDecoderConfig.model_validate(parts.facts["config"]),
        vocabulary_size=vocabulary,
        bos_id=tokenizer.bos_id,
        pad_id=tokenizer.pad_id,
        longest=parts.longest + 1 + injector_config.soft_tokens + injector_config.learned_prefix,
    )
    reader = FrozenDecoder(model, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id)
    liken_numbers(reader.embeddings_VD, tokenizer.tokenizer.get_vocab())
    encoder, head = build_encoder(encoder_config, parts)
    injector = build_injector(injector_config, encoder_config, parts.slots, reader, scale=EMBEDDING_STD)
    model.requires_grad_(True)  # the reader is there for its sizes, and freezes
    assert isinstance(encoder, CompactEncoder)
    assert isinstance(injector, PooledInjector)
    fields = len(parts.slots.grid.widths)
    return SteeredDecoderFit(
        model=model,
        encoder=encoder,
        head=head,
        injector=injector,
        independent=IndependentFields(
            encoder_config.latent_size, fields=fields, texts=texts, layout=parts.slots.grid, vocabulary=vocabulary
        ),
        capacity_nats=steering.nats,
        bos_id=tokenizer.bos_id,
        pad_id=tokenizer.pad_id,
        joined_V=parts.joined_V,
    )
