"""Generators in repositories of a Hugging Face hub: `hf://owner/name`, or `hf://owner/name@revision`.

A repository holds the files of a saved bundle. Of what is there, only the files that `hashes.json` lists are fetched,
into the hub's own cache, and compared with it; whatever else somebody put beside them stays where it is. The hub is
that of HF_ENDPOINT, and the token the one of HF_TOKEN or `hf auth login`; no message repeats what the library says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from difflm.artifacts.atomic import storage_errors
from difflm.artifacts.manifest import SIGNATURE_NAME, FileEntry
from difflm.errors import BundleError, ConfigError, DiffLMError, ModelError
from difflm.models.sources import guard_hub
from difflm.synthesis.bundle_files import CARD_NAME, HASHES_NAME, bundle_files, check_files, read_facts, read_hashes

SCHEME: Final = "hf:/"  # a path keeps one of the two slashes
_ADDRESS = re.compile(r"hf:/{1,2}([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_MAX_FILES = 10_000
_OPTIONAL = (SIGNATURE_NAME, CARD_NAME)
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A repository of a hub, at a branch, tag or commit; None is its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision is not None else "")

    @staticmethod
    def is_one(given: str | Path) -> bool:
        """Whether something is meant as the address of a repository."""
        return str(given).startswith(SCHEME)

    @staticmethod
    def read(given: str | Path) -> HubPlace | None:
        """Read an address; None for a path of this machine.

        Raises:
            ConfigError: it begins like an address, and is none.
        """
        if not HubPlace.is_one(given):
            return None
        found = _ADDRESS.fullmatch(str(given))
        if found is None:
            raise ConfigError(f"{given}: no address of a repository; give hf://owner/name or hf://owner/name@revision")
        return HubPlace(repository=found[1], revision=found[2])


def fetched(place: HubPlace) -> Path:
    """Fetch the generator in a repository; returns its folder in the hub's cache. Without a network that cache answers.

    Raises:
        BundleError: there is no such repository, revision or permission, it holds no generator, or other files than
            were listed; or the hub is out of reach.
        ConfigError: huggingface_hub is missing.
    """
    hub = _huggingface_hub()
    with _told(place, hub), storage_errors(Path(hub.constants.HF_HUB_CACHE)):
        try:
            listed = Path(hub.hf_hub_download(place.repository, HASHES_NAME, revision=place.revision))
        except hub.errors.LocalEntryNotFoundError:
            raise
        except hub.errors.EntryNotFoundError:
            raise BundleError(
                f"{place}: holds no generator (no {HASHES_NAME}); give a repository that difflm push wrote"
            ) from None
        folder, commit = listed.parent, listed.parent.name
        for name in _listed(read_hashes(listed), place):
            hub.hf_hub_download(place.repository, name, revision=commit)
        for name in _OPTIONAL:
            try:
                hub.hf_hub_download(place.repository, name, revision=commit)
            except hub.errors.EntryNotFoundError:
                continue
    try:
        check_files(folder)
    except BundleError as error:
        reason = str(error).replace(f"{folder}/", "").partition(";")[0]
        raise BundleError(f"{place}: is not what was pushed ({reason}); let its maker push it again") from error
    try:
        read_facts(folder)
    except BundleError as error:
        raise BundleError(str(error).replace(f"{folder}/bundle.json", str(place))) from error
    return folder


def _listed(files: Mapping[str, FileEntry], place: HubPlace) -> list[str]:
    """Return the names that a list has, none of which leads out of the repository."""
    if len(files) > _MAX_FILES:
        raise BundleError(f"{place}: lists {len(files):,} files, where a generator has dozens; do not use it")
    known = {*files, HASHES_NAME, *_OPTIONAL}
    for name in files:
        parts = name.split("/")
        within = any("/".join(parts[:count]) in known for count in range(1, len(parts)))  # one file in another
        if within or "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
            raise BundleError(
                f"{place}: {HASHES_NAME} lists {name[:80]!r}, which is no file of a generator; do not use it"
            )
    return sorted(files)


def check_repository(name: str) -> None:
    """Refuse what is no owner/name. Raises ConfigError."""
    if _REPOSITORY.fullmatch(name) is None:
        raise ConfigError(f"{name}: no name of a repository; give owner/name, such as ada/people")


def push(folder: Path, repository: str, *, public: bool, message: str) -> str:
    """Put a saved bundle into a repository, made where it is not there, in one commit; returns its page.

    A repository is made private unless it shall be `public`; one that is there is written to only if it is as asked.

    Raises:
        ConfigError: there is no token, or no permission; the repository is public and shall not be, or the reverse, or
            holds another model; or huggingface_hub is missing.
        BundleError: a file of the bundle is missing or changed, or the hub is out of reach.
    """
    check_repository(repository)
    check_files(folder)
    hub, place = _huggingface_hub(), HubPlace(repository=repository)
    if hub.get_token() is None:
        raise ConfigError(f"{place}: there is no token to push with; {_LOG_IN}")
    names = {*bundle_files(folder), HASHES_NAME, *(name for name in _OPTIONAL if (folder / name).is_file())}
    with _told(place, hub, writing=True):
        api = hub.HfApi()
        api.create_repo(repository, private=not public, exist_ok=True)
        found = api.model_info(repository)
        if not found.private and not public:
            raise ConfigError(f"{place}: is there, and everybody can read it; give --public if that is meant")
        if found.private and public:
            raise ConfigError(
                f"{place}: is there, and private; open it to everybody on its page, or leave --public out"
            )
        there = [sibling.rfilename for sibling in found.siblings or ()]
        others = sorted(filter(_of_a_bundle, there))
        if others and "bundle.json" not in there:
            raise ConfigError(f"{place}: holds {others[0]} and no bundle.json: it is none of a generator; give another")
        stale = sorted(name for name in there if _of_a_bundle(name) and name not in names)
        operations: list[Any] = [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str((folder / name).resolve()))
            for name in sorted(names)
        ]
        operations += [hub.CommitOperationDelete(path_in_repo=name) for name in stale]
        api.create_commit(repository, operations, commit_message=message)
        return f"{api.endpoint}/{repository}"


def _of_a_bundle(name: str) -> bool:
    """Whether a file of a repository is one that bundles have: those that a new one lacks are taken away."""
    return name.startswith(("decoder/", "prior/", "conditional/")) or (
        "/" not in name and name.endswith((".json", ".safetensors"))
    )


@contextmanager
def _told(place: HubPlace, hub: Any, *, writing: bool = False) -> Iterator[None]:
    """Turn what the library raises into one line with the remedy, none of it in the library's words."""
    errors = hub.errors
    transport = (errors.HfHubHTTPError.__bases__[0], OSError)  # of whichever HTTP client the library uses
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of every new try in two lines
    try:
        yield
    except ModelError as error:
        raise BundleError(f"{place}: {error}") from None
    except DiffLMError:
        raise
    except errors.GatedRepoError:
        raise BundleError(f"{place}: its owner asks who wants it; ask for access on its page, and {_LOG_IN}") from None
    except errors.RevisionNotFoundError:
        raise BundleError(f"{place}: the repository has no such revision; leave it out for the newest") from None
    except errors.RepositoryNotFoundError:
        rights = "write to" if writing else "read"
        raise BundleError(
            f"{place}: no such repository, or none that you may {rights}; check its name, and {_LOG_IN}"
        ) from None
    except errors.LocalEntryNotFoundError as error:
        answered = getattr(getattr(error.__cause__, "response", None), "status_code", None)
        if answered is not None:
            raise _refused(place, answered, writing=writing) from None
        if isinstance(error.__cause__, getattr(errors, "FileMetadataError", ())):
            raise BundleError(
                f"{place}: what answers at {hub.constants.ENDPOINT} is no hub; see to HF_ENDPOINT"
            ) from None
        raise BundleError(f"{place}: {_unreachable(hub)}, and it was not fetched before; {_ONLINE}") from None
    except errors.EntryNotFoundError:
        raise BundleError(
            f"{place}: a file that {HASHES_NAME} lists is not there; let its maker push it again"
        ) from None
    except errors.HfHubHTTPError as error:
        raise _refused(place, getattr(error.response, "status_code", None), writing=writing) from None
    except errors.OfflineModeIsEnabled:
        raise BundleError(f"{place}: {_unreachable(hub)}; {_ONLINE}") from None
    except transport as error:
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError) and error.filename:
            raise  # of a disk
        raise BundleError(f"{place}: {_unreachable(hub)} ({type(error).__name__}); {_ONLINE}") from None
    except RuntimeError:  # of a large file, whatever its cause
        raise BundleError(f"{place}: the upload broke off; push again, which goes on") from None
    except ValueError as error:
        reason = str(error) if type(error).__module__.startswith("huggingface_hub") else type(error).__name__
        raise BundleError(f"{place}: the hub did not take it ({' '.join(reason.split())[:120]})") from None
    finally:
        log.setLevel(level)


def _refused(place: HubPlace, status: int | None, *, writing: bool) -> DiffLMError:
    """Say what an answer with a status means, and what helps."""
    kind = ConfigError if writing else BundleError
    if status == _UNAUTHORIZED:
        return kind(f"{place}: the hub does not know your token; {_LOG_IN} to one that is valid")
    if status == _FORBIDDEN:
        rights = "write there" if writing else "read it"
        return kind(f"{place}: your token may not {rights}; {_LOG_IN} to that of somebody who may")
    return BundleError(f"{place}: the hub answered with status {status}; try again later")


_ONLINE = "see to the network, HF_ENDPOINT and HF_HUB_OFFLINE, or load a .difflm file"


def _unreachable(hub: Any) -> str:
    return "HF_HUB_OFFLINE keeps the hub out of reach" if hub.constants.HF_HUB_OFFLINE else "the hub is out of reach"


def _huggingface_hub() -> Any:
    """Import huggingface_hub, with its errors. Raises ConfigError."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise ConfigError(
            f"hf:// needs huggingface_hub, which cannot be imported ({error}); pip install 'difflm[hub]'"
        ) from error
    guard_hub()
    return huggingface_hub
