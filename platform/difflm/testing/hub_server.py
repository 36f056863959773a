"""A Hugging Face hub for tests: a server in this process that speaks what huggingface_hub asks of one, over HTTP.

It makes repositories, takes commits with small files and large ones (git LFS), and hands files out by revision, to whom
has the token that a private repository needs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from difflm.testing.judge_server import Server

LARGE = ".safetensors"
"""The ending of the files that this hub wants by git LFS."""


@dataclass(slots=True)
class Repository:
    """A repository: its files by commit, the newest last; `gated` ones are refused to everybody."""

    private: bool
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def newest(self) -> str:
        """The newest commit."""
        return [*self.commits][-1]

    def files(self, revision: str) -> dict[str, bytes] | None:
        """Return the files of a revision; None where there is no such one."""
        return self.commits.get(self.newest if revision == "main" else revision)

    def commit(self, files: dict[str, bytes]) -> str:
        """Make a commit of these files, and no others."""
        commit = hashlib.sha1(f"{len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[commit] = files
        return commit


@dataclass(slots=True)
class Hub:
    """What a hub holds: repositories by name, large files by hash; who has `token` may write below `owner`, and who has
    one of `others` may read what is public.
    """

    url: str = ""
    token: str = "hf_writer"
    others: tuple[str, ...] = ("hf_somebody",)
    owner: str = "ada"
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    failing: int | None = None
    """A status that every request gets."""


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a hub inside the block."""
    hub = Hub()

    class Handler(_Handler):
        def __init__(self, *args: Any) -> None:
            self.hub = hub
            super().__init__(*args)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub_of_huggingface_hub(cache: Path, patch: Any) -> Iterator[Hub]:
    """Run a hub that huggingface_hub of this process takes for its own, with a cache and a token of the block alone;
    `patch` is pytest's MonkeyPatch.
    """
    import huggingface_hub
    import huggingface_hub.constants as constants

    with hub_server() as running:
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "ENDPOINT", running.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", running.token)
        huggingface_hub.close_session()
        yield running
        huggingface_hub.close_session()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_PUT(self) -> None:
        self._answer(self._body())

    def do_POST(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        return (
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "Content-Length" in self.headers
            else (b"".join(self._chunks()))
        )

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().strip() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        if self.hub.failing is not None:
            self._json(self.hub.failing, {"error": "made to fail"})
            return
        known = {f"Bearer {token}" for token in (self.hub.token, *self.hub.others)}
        if self.headers.get("Authorization", "") not in {"", *known}:
            self._json(401, {"error": _UNKNOWN_TOKEN}, {"X-Error-Message": _UNKNOWN_TOKEN})
            return
        for pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found is not None:
                answer(self, body, *found.groups())
                return
        self._json(404, {"error": "there is nothing here"}, {"X-Error-Code": "EntryNotFound"})

    @property
    def writes(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def repository(self, name: str) -> Repository | None:
        """Return a repository that may be seen; answer with the hub's own words where there is none."""
        found = self.hub.repositories.get(name)
        if found is not None and found.gated:
            self._json(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
            return None
        if found is None or (found.private and not self.writes):
            self._json(401 if not self.writes else 404, {"error": "no such one"}, {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or self.hub.owner}/{asked['name']}"
        if not self.writes or not name.startswith(f"{self.hub.owner}/"):
            self._json(403, {"error": f"may not create {name}"})
        elif name in self.hub.repositories:
            self._json(409, {"error": "is there", "url": f"{self.hub.url}/{name}"})
        else:
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.hub.repositories[name] = Repository(private=private)
            self.hub.repositories[name].commit({".gitattributes": b""})
            self._json(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def about(self, _: bytes, name: str) -> None:
        if (found := self.repository(name)) is not None:
            files = [{"rfilename": path} for path in found.files("main") or ()]
            facts = {"_id": "1", "id": name, "modelId": name, "sha": found.newest, "private": found.private}
            self._json(200, {**facts, "siblings": files, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, _: bytes, name: str, revision: str) -> None:
        if (found := self.repository(name)) is not None:
            files = (found.files(revision) or {}).items()
            self._json(200, [{"type": "file", "path": path, "size": len(of), "oid": "0" * 40} for path, of in files])

    def card(self, body: bytes) -> None:
        import yaml

        head = json.loads(body)["content"].removeprefix("---\n").partition("\n---")[0]
        told = yaml.safe_load(head)
        right = isinstance(told, dict) and isinstance(told.get("license"), str)
        self._json(200 if right else 400, {"errors": [] if right else [{"message": "no licence"}], "warnings": []})

    def preupload(self, body: bytes, name: str, _: str) -> None:
        if self.repository(name) is not None:
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                for file in json.loads(body)["files"]
            ]
            self._json(200, {"files": [{**file, "shouldIgnore": False} for file in files]})

    def large_batch(self, body: bytes, name: str) -> None:
        if self.repository(name) is not None:
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
                if one["oid"] not in self.hub.large
            ]
            self._json(200, {"transfer": "basic", "objects": objects})

    def large_file(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self._json(200, {})

    def commit(self, body: bytes, name: str, _: str) -> None:
        found = self.repository(name)
        if found is None:
            return
        if not self.writes:
            self._json(403, {"error": "may not write"})
            return
        files = dict(found.files("main") or {})
        for line in body.splitlines():
            told = json.loads(line)
            key, value = told["key"], told["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        oid = found.commit(files)
        self._json(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def resolve(self, _: bytes, name: str, revision: str, path: str) -> None:
        found = self.repository(name)
        if found is None:
            return
        files = found.files(revision)
        if files is None:
            self._json(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
            return
        commit = {"X-Repo-Commit": found.newest if revision == "main" else revision}
        if path not in files:
            self._json(404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound", **commit})
            return
        content = files[path]
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"Content-Type": "application/octet-stream", "ETag": f'"{etag}"', **commit})

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_UNKNOWN_TOKEN = "Invalid credentials in Authorization header"  # in the hub's own words, which its library looks for
_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: tuple[tuple[str, Any], ...] = (
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.card),
    (rf"/api/models/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    (rf"/api/models/{_NAME}/commit/([^/]+)", _Handler.commit),
    (rf"/api/models/{_NAME}", _Handler.about),
    (rf"/api/models/{_NAME}/tree/([^/]+)", _Handler.tree),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.large_batch),
    (r"/large/([0-9a-f]{64})", _Handler.large_file),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
)
