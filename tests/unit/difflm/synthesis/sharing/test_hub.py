"""Generators in repositories: pushed and loaded over the hub's own protocol; what goes wrong is one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants as hub_constants
import pandas as pd
import pytest
from huggingface_hub import file_download

import difflm
from difflm.api import Generator
from difflm.errors import BundleError, ConfigError, DiffLMError, ModelError
from difflm.models.loading import load_configuration
from difflm.models.pretrained import pinned
from difflm.models.sources import fetched as model_here
from difflm.synthesis.sharing.hub import HubPlace, fetched, push
from difflm.synthesis.signatures import make_key, read_public_key, sign_bundle
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import StageFolders
from difflm.testing.hub_server import Hub, hub_of_huggingface_hub, hub_server
from difflm_jobs.cli.serve import read_settings

QUICK = SamplingConfig(steps=2, precision="float32")
SECRET = "hf_secret_0123456789"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own uploads


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of this machine, and a cache and a token of this test alone; no pauses between attempts to reach it."""
    with hub_of_huggingface_hub(tmp_path, monkeypatch) as running:
        running.token = SECRET
        monkeypatch.setenv("HF_TOKEN", SECRET)
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
        yield running


@pytest.fixture(scope="module")
def saved(tiny_stages: StageFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved generator in a folder; not to be changed."""
    return Generator(tiny_stages.bundle, sampling=QUICK).save(tmp_path_factory.mktemp("saved") / "people")


def pushed(saved: Path, name: str = "ada/people", *, public: bool = False) -> str:
    return push(saved, name, public=public, message="m")


def refused(call: object, *arguments: object, **more: object) -> str:
    with pytest.raises(DiffLMError) as caught:
        call(*arguments, **more)  # type: ignore[operator]
    said = str(caught.value)
    assert "\n" not in said
    assert SECRET not in said
    assert SECRET not in repr(caught.value.__cause__)
    return said


def test_what_is_pushed_is_what_is_loaded(hub: Hub, saved: Path) -> None:
    assert pushed(saved) == f"{hub.url}/ada/people"
    repository = hub.repositories["ada/people"]
    assert repository.private
    assert hub.large  # tensors went by git LFS
    assert repository.files("main")["README.md"].startswith(b"---\nlicense: unknown")  # type: ignore[index]
    loaded = difflm.load("hf://ada/people")
    pd.testing.assert_frame_equal(loaded.sample(4, seed=1), difflm.load(saved).sample(4, seed=1))
    assert fetched(HubPlace(repository="ada/people", revision=repository.newest)) == loaded.bundle
    settings = read_settings(["hf://ada/people"], config=None, port=None, overrides=[])
    (served,) = settings.server.bundles
    assert (served.name, served.path) == ("people", str(loaded.bundle))


def test_a_push_replaces_the_bundle_and_leaves_other_files(hub: Hub, saved: Path, tmp_path: Path) -> None:
    pushed(saved)
    repository = hub.repositories["ada/people"]
    files = dict(repository.files("main") or {})
    repository.commit({**files, "decoder/old.json": b"{}", "LICENSE": b"mine"})
    pushed(saved)
    found = repository.files("main") or {}
    assert "decoder/old.json" not in found
    assert found["LICENSE"] == b"mine"
    assert difflm.load("hf://ada/people").schema.row_count == 80  # LICENSE was never fetched


def test_another_model_is_not_pushed_over(hub: Hub, saved: Path) -> None:
    """All JSON and tensors of its repository were taken out."""
    pushed(saved)
    repository = hub.repositories["ada/people"]
    repository.commit({"config.json": b"{}", "model.safetensors": b""})
    assert "holds config.json and no bundle.json: it is none of a generator" in refused(pushed, saved)
    assert set(repository.files("main") or {}) == {"config.json", "model.safetensors"}


def test_a_signature_goes_along(hub: Hub, saved: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    make_key(tmp_path / "other")
    signed = Path(shutil.copytree(saved, tmp_path / "signed"))
    sign_bundle(signed, tmp_path / "key")
    pushed(signed)
    assert difflm.load("hf://ada/people", signed_by=tmp_path / "key.pub").schema.row_count == 80
    with pytest.raises(BundleError, match="signed with another key"):
        difflm.load("hf://ada/people", signed_by=tmp_path / "other.pub")
    assert read_public_key(tmp_path / "key.pub")


def test_a_repository_is_written_to_only_where_it_is_read_by_whom_is_meant(hub: Hub, saved: Path) -> None:
    pushed(saved, public=True)
    assert not hub.repositories["ada/people"].private
    assert "everybody can read it; give --public" in refused(pushed, saved)
    pushed(saved, public=True)
    hub.repositories["ada/people"].private = True
    assert "private; open it to everybody on its page, or leave --public out" in refused(pushed, saved, public=True)


def test_tampered_repositories_are_refused(hub: Hub, saved: Path) -> None:
    pushed(saved)
    repository = hub.repositories["ada/people"]
    files = dict(repository.files("main") or {})
    repository.commit({**files, "schema.json": files["schema.json"] + b" "})
    assert "is not what was pushed (schema.json: changed" in refused(difflm.load, "hf://ada/people")
    listed = json.loads(files["hashes.json"])
    for name in ("../evil", "/evil", "a\\b", "a//b", "bundle.json/x", "hashes.json/x"):
        more = {"sha256": "0" * 64, "size": 1}
        hashes = json.dumps({**listed, "files": {**listed["files"], name: more}}).encode()
        repository.commit({**files, "hashes.json": hashes})
        assert "no file of a generator; do not use it" in refused(difflm.load, "hf://ada/people")
    missing = {name: content for name, content in files.items() if name != "prior/prior.safetensors"}
    repository.commit(missing)
    assert "a file that hashes.json lists is not there" in refused(difflm.load, "hf://ada/people")
    repository.commit({"model.bin": b"cos\nsystem\n"})
    assert "holds no generator (no hashes.json)" in refused(difflm.load, "hf://ada/people")


def test_a_generator_of_a_newer_version_is_named_by_its_address(hub: Hub, saved: Path) -> None:
    pushed(saved)
    repository = hub.repositories["ada/people"]
    files = dict(repository.files("main") or {})
    newer = json.dumps({**json.loads(files["bundle.json"]), "format_version": 9}).encode()
    listed = json.loads(files["hashes.json"])
    listed["files"]["bundle.json"] = {"sha256": hashlib.sha256(newer).hexdigest(), "size": len(newer)}
    repository.commit({**files, "bundle.json": newer, "hashes.json": json.dumps(listed).encode()})
    said = refused(difflm.load, "hf://ada/people")
    assert said == "hf://ada/people: bundle of format 9, this version reads 1; pip install -U difflm"


def test_pickles_beside_a_generator_are_never_fetched(hub: Hub, saved: Path) -> None:
    pushed(saved)
    repository = hub.repositories["ada/people"]
    repository.commit(
        {**(repository.files("main") or {}), "pytorch_model.bin": b"cos\nsystem\n", "modeling.py": b"1/0"}
    )
    folder = difflm.load("hf://ada/people").bundle
    assert not [*folder.rglob("*.bin"), *folder.rglob("*.py")]
    assert not [path for _, path in hub.asked if path.endswith((".bin", ".py"))]


def test_what_cannot_be_read_is_one_line_with_the_remedy(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such repository, or none that you may read" in refused(difflm.load, "hf://ada/none")
    pushed(saved)
    assert "has no such revision" in refused(difflm.load, "hf://ada/people@v9")
    monkeypatch.delenv("HF_TOKEN")
    said = refused(difflm.load, "hf://ada/people")
    assert "none that you may read; check its name, and log in with `hf auth login`, or set HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", hub.others[0])
    assert "none that you may read" in refused(difflm.load, "hf://ada/people")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_token")
    said = refused(difflm.load, "hf://ada/people")
    assert said.endswith(
        "the hub does not know your token; log in with `hf auth login`, or set HF_TOKEN to one that is valid"
    )
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.repositories["ada/people"].gated = True
    assert "ask for access on its page" in refused(difflm.load, "hf://ada/people")
    for status, told in (
        (403, "your token may not read it; log in"),
        (503, "the hub answered with status 503; try again"),
    ):
        hub.failing = status
        assert told in refused(difflm.load, "hf://ada/people")


def test_what_cannot_be_written_is_one_line_with_the_remedy(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(pushed, saved, "bob/people")
    assert "hf://bob/people: " in said
    assert "log in with" in said
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token to push with; log in with" in refused(pushed, saved)
    assert "give owner/name" in refused(pushed, saved, "people")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_token")
    said = refused(pushed, saved)
    assert "hf_wrong_token" not in said
    assert "the hub does not know your token; log in with" in said
    monkeypatch.setenv("HF_TOKEN", hub.others[0])
    assert "your token may not write there; log in with" in refused(pushed, saved)


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have a server answer in the hub's place; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as page:
        Thread(target=page.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{page.server_address[1]}"
        monkeypatch.setattr(hub_constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield url
        page.shutdown()


def test_an_endpoint_that_is_no_hub_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with answering(Page, monkeypatch) as url:
        said = refused(difflm.load, "hf://ada/people")
    assert said == f"hf://ada/people: what answers at {url} is no hub; see to HF_ENDPOINT"


def test_a_model_is_fetched_here_for_libraries_that_would_do_it_elsewhere(hub: Hub, saved: Path) -> None:
    """vLLM asked the hub itself, in processes where nothing checks what a hub calls a file."""
    pushed(saved)  # which makes the repository
    repository = hub.repositories["ada/people"]
    old = repository.commit({"config.json": b"{}", "model.safetensors": b"x", "modeling.py": b"raise SystemExit"})
    repository.commit({"config.json": b"[]"})
    folder = model_here("ada/people", revision=old)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "config.json").read_bytes() == b"{}"
    assert model_here(saved, revision=None) == saved
    assert hasattr(file_download, "difflm_guard")
    assert "cannot be fetched" in refused(model_here, "ada/none", revision=None)


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag"])
@pytest.mark.parametrize("name", ["{up}evil", "{folder}/evil", "..", "a/b", ".hidden", ""])
def test_a_hub_puts_no_file_outside_of_its_cache(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, header: str, name: str
) -> None:
    """What it calls a file was joined to the path of the cache as it came: whoever answers for a hub could write, with
    the permissions of who asks, anything anywhere that Python or a shell looks for.
    """
    given = name.format(up="../" * 40 + str(tmp_path)[1:] + "/", folder=tmp_path)

    class Page(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header(header, f'"{given}"')
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"evil")

        def log_message(self, format: str, *args: object) -> None: ...

    with answering(Page, monkeypatch):
        said = refused(difflm.load, "hf://ada/people")
        with pytest.raises((ModelError, OSError, ValueError)):
            load_configuration("ada/people")
        with pytest.raises(ModelError):
            pinned("ada/people", None)
    assert "which is no name of one; do not use it" in said
    assert not (tmp_path / "evil").exists()


def test_without_a_network_the_cache_answers(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pushed(saved)
    first = difflm.load("hf://ada/people").bundle
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert difflm.load("hf://ada/people").bundle == first
    assert "HF_HUB_OFFLINE keeps the hub out of reach" in refused(difflm.load, "hf://ada/other")
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    closed = "http://127.0.0.1:9"
    monkeypatch.setattr(hub_constants, "ENDPOINT", closed)
    monkeypatch.setattr(
        hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", closed + "/{repo_id}/resolve/{revision}/{filename}"
    )
    huggingface_hub.close_session()
    with caplog.at_level("WARNING"):
        assert "the hub is out of reach" in refused(difflm.load, "hf://ada/other")
    assert caplog.messages == []
    assert "the hub is out of reach" in refused(pushed, saved)


@pytest.mark.parametrize("given", ["hf://people", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@x y"])
def test_addresses_that_are_none(given: str) -> None:
    with pytest.raises(ConfigError, match="give hf://owner/name"):
        HubPlace.read(given)
    assert HubPlace.read("runs/people") is None
    assert HubPlace.read(Path("hf://ada/people@refs/pr/1")) == HubPlace(repository="ada/people", revision="refs/pr/1")


def test_the_command_line_takes_the_hub_of_the_environment(saved: Path, tmp_path: Path) -> None:
    with hub_server() as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        script = (
            "import sys\nfrom difflm_jobs.cli.main import app\n"
            "for words in (['push', sys.argv[1], 'ada/people'], ['show', 'hf://ada/people']):\n"
            "    app(words, standalone_mode=False)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(saved)],
            env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"{hub.url}/ada/people: load it with difflm.load('hf://ada/people')" in done.stdout
        assert "hf://ada/people: learned from 80 rows" in done.stdout
        assert hub.token not in done.stdout + done.stderr
