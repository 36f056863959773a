"""Signatures: who vouches for a bundle. Optional; the Ed25519 keys are those of the package `cryptography`.

signature.json   the signer's public key and the signature of hashes.json, and so of every file that it lists

A key is named by the text between the lines BEGIN and END of its public file, which is short enough to stand in a
configuration (`sampling.signed_by`).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difflm.artifacts.atomic import storage_errors, write_bytes_atomic
from difflm.artifacts.manifest import SIGNATURE_NAME
from difflm.errors import BundleError, ConfigError
from difflm.regular_files import read_file
from difflm.synthesis.bundle_files import HASHES_NAME, check_files
from difflm.telemetry import parse_json

PublicKey = Annotated[str, Field(pattern=r"^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$")]  # SubjectPublicKeyInfo, in base64

_SIGNED: Final = b"difflm bundle, format 1\n"  # what else a key signs is never taken for a bundle
_MAX_BYTES = 16 * 1024  # of a key's file or a signature's: both are a few hundred


class _Signature(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1]
    algorithm: Literal["ed25519"]
    signer: PublicKey
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


def make_key(path: Path) -> Path:
    """Write a new private key, which only its owner may read, and its public one beside it; returns the latter's path.

    Raises:
        ConfigError: one of them is there already, or `cryptography` is missing.
        StorageError: they cannot be written.
    """
    ed25519, serialization = _cryptography()
    public_path = path.with_name(f"{path.name}.pub")
    for there in (path, public_path):
        if os.path.lexists(there):
            raise ConfigError(f"{there}: is there already; give a path where nothing is")
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, private, mode=0o600)
        write_bytes_atomic(public_path, _pem(key.public_key(), serialization), mode=0o644)
    return public_path


def read_public_key(path: Path) -> str:
    """Read the file of a public key, as `make_key` or `openssl pkey -pubout` writes it; returns the key's name.

    Raises:
        ConfigError: it is not there, or no public Ed25519 key; or `cryptography` is missing.
    """
    ed25519, serialization = _cryptography()
    content = _content(path)
    try:
        key = serialization.load_pem_public_key(content)
    except Exception as error:  # several kinds, some of them of libraries beneath
        if b"PRIVATE KEY" in content:
            raise ConfigError(f"{path}: is a private key, which nobody but its owner needs; give {path}.pub") from None
        raise ConfigError(f"{path}: no public key can be read from it; {_MAKE}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{path}: is a public key, but none of Ed25519; {_MAKE}")
    return _name(key, serialization)


def sign_bundle(folder: Path, key: Path) -> str:
    """Sign a bundle with the private key in a file, in place of an older signature; returns the public key's name.

    Raises:
        BundleError: a file is missing or changed, or the bundle is older than lists of hashes.
        ConfigError: the key cannot be read, or `cryptography` is missing.
        StorageError: the signature cannot be written.
    """
    ed25519, serialization = _cryptography()
    content = _content(key)
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise ConfigError(f"{key}: has a passphrase; give a key without one, as difflm sign --make-key does") from None
    except Exception as error:
        raise ConfigError(f"{key}: no private key can be read from it; {_MAKE}") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{key}: is a private key, but none of Ed25519; {_MAKE}")
    hashes = _hashes(folder)
    check_files(folder)
    signature = _Signature(
        format_version=1,
        algorithm="ed25519",
        signer=_name(private.public_key(), serialization),
        signature=base64.b64encode(private.sign(_SIGNED + hashes)).decode(),
    )
    with storage_errors(folder / SIGNATURE_NAME):
        content = json.dumps(signature.model_dump(), indent=2).encode()
        write_bytes_atomic(folder / SIGNATURE_NAME, content, mode=0o644)
    return signature.signer


def check_signature(folder: Path, signer: str) -> None:
    """Refuse a bundle whose list of hashes was not signed with the key of a name; `check_files` compares the rest.

    Raises:
        BundleError: it is not signed, signed with another key, or changed since; names the file.
        ConfigError: `cryptography` is missing.
    """
    ed25519, _ = _cryptography()
    path = folder / SIGNATURE_NAME
    found, hashes = _read(path), _hashes(folder)
    if found.signer != signer:
        raise BundleError(f"{path}: signed with another key: {found.signer}, wanted {signer}; do not use the bundle")
    from cryptography.exceptions import InvalidSignature

    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(signer)[-32:])
        key.verify(base64.b64decode(found.signature), _SIGNED + hashes)
    except (InvalidSignature, ValueError, binascii.Error):
        raise BundleError(
            f"{folder / HASHES_NAME}: is not what was signed; fetch the bundle again from whom you trust, or let its "
            "maker sign it again"
        ) from None


_MAKE = "difflm sign --make-key PATH makes a pair"


def _read(path: Path) -> _Signature:
    if not path.is_file():
        raise BundleError(f"{path.parent}: is not signed (no {SIGNATURE_NAME}); let its maker use difflm sign")
    try:
        with path.open("rb") as file:
            return _Signature.model_validate(parse_json(file.read(_MAX_BYTES)))
    except (OSError, ValueError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        reason = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise BundleError(f"{path}: no signature ({reason}); let the bundle's maker sign it again") from error


def _hashes(folder: Path) -> bytes:
    path = folder / HASHES_NAME
    try:
        return read_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BundleError(f"{path}: cannot be read ({reason}); assemble the bundle again") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); {_MAKE}") from error


def _pem(public: Any, serialization: Any) -> bytes:
    content: bytes = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return content


def _name(public: Any, serialization: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(public.public_bytes(serialization.Encoding.DER, form)).decode()


def _cryptography() -> tuple[Any, Any]:
    """Import the modules for Ed25519 keys and for their files. Raises ConfigError."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigError(
            f"signatures are made and checked by cryptography, which cannot be imported ({error}); "
            "pip install 'difflm[sign]'"
        ) from error
    return ed25519, serialization
