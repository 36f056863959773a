"""A folder's secret, with which hashes of private rows are keyed."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from difflm.artifacts.atomic import write_bytes_atomic
from difflm.artifacts.run_folder import SECRET
from difflm.errors import ArtifactError
from difflm.regular_files import read_file


class FolderSecret:
    """The secret of an experiment: chosen when first needed, and written only once the folder is held."""

    def __init__(self, root: Path) -> None:
        self._path = root / SECRET
        self._value: bytes | None = None

    def keyed(self, value: str) -> str:
        """Return a hash, in hex, that nobody can repeat without the secret.

        The identity of a bundle goes along with it and is a hash of all that made it. Where rows are promised privacy,
        who knows all of them but one could find out by that hash whether the one was there.
        """
        if self._value is None:
            self._value = self._kept() or secrets.token_hex(32).encode()
        return hmac.digest(self._value, value.encode(), "sha256").hex()

    def keep(self) -> None:
        """Write the secret, if it was needed.

        Raises:
            ArtifactError: another process chose one in between.
            StorageError: the disk is full or writing is not permitted.
        """
        if self._value is None or (kept := self._kept()) == self._value:
            return
        if kept is not None:
            raise ArtifactError(
                f"{self._path.parent}: another process began this experiment; run the same command again"
            )
        write_bytes_atomic(self._path, self._value, mode=0o600)

    def _kept(self) -> bytes | None:
        try:
            return read_file(self._path)
        except FileNotFoundError:
            return None
