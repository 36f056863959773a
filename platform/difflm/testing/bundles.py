"""Bundles of untrained models, written by the same functions as trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from difflm.diffusion.network import MlpNetwork
from difflm.diffusion.precondition import EdmDenoiser
from difflm.models.autoencoder import AutoencoderShape, build_autoencoder, latent_size
from difflm.models.compact import CompactDecoderConfig, CompactDecoderFit
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.decoder_store import DecoderParts, write_compact_model, write_tokenizer
from difflm.models.encoder import CompactEncoderConfig
from difflm.models.injector import SoftPromptConfig
from difflm.records.columns import conform_table
from difflm.records.inference import infer_schema
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.record_schema import RecordSchema
from difflm.synthesis.bundle import assemble_bundle
from difflm.training.autoencoder_task import AutoencoderConfig, finish_autoencoder
from difflm.training.diffusion_task import DiffusionPriorConfig, finish_diffusion

TINY_DECODER = CompactDecoderConfig(hidden_size=32, layers=2, heads=2, intermediate_size=48)
TINY_SHAPE = AutoencoderShape(
    encoder=CompactEncoderConfig(hidden_size=16, layers=1, heads=2, latent_per_slot=2),
    injector=SoftPromptConfig(hidden_size=16, soft_tokens=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFolders:
    """What the stages would have written."""

    prepared: Path
    decoder: Path
    autoencoder: Path
    prior: Path
    bundle: Path


def write_prepared(directory: Path, train: pa.Table, validation: pa.Table) -> None:
    """The prepared data of two splits: schema.json, train.parquet and validation.parquet."""
    directory.mkdir(parents=True, exist_ok=True)
    schema = infer_schema(train)
    (directory / "schema.json").write_text(schema.to_json())
    for name, table in (("train", train), ("validation", validation)):
        pq.write_table(conform_table(table, schema), directory / f"{name}.parquet")


def untrained_stages(
    root: Path,
    table: pa.Table,
    *,
    decoder: CompactDecoderConfig | PretrainedDecoderConfig = TINY_DECODER,
    shape: AutoencoderShape = TINY_SHAPE,
    seed: int = 0,
) -> StageFolders:
    """Every stage's folder under `root`, with the schema and layout of `table` and random weights, and the bundle."""
    folders = StageFolders(
        prepared=root / "prepared",
        decoder=root / "decoder",
        autoencoder=root / "autoencoder",
        prior=root / "prior",
        bundle=root / "bundle",
    )
    write_prepared(folders.prepared, table, table)
    schema = infer_schema(table)
    codec = JsonRecordCodec(schema)
    parts = write_tokenizer(folders.decoder, decoder, schema, codec.value_literals(codec.normalize_table(table).table))
    torch.manual_seed(seed)
    if isinstance(decoder, CompactDecoderConfig):
        _write_untrained_decoder(folders.decoder, decoder, parts)
    _write_untrained_autoencoder(folders.autoencoder, folders.decoder, shape, schema)
    _write_prior(folders.prior, latent_size=latent_size(shape.encoder, parts.slots))
    assemble_bundle(
        folders.bundle,
        prepared=folders.prepared,
        decoder=folders.decoder,
        autoencoder=folders.autoencoder,
        prior=folders.prior,
    )
    return folders


def _write_untrained_decoder(directory: Path, config: CompactDecoderConfig, parts: DecoderParts) -> None:
    tokenizer = parts.tokenizer
    fit = CompactDecoderFit(
        config,
        parts.slots,
        vocabulary_size=len(tokenizer.tokenizer),
        bos_id=tokenizer.bos_id,
        pad_id=tokenizer.pad_id,
        longest=parts.longest,
    )
    write_compact_model(directory, parts, dict(fit.named_parameters()))


def _write_untrained_autoencoder(directory: Path, decoder: Path, shape: AutoencoderShape, schema: RecordSchema) -> None:
    module, _ = build_autoencoder(shape, decoder, schema)
    directory.mkdir(parents=True)
    trainable = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    save_file(trainable, directory / "best.safetensors")
    finish_autoencoder(directory, AutoencoderConfig(encoder=shape.encoder, injector=shape.injector))


def _write_prior(directory: Path, *, latent_size: int) -> None:
    config = DiffusionPriorConfig(width=16, blocks=1)
    denoiser = EdmDenoiser(
        MlpNetwork(latent_size=latent_size, width=config.width, blocks=config.blocks), sigma_data=0.5
    )
    scaler = {"scaler.mean": torch.zeros(latent_size), "scaler.std": torch.ones(latent_size)}
    directory.mkdir(parents=True, exist_ok=True)
    best = directory / "best.safetensors"
    save_file({name: value.detach() for name, value in denoiser.named_parameters()} | scaler, best)
    finish_diffusion(best, config, directory)
