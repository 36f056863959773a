"""Encoding: the posteriors of a table's records, by the encoder of a bundle.

Shape legend: N records, Z latent size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from pydantic import ValidationError

import difflm
from difflm.artifacts.manifest import BUNDLE_KIND
from difflm.artifacts.store import ArtifactStore
from difflm.diffusion.conditional import ConditionalPrior, load_conditional
from difflm.diffusion.priors import HeunSettings, LatentPrior, load_prior
from difflm.errors import BundleError, ModelError, SchemaError
from difflm.models.autoencoder import Autoencoder, AutoencoderShape, GaussianPosterior, build_autoencoder
from difflm.models.decoder_store import DecoderParts, read_tensors
from difflm.models.encoder import encoder_inputs
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema, read_schema


def bundle_folder(given: Path) -> Path:
    """Find the bundle in a folder: the folder itself, or the newest one of an experiment.

    Raises:
        BundleError: there is none, or it is of another version.
    """
    folder = given
    if not (given / "bundle.json").is_file() and (given / "artifacts").is_dir():
        bundles = [artifact for artifact in ArtifactStore(given).finished() if artifact.kind == BUNDLE_KIND]
        if not bundles:
            raise BundleError(f"{given}: this experiment has no bundle yet; run it up to the stage assemble")
        folder = bundles[-1].path
    read_facts(folder)
    return folder


FORMAT_VERSION = 1
CONDITIONAL_FOLDER = "conditional"
_FILES = (
    "schema.json",
    "decoder/decoder.json",
    "decoder/tokenizer",
    "autoencoder.safetensors",
    "prior/prior.json",
    "prior/prior.safetensors",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A loaded bundle."""

    folder: Path
    schema: RecordSchema
    codec: JsonRecordCodec
    autoencoder: Autoencoder
    parts: DecoderParts
    prior: LatentPrior
    shape: AutoencoderShape
    conditional: ConditionalPrior | None


def assemble_bundle(
    directory: Path, *, prepared: Path, decoder: Path, autoencoder: Path, prior: Path, conditional: Path | None = None
) -> None:
    """Put a bundle together from the artifacts of the stages before. Contents are copied, not modes: safetensors writes
    files that only their owner may read, and whoever serves a bundle is often another user.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(prepared / "schema.json", directory / "schema.json")
    kept = _only("decoder.json", "tokenizer", "model")
    _copy_tree(decoder, directory / "decoder", kept)
    shutil.copyfile(autoencoder / "best.safetensors", directory / "autoencoder.safetensors")
    _copy_tree(prior, directory / "prior", _only("prior.json", "prior.safetensors"))
    if conditional is not None:
        kept = _only("conditional.json", "conditional.safetensors")
        _copy_tree(conditional, directory / CONDITIONAL_FOLDER, kept)
    shape = json.loads((autoencoder / "autoencoder.json").read_text())
    facts = {"format_version": FORMAT_VERSION, "made_by": f"difflm {difflm.__version__}", "autoencoder": shape}
    (directory / "bundle.json").write_text(json.dumps(facts, indent=2))


def _copy_tree(source: Path, target: Path, ignore: _Ignore) -> None:
    shutil.copytree(source, target, ignore=ignore, copy_function=shutil.copyfile, dirs_exist_ok=True)


def _only(*names: str) -> _Ignore:
    return _Ignore(names)


@dataclass(frozen=True, slots=True)
class _Ignore:
    """For copytree: at the top level copy these names only."""

    names: tuple[str, ...]

    def __call__(self, folder: str, found: list[str]) -> list[str]:
        at_top = any(name in self.names for name in found)
        return [name for name in found if name not in self.names] if at_top else []


def load_bundle(
    directory: Path,
    *,
    heun: HeunSettings | None = None,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> Bundle:
    """Load a bundle. Raises BundleError naming the file and the remedy."""
    facts = read_facts(directory)
    _check_files(directory)
    try:
        schema = read_schema(directory)
        shape = AutoencoderShape.model_validate(facts.get("autoencoder"))
    except SchemaError as error:
        raise BundleError(str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("autoencoder", *first["loc"])))
        raise BundleError(f"{directory / 'bundle.json'}: {place}: {first['msg']}; assemble the bundle again") from error
    try:
        module, parts = build_autoencoder(shape, directory / "decoder", schema, dtype=precision)
    except ModelError as error:
        raise BundleError(f"{directory}: {error}") from error
    load_trainable(module, directory / "autoencoder.safetensors")
    try:
        levels, folder = heun or HeunSettings(), directory / CONDITIONAL_FOLDER
        prior = load_prior(directory / "prior", levels, device=device, precision=precision)
        has_one = folder.is_dir()
        conditional = load_conditional(folder, levels, device=device, precision=precision) if has_one else None
    except ModelError as error:
        raise BundleError(str(error)) from error
    module.to(device).eval().requires_grad_(False)
    return Bundle(
        folder=directory,
        schema=schema,
        codec=JsonRecordCodec(schema),
        autoencoder=module,
        parts=parts,
        prior=prior,
        shape=shape,
        conditional=conditional,
    )


def _check_files(directory: Path) -> None:
    compact = ["decoder/model"] if _is_compact(directory / "decoder" / "decoder.json") else []
    for name in (*_FILES, *compact):
        if not (directory / name).exists():
            raise BundleError(f"{directory / name} is missing from the bundle; assemble the bundle again")


def _is_compact(path: Path) -> bool:
    """Whether the decoder's weights are in the bundle, as those of a compact one are."""
    try:
        return bool(json.loads(path.read_text())["config"]["kind"] == "compact")
    except (OSError, ValueError, KeyError):
        return False  # what is wrong with the file is said where it is read


def read_facts(directory: Path) -> dict[str, object]:
    """bundle.json of this version. Raises BundleError naming the file and the remedy."""
    path = directory / "bundle.json"
    if not path.is_file():
        raise BundleError(
            f"{directory} is no bundle: it has no bundle.json; give the folder that the assemble stage wrote"
        )
    try:
        facts: dict[str, object] = json.loads(path.read_text())
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); assemble the bundle again") from error
    version = facts.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: bundle of format {version}, this version reads {FORMAT_VERSION}; "
            "assemble it again or use the version that made it"
        )
    return facts


def load_trainable(module: Autoencoder, path: Path) -> None:
    """Put the trained tensors into an autoencoder; those of no numbers may be missing, as ZeRO-3 has none of them.

    Raises BundleError when they do not fit.
    """
    try:
        tensors = read_tensors(path)
    except ModelError as error:
        raise BundleError(str(error)) from error
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    wanted = {name: tuple(value.shape) for name, value in trained.items() if value.numel()}
    found = {name: tuple(value.shape) for name, value in tensors.items() if value.numel()}
    if wanted != found:
        odd = sorted({name for name, _ in wanted.items() ^ found.items()})[:3]
        raise BundleError(
            f"{path}: its tensors are not those of the configured autoencoder (such as {', '.join(odd)}); "
            "assemble the bundle again"
        )
    module.load_state_dict(tensors, strict=False)


ENCODE_BATCH = 1024


@torch.no_grad()
def encode_table(
    module: Autoencoder,
    parts: DecoderParts,
    shape: AutoencoderShape,
    table: pa.Table,
    schema: RecordSchema,
    *,
    device: torch.device | str = "cpu",
) -> Iterator[GaussianPosterior]:
    """Posteriors of a normalised table in its order, at most ENCODE_BATCH records at a time."""
    tokens = parts.tokenizer.encode(JsonRecordCodec(schema).value_literals(table), parts.slots.grid)
    grid_NG = torch.from_numpy(tokens.grid_NG).to(device)
    inputs = encoder_inputs(shape.encoder, table, schema, device)
    for rows in torch.arange(len(table)).split(ENCODE_BATCH):  # type: ignore[no-untyped-call]
        yield module.encode(inputs(rows, grid_NG[rows.to(device)]))
