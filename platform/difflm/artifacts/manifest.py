"""The manifest of an artifact: what made it, what it holds, what making it cost; and the facts of a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difflm.artifacts.atomic import write_json_atomic
from difflm.errors import ArtifactError, ModelError
from difflm.regular_files import read_file
from difflm.telemetry import json_bytes, parse_json

BUNDLE_KIND = "bundle"
REPORT_KIND = "report"
SCORES_NAME = "scores.json"
"""The report that a saved bundle carries, in the layout of report.json."""
ROW_DETAILS = ("nearest", "projection", "samples", "copies", "language")
"""The evaluations of a report that show rows, words of them, or where they lie: these details stay with the run,
whoever gets its scores.
"""


def read_facts(path: Path, *, version: int, what: str, remedy: str) -> dict[str, Any]:
    """Read the object in a file, whose `format_version` must be ``version``.

    Raises:
        ModelError: the file is missing, no JSON object, or of another version; says what should have been read
            (``what``) and ends in ``remedy``.
    """
    try:
        facts = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: no {what} can be read from it ({error}); {remedy}") from error
    found = facts.get("format_version") if isinstance(facts, dict) else None
    if found != version:
        raise ModelError(f"{path}: format_version is {found}, this version reads {version}; {remedy}")
    assert isinstance(facts, dict), "it has a version"
    return facts


MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "signature.json"  # put beside the files of a bundle at any time; of none of their hashes
FORMAT_VERSION: Final = 1


class FileEntry(BaseModel):
    """One file of an artifact: its SHA-256 in hex and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """Everything known about an artifact; written last, so an artifact without one does not exist.

    ``seconds`` is the wall time of the stage, ``compute_seconds`` the part its own work took (without starting
    processes), ``peak_rss_mib`` the largest resident memory in MiB of each process that took part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    kind: str
    stage_version: int
    identity: str
    config: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, FileEntry]
    created: str
    seconds: float
    compute_seconds: float
    peak_rss_mib: dict[str, float]
    host: dict[str, Any]
    facts: dict[str, Any] = Field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the manifest into ``folder``, atomically."""
        write_json_atomic(folder / MANIFEST_NAME, self.model_dump(mode="json"))

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read the manifest of the artifact in ``folder``.

        Raises:
            ArtifactError: it is missing, cut short, or of another format version.
        """
        path = folder / MANIFEST_NAME
        try:
            data = parse_json(read_file(path))
            json_bytes(data)  # with a number that is none, no log and no report could be written from it
        except FileNotFoundError:
            raise ArtifactError(f"{path}: no such file; the folder holds no finished artifact, run its stage") from None
        except ValueError:
            raise ArtifactError(f"{path}: not readable as JSON; remove {folder} and run its stage again") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ArtifactError(f"{path}: cannot be read ({reason}); remove {folder} and run its stage again") from None
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{path}: format version {version!r}, this release reads {FORMAT_VERSION}; "
                f"remove {folder} and run its stage again, or use the release that wrote it"
            )
        try:
            return Manifest.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise ArtifactError(f"{path}: {key}: {first['msg']}; remove {folder} and run its stage again") from None
