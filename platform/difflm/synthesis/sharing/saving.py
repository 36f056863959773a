"""Saved generators: bundle, sampling, the kind of frame, scores and card, in a folder or in one file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflm.artifacts.atomic import atomic_directory, storage_errors
from difflm.artifacts.manifest import MANIFEST_NAME, SCORES_NAME, SIGNATURE_NAME
from difflm.errors import ConfigError
from difflm.privacy.budget import is_private
from difflm.records.frames.frames import TEMPLATE_NAME
from difflm.regular_files import given_path
from difflm.synthesis.bundle_files import CARD_NAME, check_files, fitting, write_hashes
from difflm.synthesis.saved_sampling import write_sampling
from difflm.synthesis.sharing.card import write_card
from difflm.synthesis.sharing.container import SUFFIX, pack
from difflm.synthesis.synthesizer import SamplingConfig

_OF_ITS_PLACE = (MANIFEST_NAME, SIGNATURE_NAME, SCORES_NAME, CARD_NAME)
"""What is not taken over from the folder that the bundle lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedParts:
    """What a saved generator is made of; `report` writes the report that it carries, if there is one, to a path."""

    bundle: Path
    template: bytes | None
    sampling: SamplingConfig
    report: Callable[[Path], Any] | None
    licence: str | None

    def write(self, path: str | Path) -> Path:
        """Write a file where the path ends in ``.difflm``, else a folder; either appears whole or not at all.

        Raises:
            ConfigError: something is there already, or no disk can have such a path.
            BundleError: a file of the bundle is missing or changed.
            StorageError: the disk is full or writing is not permitted.
        """
        target = given_path(path, name="path")
        if target.exists():
            raise ConfigError(f"{target}: is there already; give a path where nothing is")
        if target.suffix != SUFFIX:
            with atomic_directory(target) as folder:
                self._write_files(folder)
            return target
        beside = target.absolute().parent
        with storage_errors(target):
            beside.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=beside) as folder:
                self._write_files(Path(folder))
                pack(Path(folder), target)
        return target

    def _write_files(self, folder: Path) -> None:
        check_files(self.bundle)
        others = shutil.ignore_patterns(*_OF_ITS_PLACE, ".*")
        shutil.copytree(self.bundle, folder, dirs_exist_ok=True, copy_function=shutil.copyfile, ignore=others)
        if self.template is not None:
            (folder / TEMPLATE_NAME).write_bytes(self.template)
        write_sampling(folder, self.sampling)
        if self.report is not None and not is_private(self.bundle):  # its scores read real rows
            self.report(folder / SCORES_NAME)
        with fitting(self.bundle):  # the card tells of files that nothing else reads
            write_card(folder, licence=self.licence, sampling=self.sampling)
        write_hashes(folder)
