"""The bundle: all that generation needs, and nothing of the training rows.

bundle.json              format version, platform version, autoencoder configuration
schema.json              the fitted schema
source.json              the form of the table's file, where it had one
decoder/                 tokenizer and frozen decoder (a pretrained one: its id, revision and hash)
autoencoder.safetensors  encoder, posterior head and injector
prior/                   prior.json, prior.safetensors with the latent scaler
conditional/             the same of the conditional prior, where one was trained
critic.safetensors       what tells draws from real rows, where that was found
calibration.safetensors  what scores are corrected by, where the bundle was calibrated

Where a bundle is: the folder that was given, or the newest bundle of an experiment.

Encoding: the posteriors of a table's records, by the encoder of a bundle.

Shape legend: N records, Z latent size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import torch
from pydantic import ValidationError
from torch import Tensor

import difflm
from difflm.artifacts.manifest import BUNDLE_KIND
from difflm.artifacts.store import ArtifactStore
from difflm.diffusion.conditional import ConditionalPrior, load_conditional
from difflm.diffusion.priors import LatentPrior, SolverSettings, load_prior
from difflm.errors import BundleError, ModelError, SchemaError
from difflm.models.autoencoder import Autoencoder, AutoencoderShape, GaussianPosterior
from difflm.models.building import build_autoencoder, latent_size
from difflm.models.decoder_store import DecoderParts, read_tensors
from difflm.models.encoder import encoder_inputs
from difflm.privacy.budget import PRIVACY_NAME
from difflm.records.files.source import SOURCE_NAME
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema, read_schema
from difflm.regular_files import read_file
from difflm.synthesis.bundle_files import (
    BUNDLE_VERSION,
    check_base,
    check_files,
    fitting,
    read_facts,
    refuse_special,
    write_hashes,
)
from difflm.synthesis.bundle_sizes import SizeCheck
from difflm.synthesis.critic.judge import Critic, read_critic
from difflm.synthesis.decoding.corrections import read_corrections
from difflm.synthesis.sharing.places import local_folder
from difflm.synthesis.signatures import check_signature
from difflm.telemetry import parse_json


def bundle_folder(given: Path) -> Path:
    """Find the bundle in a folder: the folder itself, or the newest one of an experiment; or that of a file or of a
    repository (see `local_folder`).

    Raises:
        BundleError: there is none, or it is of another version.
    """
    folder = given = local_folder(given)
    if not (given / "bundle.json").is_file() and (given / "artifacts").is_dir():
        bundles = [artifact for artifact in ArtifactStore(given).finished() if artifact.kind == BUNDLE_KIND]
        if not bundles:
            raise BundleError(f"{given}: this experiment has no bundle yet; run it up to the stage assemble")
        folder = bundles[-1].path
    read_facts(folder)
    return folder


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
    corrections_FV: Tensor | None = None
    critic: Critic | None = None


def assemble_bundle(
    directory: Path, *, prepared: Path, decoder: Path, autoencoder: Path, prior: Path, conditional: Path | None = None
) -> None:
    """Put a bundle together from the artifacts of the stages before. Contents are copied, not modes: safetensors writes
    files that only their owner may read, and whoever serves a bundle is often another user.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(prepared / "schema.json", directory / "schema.json")
    if (prepared / SOURCE_NAME).is_file():
        shutil.copyfile(prepared / SOURCE_NAME, directory / SOURCE_NAME)
    if (decoder / PRIVACY_NAME).is_file():
        shutil.copyfile(decoder / PRIVACY_NAME, directory / PRIVACY_NAME)
    kept = _only("decoder.json", "tokenizer", "model")
    _copy_tree(decoder, directory / "decoder", kept)
    shutil.copyfile(autoencoder / "best.safetensors", directory / "autoencoder.safetensors")
    _copy_tree(prior, directory / "prior", _only("prior.json", "prior.safetensors"))
    if conditional is not None:
        kept = _only("conditional.json", "conditional.safetensors")
        _copy_tree(conditional, directory / CONDITIONAL_FOLDER, kept)
    shape = json.loads((autoencoder / "autoencoder.json").read_text())
    facts = {"format_version": BUNDLE_VERSION, "made_by": f"difflm {difflm.__version__}", "autoencoder": shape}
    (directory / "bundle.json").write_text(json.dumps(facts, indent=2))
    write_hashes(directory)


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


SolverChoice: TypeAlias = SolverSettings | Callable[[AutoencoderShape], SolverSettings]


def load_bundle(
    directory: Path,
    *,
    solver: SolverChoice = SolverSettings(),  # noqa: B008 - a frozen value
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    allow_local_base: bool = False,
    signed_by: str | None = None,
) -> Bundle:
    """Load a bundle whose files are those that were written; `allow_local_base` as of `check_base`, `signed_by` as of
    `check_signature`.

    `solver` is how the prior is sampled, or says so for the bundle's shape.

    Raises:
        BundleError: a file is missing, changed or unreadable, leads to a model that nobody chose, or was not signed by
            whom it should have been; names the file and the remedy.
    """
    refuse_special(directory)
    facts = read_facts(directory)
    if signed_by is not None:
        check_signature(directory, signed_by)
    _check_files(directory)
    check_files(directory)
    check_base(directory, facts, allow_local=allow_local_base)
    with fitting(directory, RuntimeError, MemoryError, OSError):  # no single file is wrong, but several together
        try:
            loaded = _loaded(directory, facts, solver, device, precision)
        except (ModelError, SchemaError) as error:
            raise BundleError(str(error)) from error
    return loaded


def _loaded(
    directory: Path, facts: dict[str, object], choice: SolverChoice, device: torch.device | str, precision: torch.dtype
) -> Bundle:
    schema, shape = read_schema(directory), _shape(directory / "bundle.json", facts)
    solver = choice if isinstance(choice, SolverSettings) else choice(shape)
    try:
        check = SizeCheck(path=directory / "autoencoder.safetensors", shape=shape)
        module, parts = build_autoencoder(shape, directory / "decoder", schema, dtype=precision, check=check)
    except ModelError as error:
        raise BundleError(f"{directory}: {error}") from error
    load_trainable(module, directory / "autoencoder.safetensors")
    prior = load_prior(directory / "prior", solver, device=device, precision=precision)
    folder = directory / CONDITIONAL_FOLDER
    conditional = load_conditional(folder, solver, device=device, precision=precision) if folder.is_dir() else None
    latents = latent_size(shape.encoder, parts.slots)
    if prior.size != latents or (conditional is not None and conditional.prior.size != latents):
        raise BundleError(f"{directory}: priors and autoencoder have latents of different sizes; assemble it again")
    module.to(device).eval().requires_grad_(False)
    return Bundle(
        folder=directory,
        schema=schema,
        codec=JsonRecordCodec(schema, keyed=parts.keyed),
        autoencoder=module,
        parts=parts,
        prior=prior,
        shape=shape,
        conditional=conditional,
        corrections_FV=read_corrections(directory, parts),
        critic=read_critic(directory, schema),
    )


def _shape(path: Path, facts: dict[str, object]) -> AutoencoderShape:
    try:
        return AutoencoderShape.model_validate(facts.get("autoencoder"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("autoencoder", *first["loc"])))
        raise BundleError(f"{path}: {place}: {first['msg']}; assemble the bundle again") from error


def _check_files(directory: Path) -> None:
    compact = ["decoder/model"] if _is_compact(directory / "decoder" / "decoder.json") else []
    for name in (*_FILES, *compact):
        if not (directory / name).exists():
            raise BundleError(f"{directory / name} is missing from the bundle; assemble the bundle again")


def writes_in_any_order(directory: Path) -> bool:
    """Whether conditions and gaps need no conditional prior, since the decoder writes what is asked for first."""
    try:
        return parse_json(read_file(directory / "decoder" / "decoder.json")).get("any_order") is True
    except (OSError, ValueError, AttributeError):
        return False  # what is wrong with the file is said where the bundle is loaded


def _is_compact(path: Path) -> bool:
    """Whether the decoder's weights are in the bundle, as those of a compact one are."""
    try:
        return bool(parse_json(read_file(path))["config"]["kind"] == "compact")
    except (OSError, ValueError, KeyError, TypeError):
        return False  # what is wrong with the file is said where it is read


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
