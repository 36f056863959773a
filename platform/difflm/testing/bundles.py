"""Bundles of untrained models, written by the same functions as trained ones.

Datasets: what a synthesis would write, made in this process without a cluster, and what one holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import save_file

from difflm.artifacts.dataset import DATA, ENTRIES, JOB_NAME, Dataset, Shard, missing_ranges, part_name
from difflm.artifacts.storage import LocalStore
from difflm.diffusion.conditional import ConditionBins
from difflm.diffusion.edm import EdmDenoiser
from difflm.diffusion.network import build_network
from difflm.models.autoencoder import AutoencoderShape
from difflm.models.building import build_autoencoder, latent_size
from difflm.models.compact import CompactDecoderConfig
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.decoder_store import unfitted, write_compact_model, write_tokenizer
from difflm.models.encoder import CompactEncoderConfig, PooledEncoderConfig
from difflm.models.injection.injector import SoftPromptConfig
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.model import Relations
from difflm.records.schema import RecordSchema, SchemaConfig, read_schema
from difflm.synthesis.bundle import assemble_bundle
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.synthesis.workers import SynthesisWorker
from difflm.training.autoencoder_task import finish_autoencoder
from difflm.training.conditional_task import BasePrior, finish_conditional, table_codes
from difflm.training.diffusion_task import DiffusionPriorConfig, finish_diffusion
from difflm.training.draft_task import with_used_tokens
from difflm.training.record_data import read_split


def write_undisturbed(out: Path, bundle: Path, *, rows: int, per_shard: int, sampling: SamplingConfig) -> None:
    """Draw rows 0 ... rows - 1 with seed 0, part after part."""
    dataset = Dataset(store=LocalStore(out))
    dataset.write_json(JOB_NAME, {"fingerprint": "undisturbed"})
    output = {"url": str(out), "format": dataset.format, "fingerprint": "undisturbed"}
    arguments = {
        "bundle": str(bundle),
        "sampling": sampling.model_dump(mode="json"),
        "plan": {},
        "seed": 0,
        "output": output,
    }
    worker = SynthesisWorker(arguments)
    for start, stop in missing_ranges([], rows, per_shard):
        worker.run(Shard(id=part_name(start, stop), start=start, stop=stop))


def part_hashes(out: Path) -> dict[str, str]:
    """Return the names and hashes of all parts."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / DATA).iterdir())}


def committed(out: Path, more_than: int = 0) -> bool:
    """Return whether more than `more_than` parts are committed."""
    return len(list((out / ENTRIES).glob("part-*.json"))) > more_than


TINY_DECODER = CompactDecoderConfig(hidden_size=32, layers=2, heads=2, intermediate_size=48)
TINY_SHAPE = AutoencoderShape(
    encoder=CompactEncoderConfig(hidden_size=16, layers=1, heads=2, latent_per_slot=2),
    injector=SoftPromptConfig(hidden_size=16, soft_tokens=4),
)
TINY_POOLED_SHAPE = AutoencoderShape(
    encoder=PooledEncoderConfig(hidden_size=16, layers=1, heads=2, latent_size=4),
    injector=SoftPromptConfig(hidden_size=16, soft_tokens=4, empty=True),
)
"""Of a decoder that writes records by itself, in any order of their fields."""
TINY_PRIOR = DiffusionPriorConfig(width=16, blocks=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFolders:
    """What the stages would have written."""

    prepared: Path
    decoder: Path
    autoencoder: Path
    prior: Path
    conditional: Path
    bundle: Path


def write_prepared(
    directory: Path,
    train: pa.Table,
    validation: pa.Table,
    *,
    inference: SchemaConfig | None = None,
    relations: Relations | None = None,
) -> None:
    """Write the prepared data of two splits: schema.json, train.parquet and validation.parquet."""
    directory.mkdir(parents=True, exist_ok=True)
    schema = infer_schema(train, config=inference).model_copy(update={"relations": relations or Relations()})
    (directory / "schema.json").write_text(schema.to_json())
    for name, table in (("train", train), ("validation", validation)):
        pq.write_table(conform_table(table, schema), directory / f"{name}.parquet")


def untrained_stages(
    root: Path,
    table: pa.Table,
    *,
    decoder: CompactDecoderConfig | PretrainedDecoderConfig = TINY_DECODER,
    shape: AutoencoderShape = TINY_SHAPE,
    prior: DiffusionPriorConfig = TINY_PRIOR,
    seed: int = 0,
    inference: SchemaConfig | None = None,
    relations: Relations | None = None,
) -> StageFolders:
    """Write all stages' folders under `root` with the schema and layout of `table` and random weights, and a bundle.

    With a pooled encoder the decoder is said to write in any order, and there is no conditional prior.
    """
    folders = StageFolders(
        prepared=root / "prepared",
        decoder=root / "decoder",
        autoencoder=root / "autoencoder",
        prior=root / "prior",
        conditional=root / "conditional",
        bundle=root / "bundle",
    )
    write_prepared(folders.prepared, table, table, inference=inference, relations=relations)
    schema = read_schema(folders.prepared)
    codec = JsonRecordCodec(schema)
    literals = codec.value_literals(codec.normalize_table(table).table)
    steered = isinstance(decoder, CompactDecoderConfig) and shape.encoder.kind == "pooled"
    parts = write_tokenizer(folders.decoder, decoder, schema, literals, any_order=steered)
    torch.manual_seed(seed)
    if isinstance(decoder, CompactDecoderConfig):
        write_compact_model(folders.decoder, parts, dict(unfitted(parts).named_parameters()))
    _write_untrained_autoencoder(folders.autoencoder, folders.prepared, folders.decoder, shape, schema)
    _write_prior(folders.prior, prior, latent_size=latent_size(shape.encoder, parts.slots))
    if not steered:
        _write_conditional(folders)
    named = {"decoder": decoder.model_dump(mode="json"), "autoencoder": shape.model_dump(mode="json")}
    (root / "config.yaml").write_text(yaml.safe_dump(named))  # as an experiment's, which names the base models
    assemble_bundle(
        folders.bundle,
        prepared=folders.prepared,
        decoder=folders.decoder,
        autoencoder=folders.autoencoder,
        prior=folders.prior,
        conditional=None if steered else folders.conditional,
    )
    return folders


def _write_untrained_autoencoder(
    directory: Path, prepared: Path, decoder: Path, shape: AutoencoderShape, schema: RecordSchema
) -> None:
    shape = with_used_tokens(shape, prepared, decoder)
    module, _ = build_autoencoder(shape, decoder, schema)
    directory.mkdir(parents=True)
    trainable = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    save_file(trainable, directory / "best.safetensors")
    finish_autoencoder(directory, shape)


def _write_prior(directory: Path, config: DiffusionPriorConfig, *, latent_size: int) -> None:
    denoiser = EdmDenoiser(build_network(config.network, latent_size=latent_size), sigma_data=0.5)
    scaler = {"scaler.mean": torch.zeros(latent_size), "scaler.std": torch.ones(latent_size)}
    directory.mkdir(parents=True, exist_ok=True)
    best = directory / "best.safetensors"
    save_file({name: value.detach() for name, value in denoiser.named_parameters()} | scaler, best)
    finish_diffusion(best, config, directory)


def _write_conditional(folders: StageFolders) -> None:
    """Write the untrained conditional prior, with its zero matrices filled so that conditions change its draws."""
    schema, base = read_schema(folders.prepared), BasePrior.read(folders.prior)
    bins = ConditionBins.fit(schema, table_codes(read_split(folders.prepared, "train", schema), schema))
    denoiser = base.denoiser(bins.size)
    for name, value in denoiser.named_parameters():
        if value.dim() == 2 and ("condition" in name or "outer" in name):
            torch.nn.init.normal_(value, std=0.3)
    folders.conditional.mkdir(parents=True, exist_ok=True)
    scaler = {"scaler.mean": base.tensors["scaler.mean"], "scaler.std": base.tensors["scaler.std"]}
    best = folders.conditional / "best.safetensors"
    save_file({name: value.detach() for name, value in denoiser.named_parameters()} | scaler, best)
    finish_conditional(best, folders.prepared, folders.prior, folders.conditional)
