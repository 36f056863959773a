"""The artifacts of one experiment: found by identity, created atomically, one writer at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from difflm.artifacts.atomic import atomic_directory, make_private, remove_temporaries, remove_tree, storage_errors
from difflm.artifacts.folder_secret import FolderSecret
from difflm.artifacts.manifest import BUNDLE_KIND, MANIFEST_NAME, SIGNATURE_NAME, FileEntry, Manifest
from difflm.artifacts.run_folder import ARTIFACT_NAME, FOLDERS, INPUT, LOCK, LOGS, OWN, ROUNDS, SECRET, is_given
from difflm.errors import ArtifactError, StorageError
from difflm.telemetry import JSON, Stopwatch, host_facts

SHORT = 12


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A finished artifact: a folder that is never written to again."""

    path: Path
    manifest: Manifest

    @property
    def kind(self) -> str:
        """What it is, such as ``prepare`` or ``bundle``."""
        return self.manifest.kind

    @property
    def identity(self) -> str:
        """The hash, in hex, of all that made it."""
        return self.manifest.identity


@dataclass(slots=True, kw_only=True)
class Draft:
    """An artifact in the making: write files into ``path``, and set what becomes known about the work."""

    path: Path
    compute_seconds: float | None = None
    peak_rss_mib: dict[str, float] = field(default_factory=dict)
    facts: dict[str, JSON] = field(default_factory=dict)


class ArtifactStore:
    """The folder of one experiment: ``artifacts/<kind>-<hash>/`` and ``work/<kind>-<hash>/`` for what is under way.

    Only its owner may enter it once it has been written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.secret = FolderSecret(root)

    @staticmethod
    def identify(kind: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
        """Return the identity of what a stage of this kind and version makes from this configuration and these inputs.

        ``inputs`` maps a name to the identity of an artifact or the hash of a file. Key order does not matter.
        """
        parts = {"kind": kind, "version": version, "config": dict(config), "inputs": dict(inputs)}
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def path(self, kind: str, identity: str) -> Path:
        """Tell where the artifact lies, or would lie."""
        return self.root / "artifacts" / f"{kind}-{identity[:SHORT]}"

    def work(self, kind: str, identity: str) -> Path:
        """Tell where the stage keeps checkpoints and events until the artifact is finished, even over a killed run."""
        return self.root / "work" / f"{kind}-{identity[:SHORT]}"

    def find(self, kind: str, identity: str) -> Artifact | None:
        """Find the finished artifact; None where there is none.

        Raises:
            ArtifactError: its manifest is cut short, of another format version, or belongs to another identity.
        """
        path = self.path(kind, identity)
        if not (path / MANIFEST_NAME).exists():
            return None
        manifest = Manifest.read(path)
        if manifest.identity != identity:
            raise ArtifactError(f"{path}: holds the artifact {manifest.identity}, not {identity}; remove the folder")
        return Artifact(path=path, manifest=manifest)

    @contextmanager
    def create(
        self, kind: str, identity: str, *, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Iterator[Draft]:
        """Begin a draft that becomes the artifact when the block ends without an error, and vanishes otherwise.

        The files are hashed and the manifest is written last; then the folder gets its name and the stage's work
        folder is removed.

        Raises:
            StorageError: the disk is full or writing is not permitted.
        """
        target = self.path(kind, identity)
        with Stopwatch() as watch, atomic_directory(target) as temporary:
            draft = Draft(path=temporary)
            yield draft
            manifest = Manifest(
                kind=kind,
                stage_version=version,
                identity=identity,
                config=dict(config),
                inputs=dict(inputs),
                files=_entries(temporary),
                created=datetime.now(UTC).isoformat(timespec="milliseconds"),
                seconds=watch.seconds,
                compute_seconds=watch.seconds if draft.compute_seconds is None else draft.compute_seconds,
                peak_rss_mib=draft.peak_rss_mib,
                host=host_facts(),
                facts=draft.facts,
            )
            manifest.write(temporary)
            if kind != BUNDLE_KIND:  # a bundle holds no row, and is copied to whoever serves it
                make_private(temporary)
        self._discard_work(self.work(kind, identity))

    def finished(self) -> list[Artifact]:
        """List all finished artifacts, in the order they were made."""
        names = (path.parent for path in (self.root / "artifacts").glob(f"*/{MANIFEST_NAME}"))
        folders = sorted(folder for folder in names if folder.name[0] != ".")
        found: list[Artifact] = []
        for folder in folders:
            with suppress(*(() if ARTIFACT_NAME.fullmatch(folder.name) else (ArtifactError,))):  # none of ours
                found.append(Artifact(path=folder, manifest=Manifest.read(folder)))
        return sorted(found, key=lambda artifact: artifact.manifest.created)

    @staticmethod
    def verify(artifact: Artifact) -> list[str]:
        """List where an artifact's files differ from its manifest, one line each; nothing when all is as written."""
        problems: list[str] = []
        present = _names(artifact.path)
        for name, entry in artifact.manifest.files.items():
            path = artifact.path / name
            if name not in present:
                problems.append(f"{path}: missing")
            elif path.stat().st_size != entry.size or hash_file(path) != entry.sha256:
                problems.append(f"{path}: changed since it was written")
        problems.extend(
            f"{artifact.path / name}: not in the manifest" for name in sorted(present - set(artifact.manifest.files))
        )
        return problems

    def check(self, artifact: Artifact) -> None:
        """Refuse to go on from an artifact that is not as it was written.

        Raises:
            ArtifactError: names the first file that is missing, changed or strange.
        """
        if problems := self.verify(artifact):
            raise ArtifactError(f"{problems[0]}; remove {artifact.path} and run the same command again")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the experiment for one process, and clear away what killed ones left half-written.

        A folder that holds neither an artifact nor work when the block ends is removed again.

        Raises:
            ArtifactError: another process is running this experiment.
            StorageError: the folder cannot be written.
        """
        killed = (self.root / LOCK).exists()  # before its end, for that takes the lock along
        with storage_errors(self.root):
            lock = self._locked()
        with lock:
            self._refuse_links()
            before = set() if killed else {path.name for path in self.root.iterdir()}
            self._make_private()
            self._clear()
            self.secret.keep()
            try:
                yield
            finally:
                self._make_private()
                self._remove_if_empty(before)

    def _refuse_links(self) -> None:
        """Refuse folders of a run that are links: what is cleared away in them would be somebody else's.

        Raises:
            StorageError: names the link.
        """
        for name in (*FOLDERS, INPUT, ROUNDS):
            if (self.root / name).is_symlink():
                raise StorageError(f"{self.root / name}: is a link; put the folder itself there, or link the whole run")

    def _make_private(self) -> None:
        """Let nobody else into the experiment, which holds rows of its table.

        Of a folder that others enter and that holds what no run writes, the modes stay, and those of what else is in
        it: somebody put the run into a folder that has another purpose.
        """
        with suppress(OSError):  # of another owner, or a file system without modes
            paths = [path for path in self.root.iterdir() if not path.is_symlink()]
            entered = self.root.stat().st_mode & 0o077 != 0
            if entered and any(path.name not in OWN for path in paths):
                paths = [path for path in paths if path.name in OWN]
                folders = [path for path in paths if path.is_dir()]
            else:
                folders = [self.root]
            for folder in folders:
                folder.chmod(0o700)
            for path in paths:
                if path.is_file():
                    path.chmod(0o600)

    def _locked(self) -> IO[str]:
        """Take the lock file, locked, and see that it is still the one that others would open.

        Its last holder may have removed it.
        """
        path = self.root / LOCK
        while True:
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w")
            except FileNotFoundError:  # the folder was removed in between
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise ArtifactError(
                    f"{self.root}: another process is running this experiment; wait for it, stop it, or give --name"
                ) from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    return lock
            lock.close()

    def _clear(self) -> None:
        """Remove what killed processes left half-written, and the work of artifacts that are finished; in work that
        goes on, links: somebody else may have made them, and what is written there would go wherever they lead.
        """
        for folder in FOLDERS:
            remove_temporaries(self.root / folder)
        stages = [path for path in (self.root / "work").glob("*") if ARTIFACT_NAME.fullmatch(path.name)]
        for path in [link for stage in stages for link in self._links(stage)]:
            path.unlink()
        for work in stages:
            if (self.root / "artifacts" / work.name / MANIFEST_NAME).exists():
                self._discard_work(work)

    @staticmethod
    def _links(folder: Path) -> list[Path]:
        """List a folder itself, or what is in it at any depth, as far as they are links."""
        if folder.is_symlink():
            return [folder]
        found = (Path(place) / name for place, inside, names in os.walk(folder) for name in (*inside, *names))
        return [path for path in found if path.is_symlink()]

    @staticmethod
    def _discard_work(work: Path) -> None:
        """Remove the work of a finished artifact; what cannot be removed now is removed by the next process."""
        with suppress(OSError):
            remove_tree(work)

    def _remove_if_empty(self, before: Collection[str]) -> None:
        """Remove an experiment without artifacts and work, its lock last: then the next process owns the name.

        Only what runs write is removed, of their logs those that were not there `before`: the folder may be anybody's.
        """
        for folder in FOLDERS:
            with suppress(OSError):  # not empty, or never made
                (self.root / folder).rmdir()
        if any((self.root / folder).exists() for folder in FOLDERS):
            return
        for path in self.root.iterdir():
            if (path.name in (*LOGS, SECRET) and path.name not in before) or is_given(path):
                remove_tree(path)
        (self.root / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # the next process is already there, or other files are
            self.root.rmdir()


def _names(folder: Path) -> set[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return set(files) - {MANIFEST_NAME, SIGNATURE_NAME}


def _entries(folder: Path) -> dict[str, FileEntry]:
    return {
        name: FileEntry(sha256=hash_file(folder / name), size=(folder / name).stat().st_size)
        for name in sorted(_names(folder))
    }
