"""The warm-up of an injector that writes tokens: encoder and injector learn a draft of the record, without the
language model.

An injector through the vocabulary drafts every token in its place. Words of a prefix are a draft too: of the tokens
that each field has, in any order. Of the decoder only the embeddings of the tokens that training uses are read. What is
learned is where the training through the decoder begins (`best.safetensors`: encoder, head, injector).

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
from difflm.models.autoencoder import AutoencoderShape, PosteriorHead
from difflm.models.bag_encoder import BagEncoder
from difflm.models.building import build_encoder, build_injector
from difflm.models.decoder_store import load_decoder, read_parts
from difflm.models.encoder import CompactEncoderConfig, EncoderConfig, EncoderInputs, encoder_inputs
from difflm.models.injection.injector import InjectorConfig
from difflm.models.injection.prefix import PrefixInjector
from difflm.models.injection.vocabulary import NOTHING, UNKNOWN, VocabularyConfig, VocabularyInjector, used_tokens
from difflm.models.injection.words import FieldWords
from difflm.models.steered import KL_PRICE
from difflm.records.schema import RecordSchema, read_schema
from difflm.telemetry import JSON
from difflm.training.loop import LoopConfig
from difflm.training.record_data import TokenBatches, read_split, tokenize
from difflm.training.task import TaskSpec, Verdict

EMPTY_ASKED = 8
"""Of so many empty places a training step asks one."""
WORD_ROWS = 3
"""Words are tokens that so many training rows have: what is rarer says who a record is of."""


class DraftConfig(Config):
    """How drafts are learned. Slots have `decoder.cells_per_slot` places: one or two are what a model reads easily."""

    beta: float = Field(
        default=0.001,
        ge=0,
        description="nats of KL cost so much beside nats of the draft; words have the capacity of autoencoder.kl",
    )
    steps: int = Field(default=600, ge=0, description="optimizer steps; 0: no warm-up")
    batch_size: int = Field(default=64, ge=1)
    validation_records: int = Field(default=512, ge=1)
    loop: LoopConfig = LoopConfig(learning_rate=2e-3, warmup_steps=50, evaluate_every=100, checkpoint_every=100)


class DraftTraining(Config):
    """What is trained, and how."""

    encoder: EncoderConfig = CompactEncoderConfig(latent_per_slot=16)
    injector: InjectorConfig = VocabularyConfig()
    draft: DraftConfig = DraftConfig()
    capacity_nats: float = Field(default=0.0, ge=0, description="of words: what z carries of a record")


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


class WordsModel(nn.Module):
    """Encoder, posterior and the words of an injector, which learn the tokens that fields have, in any order.

    The names are those of an autoencoder, which goes on with them.
    """

    def __init__(self, *, encoder: nn.Module, head: PosteriorHead, words: FieldWords, capacity_nats: float) -> None:
        super().__init__()
        self.encoder, self.head, self.capacity_nats = encoder, head, capacity_nats
        for kept in (words.usual_FU, words.marks_FD):  # no gradient reaches them here, and no decay should
            kept.requires_grad_(False)
        self.injector = nn.ModuleDict({"words": words})

    def forward(self, grid_BG: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the loss of a record and its parts in nats; what z says above the capacity costs `KL_PRICE`."""
        words = self.injector["words"]
        assert isinstance(words, FieldWords)
        posterior = self.head.posterior(self.encoder(**(inputs or {"grid_BG": grid_BG})))
        latents_BZ = posterior.sample(torch.randn_like(posterior.mean_BZ))
        nats, kl = words.nats(words.scores(latents_BZ), grid_BG).mean(), posterior.kl_nats().mean()
        return {
            "loss": nats + KL_PRICE * torch.relu(kl - self.capacity_nats),
            "draft_nats": nats,
            "kl_nats": kl,
        }


class DraftTask:
    """`TrainingTask` of drafts."""

    def __init__(
        self,
        config: DraftConfig,
        module: DraftModel | WordsModel,
        train: tuple[TokenBatches, EncoderInputs],
        validation: tuple[TokenBatches, EncoderInputs],
        *,
        seed: int,
    ) -> None:
        self.config, self._module = config, module
        self.train, self.train_inputs = train
        self.validation, self.validation_inputs = validation
        self.order = self.train.order(most=config.batch_size, tokens=1 << 30, group_by_length=False, seed=seed)
        self.last: dict[str, float] = {}

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        return self.config.steps

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        return self._batch(self.train, self.train_inputs, self.order.rows(step, micro, rank, world_size))

    def _batch(self, batches: TokenBatches, inputs: EncoderInputs, rows_B: Tensor) -> dict[str, Tensor]:
        grid_BG = batches.at(rows_B)["grid_BG"]
        batch = {**inputs(rows_B, grid_BG), "grid_BG": grid_BG}
        if isinstance(self._module, DraftModel):
            batch["beta"] = torch.tensor(self.config.beta, device=grid_BG.device)
        return batch

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        rows = torch.arange(rank, min(len(self.validation), self.config.validation_records), world_size)
        for part in rows.split(self.config.batch_size):  # type: ignore[no-untyped-call]
            if len(part):
                yield len(part), self._batch(self.validation, self.validation_inputs, part)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = dict(metrics)
        note = f"draft {metrics['draft_nats']:.2f} nats, steered by {metrics['kl_nats']:.1f}"
        if isinstance(self._module, WordsModel):
            return Verdict(objective=metrics["loss"], note=note)
        note += f", {100 * metrics['right']:.1f} % of tokens right"
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
        buffers = dict(self._module.named_buffers())
        (tokens_U,) = (value for name, value in buffers.items() if name.endswith("tokens_U"))
        return {"used_tokens": len(tokens_U), **self.last}


def build_draft_task(spec: TaskSpec, device: torch.device | str) -> DraftTask:
    """Build the task. Inputs: `prepare` (the prepared data) and `fit-decoder` (the decoder's directory); the
    configuration is a `DraftTraining`.
    """
    prepared = Path(spec.inputs["prepare"])
    config, schema = DraftTraining.model_validate(spec.config), read_schema(prepared)
    decoder, parts = load_decoder(Path(spec.inputs["fit-decoder"]), schema, dtype=torch.float32)
    splits = []
    for split in ("train", "validation"):
        table = read_split(prepared, split, schema)
        tokens = TokenBatches.of(tokenize(table, schema, parts.tokenizer, parts.slots), device)
        splits.append((tokens, encoder_inputs(config.encoder, table, schema, device)))
    grid_NG = splits[0][0].grid_NG.cpu()
    tokens_U = used_tokens(grid_NG, pad_id=parts.tokenizer.pad_id, rows=_least_rows(config.injector, schema))
    torch.manual_seed(spec.seed)
    encoder, head = build_encoder(config.encoder, parts, decoder=decoder, tokens_U=tokens_U)
    if isinstance(encoder, BagEncoder):
        encoder.begin(grid_NG)
    scale = parts.prompt_scale(decoder)
    injector = build_injector(config.injector, config.encoder, parts.slots, decoder, scale=scale, tokens_U=tokens_U)
    module: DraftModel | WordsModel
    if isinstance(injector, PrefixInjector):
        assert injector.words is not None, "only prefixes with words have a draft"
        mark = parts.tokenizer.tokenizer("\n", add_special_tokens=False)["input_ids"][-1:] or [parts.tokenizer.bos_id]
        injector.words.begin(grid_NG, decoder.embeddings(torch.tensor(mark))[0])
        module = WordsModel(encoder=encoder, head=head, words=injector.words, capacity_nats=config.capacity_nats)
    else:
        assert isinstance(injector, VocabularyInjector), "other injectors write no tokens"
        module = DraftModel(encoder=encoder, head=head, injector=injector)
    return DraftTask(config.draft, module.to(device), splits[0], splits[1], seed=spec.seed)


def writes_tokens(injector: InjectorConfig) -> bool:
    """Say whether an injector writes tokens, which it and the encoder learn as a draft first."""
    return injector.kind == "vocabulary" or (injector.kind == "prefix" and injector.words > 0)


def is_drafted(injector: InjectorConfig, draft: DraftConfig) -> bool:
    """Say whether encoder and injector learn without the language model first."""
    return writes_tokens(injector) and draft.steps > 0


def _least_rows(injector: InjectorConfig, schema: RecordSchema) -> int:
    """Return how many training rows have a token that may be written: the bundle lists all of them."""
    least = WORD_ROWS if injector.kind == "prefix" else 1
    return least if schema.protected is None else max(least, schema.protected.threshold)


def with_used_tokens(shape: AutoencoderShape, prepared: Path, decoder: Path) -> AutoencoderShape:
    """Return a shape with the tokens of the training split's values, where its injector writes them."""
    if not writes_tokens(shape.injector):
        return shape
    schema = read_schema(prepared)
    parts = read_parts(decoder, schema)
    tokens = tokenize(read_split(prepared, "train", schema), schema, parts.tokenizer, parts.slots)
    grid_NG, rows = torch.from_numpy(tokens.grid_NG), _least_rows(shape.injector, schema)
    used_U = used_tokens(grid_NG, pad_id=parts.tokenizer.pad_id, rows=rows)
    return shape.model_copy(update={"tokens": tuple(used_U.tolist())})
