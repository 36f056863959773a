"""Where a generator lies: in a folder, in a file, or in a repository of a hub; its bundle ends up in a folder."""

from __future__ import annotations

from pathlib import Path

from difflm.errors import BundleError
from difflm.records.databases.urls import refuse_database
from difflm.regular_files import given_path
from difflm.synthesis.sharing.container import SUFFIX, unpacked
from difflm.synthesis.sharing.hub import HubPlace, fetched


def local_folder(given: str | Path) -> Path:
    """Return the folder of what is given: a folder, or a path where nothing is, as it is; a file unpacked; a repository
    (`hf://owner/name`) fetched.

    Raises:
        BundleError: the file is no generator, or damaged; or the repository is not there, or holds none.
        ConfigError: the address of a repository cannot be read, huggingface_hub is missing, or it is a database.
        StorageError: there is no space left to unpack it.
    """
    refuse_database(str(given), "the generator")
    place = HubPlace.read(given)
    if place is not None:
        return _bundle_alone(fetched(place), given)
    path = given_path(given, name="the generator")
    return _bundle_alone(unpacked(path), given) if path.is_file() else path


_OF_A_RUN = ("runs.jsonl", "config.yaml", "artifacts")
"""What a run's folder has: its settings would be taken for those of its user, and name models and tables here."""


def _bundle_alone(folder: Path, given: str | Path) -> Path:
    """Refuse what somebody else made to look like a run of one's own."""
    odd = [name for name in _OF_A_RUN if (folder / name).exists()]
    if odd or not (folder / "bundle.json").is_file():
        what = f"holds {odd[0]}, as the folder of a run does" if odd else "holds no bundle.json"
        raise BundleError(f"{given}: {what}; a generator is a bundle alone: get it again from its maker")
    return folder


def is_generator(given: str | Path) -> bool:
    """Whether something is, by its look, a bundle's folder, a file of a generator, or a repository."""
    path = Path(given)
    if HubPlace.is_one(given) or (path / "bundle.json").is_file():
        return True
    return path.is_file() and path.suffix == SUFFIX


def short_name(given: str | Path) -> str:
    """Name a generator after where it lies: the last part of a path or of a repository."""
    place = HubPlace.read(given)
    if place is not None:
        return place.repository.rpartition("/")[2]
    path = Path(given).absolute()
    return path.stem if path.suffix == SUFFIX else path.name
