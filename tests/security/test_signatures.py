"""Signatures with real keys: what was signed is loaded, and nothing else where a signature is demanded."""

from __future__ import annotations

import base64
import errno
import json
import shutil
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import difflm
from difflm.artifacts.hashing import hash_folder
from difflm.artifacts.manifest import SIGNATURE_NAME
from difflm.artifacts.store import ArtifactStore
from difflm.config import validate
from difflm.errors import BundleError, ConfigError, StorageError
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import HASHES_NAME, write_hashes
from difflm.synthesis.signatures import check_signature, make_key, read_public_key, sign_bundle
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import StageFolders
from difflm_jobs.cli import main as cli
from difflm_jobs.cli.serve import read_settings

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys mine and other, each with its .pub."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        make_key(folder / name)
    return folder


@pytest.fixture
def signed(bundle: Path, keys: Path) -> Path:
    """A bundle signed with mine."""
    sign_bundle(bundle, keys / "mine")
    return bundle


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("verify", ...)` gives the exit code and what was said."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["difflm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), said.out + said.err

    return call


def test_a_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    public = make_key(tmp_path / "new" / "key")
    assert public == tmp_path / "new" / "key.pub"
    assert stat.S_IMODE((tmp_path / "new" / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert b"PRIVATE" not in public.read_bytes()
    for there in ("key", "key.pub"):
        (tmp_path / there).touch()
        with pytest.raises(ConfigError, match="is there already"):
            make_key(tmp_path / "key")
        (tmp_path / there).unlink()
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is there already"):
        make_key(tmp_path / "dangling")


def test_a_key_for_which_there_is_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        make_key(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert make_key(tmp_path / "key").is_file()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_signed_bundle_is_loaded_by_those_who_demand_it_and_by_others(signed: Path, keys: Path) -> None:
    mine = read_public_key(keys / "mine.pub")
    load_bundle(signed, signed_by=mine)
    load_bundle(signed)
    sign_bundle(signed, keys / "other")  # another signature takes its place
    load_bundle(signed, signed_by=read_public_key(keys / "other.pub"))
    with pytest.raises(BundleError, match=r"signature\.json: signed with another key: MCow.*, wanted MCow"):
        load_bundle(signed, signed_by=mine)


def test_without_a_signature_there_is_nothing(bundle: Path, keys: Path) -> None:
    with pytest.raises(BundleError, match=r"is not signed \(no signature\.json\)"):
        load_bundle(bundle, signed_by=read_public_key(keys / "mine.pub"))


@pytest.mark.parametrize("name", ["schema.json", "prior/prior.safetensors", "decoder/model/model.safetensors"])
def test_a_changed_file_is_named_also_where_the_hashes_were_made_again(signed: Path, keys: Path, name: str) -> None:
    mine = read_public_key(keys / "mine.pub")
    (signed / name).write_bytes((signed / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match=rf"{name}: changed since the bundle was assembled"):
        load_bundle(signed, signed_by=mine)
    write_hashes(signed)
    with pytest.raises(BundleError, match=r"hashes\.json: is not what was signed"):
        load_bundle(signed, signed_by=mine)


def test_a_signature_of_another_bundle_or_of_another_thing_is_none(
    signed: Path, stages: StageFolders, keys: Path, tmp_path: Path
) -> None:
    mine = read_public_key(keys / "mine.pub")
    other = Path(shutil.copytree(stages.bundle, tmp_path / "other"))
    (other / "bundle.json").write_text((other / "bundle.json").read_text() + "\n")
    write_hashes(other)
    shutil.copyfile(signed / SIGNATURE_NAME, other / SIGNATURE_NAME)
    with pytest.raises(BundleError, match=r"hashes\.json: is not what was signed"):
        load_bundle(other, signed_by=mine)
    key = serialization.load_pem_private_key((keys / "mine").read_bytes(), password=None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    bare = base64.b64encode(key.sign((signed / HASHES_NAME).read_bytes())).decode()  # of a file, not of a bundle
    facts = json.loads((signed / SIGNATURE_NAME).read_text())
    (signed / SIGNATURE_NAME).write_text(json.dumps({**facts, "signature": bare}))
    with pytest.raises(BundleError, match=r"hashes\.json: is not what was signed"):
        load_bundle(signed, signed_by=mine)


def test_the_key_that_a_signature_names_is_not_believed(signed: Path, keys: Path) -> None:
    facts = json.loads((signed / SIGNATURE_NAME).read_text())
    other = read_public_key(keys / "other.pub")
    (signed / SIGNATURE_NAME).write_text(json.dumps({**facts, "signer": other}))
    with pytest.raises(BundleError, match="is not what was signed"):
        load_bundle(signed, signed_by=other)


def test_a_link_to_a_folder_brings_nothing_into_a_bundle(
    signed: Path, stages: StageFolders, keys: Path, tmp_path: Path
) -> None:
    """A bundle without a conditional prior took the one that a link led to: its files were never listed."""
    shutil.rmtree(signed / "conditional")
    write_hashes(signed)
    sign_bundle(signed, keys / "mine")
    load_bundle(signed, signed_by=read_public_key(keys / "mine.pub"))
    (signed / "conditional").symlink_to(stages.bundle / "conditional")
    with pytest.raises(BundleError, match="conditional: is a link that leads out of the bundle"):
        load_bundle(signed, signed_by=read_public_key(keys / "mine.pub"))


def test_a_spoilt_bundle_is_not_signed(bundle: Path, keys: Path) -> None:
    (bundle / "schema.json").write_text("{}")
    with pytest.raises(BundleError, match=r"schema\.json: changed"):
        sign_bundle(bundle, keys / "mine")
    (bundle / HASHES_NAME).unlink()
    with pytest.raises(BundleError, match=r"hashes\.json: cannot be read"):
        sign_bundle(bundle, keys / "mine")
    assert not (bundle / SIGNATURE_NAME).exists()


def test_signing_changes_neither_the_name_of_a_bundle_nor_its_artifact(
    stages: StageFolders, keys: Path, tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path)
    with store.create("bundle", "b" * 64, version=1, config={}, inputs={}) as draft:
        shutil.copytree(stages.bundle, draft.path, dirs_exist_ok=True)
    (artifact,) = store.finished()
    before = hash_folder(artifact.path)
    sign_bundle(artifact.path, keys / "mine")
    assert hash_folder(artifact.path) == before
    assert store.verify(artifact) == []


def test_files_that_are_no_keys_are_named(signed: Path, keys: Path, tmp_path: Path) -> None:
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(*pem, serialization.BestAvailableEncryption(b"secret"))
    texts = {
        "nonsense": b"\0" * 100_000,
        "rsa": rsa_key.private_bytes(*pem, serialization.NoEncryption()),
        "rsa.pub": rsa_key.public_key().public_bytes(pem[0], serialization.PublicFormat.SubjectPublicKeyInfo),
        "locked": locked,
    }
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    for name, said in {
        "nonsense": "no private key can be read",
        "rsa": "none of Ed25519",
        "locked": "has a passphrase",
        "missing": "cannot be read",
        ".": "cannot be read",
    }.items():
        with pytest.raises(ConfigError, match=said):
            sign_bundle(signed, tmp_path / name)
    for name, said in {
        "nonsense": "no public key can be read",
        "rsa.pub": "none of Ed25519",
        "missing": "cannot be read",
    }.items():
        with pytest.raises(ConfigError, match=said):
            read_public_key(tmp_path / name)
    with pytest.raises(ConfigError, match=r"is a private key, which nobody but its owner needs; give .*mine\.pub"):
        read_public_key(keys / "mine")


def test_a_key_in_a_configuration_is_looked_at(keys: Path) -> None:
    for value in ("mine.pub", "", "MCowBQYDK2VwAyEA", read_public_key(keys / "mine.pub") + "\n", 3):
        with pytest.raises(ConfigError, match=r"signed_by"):
            validate(SamplingConfig, {"signed_by": value}, "text")
    assert "signed_by" not in SamplingConfig().model_dump()


def test_without_the_package_it_says_how_to_get_it(signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = read_public_key(keys / "mine.pub")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    for call in (
        lambda: load_bundle(signed, signed_by=mine),
        lambda: sign_bundle(signed, keys / "mine"),
        lambda: make_key(keys / "new"),
        lambda: read_public_key(keys / "mine.pub"),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'difflm\[sign\]'"):
            call()
    load_bundle(signed)


def test_from_python(signed: Path, keys: Path, tmp_path: Path) -> None:
    generator = difflm.load(signed, signed_by=keys / "mine.pub")
    with warnings.catch_warnings(action="ignore"):  # not every row has a valid draw
        assert len(generator.sample(5)) > 0
    with pytest.raises(BundleError, match="another key"):
        difflm.load(signed, signed_by=str(keys / "other.pub"))
    saved = generator.save(tmp_path / "saved")
    with pytest.raises(BundleError, match="is not signed"):
        difflm.load(saved, signed_by=keys / "mine.pub")
    sign_bundle(saved, keys / "other")
    assert difflm.load(saved, signed_by=keys / "other.pub").bundle == saved
    changed = signed / "autoencoder.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"autoencoder\.safetensors: changed"):
        generator_of = difflm.load(signed, signed_by=keys / "mine.pub")
        generator_of.sample(1)


def test_the_command_line(stages: StageFolders, bundle: Path, tmp_path: Path, command: Command) -> None:
    key, rows = tmp_path / "key", tmp_path / "rows.csv"
    assert command("sign", bundle, "--make-key", key)[0] == 2
    assert command("sign", bundle)[0] == 2
    assert command("sign", "--key", key)[0] == 2
    code, said = command("sign", "--make-key", key)
    assert (code, f"{key}.pub: the public one" in said) == (0, True)
    assert command("verify", bundle) == (0, f"{bundle}: all files as written\n")
    for call in (
        ("verify", bundle, "--signer", f"{key}.pub"),
        ("synthesize", bundle, "--rows", 2, "--out", rows, "--signed-by", f"{key}.pub"),
        ("serve", bundle, "--signed-by", f"{key}.pub", "--build", tmp_path / "serve.yaml"),
        ("impute", bundle, tmp_path / "gaps.csv", "--out", rows, "--signed-by", f"{key}.pub"),
    ):
        code, said = command(*call)
        assert (code, "is not signed (no signature.json)" in said) == (2, True), call
    assert command("sign", bundle, "--key", key)[0] == 0
    code, said = command("verify", bundle, "--signer", f"{key}.pub")
    assert (code, "all files as written, signed with MCow" in said) == (0, True)
    assert command("serve", bundle, "--signed-by", f"{key}.pub", "--build", tmp_path / "serve.yaml")[0] == 0
    assert "signed_by: MCow" in (tmp_path / "serve.yaml").read_text()
    (bundle / "prior" / "extra.json").touch()
    code, said = command("verify", bundle, "--signer", f"{key}.pub")
    assert (code, "does not belong to the bundle" in said) == (2, True)


def test_a_server_demands_it_of_every_version(signed: Path, keys: Path) -> None:
    mine = read_public_key(keys / "mine.pub")
    found = read_settings([str(signed)], config=None, port=None, overrides=[f"server.sampling.signed_by={mine}"])
    assert found.server.sampling.signed_by == mine
    assert f'"signed_by":"{mine}"' in found.server.sampling.model_dump_json(), "jobs and replicas are told so"


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=90) | st.binary(max_size=9)


@given(value=st.data(), raw=st.binary(max_size=60))
@settings(max_examples=300, suppress_health_check=[*HealthCheck], deadline=None)
def test_made_up_signatures(stages: StageFolders, keys: Path, value: Any, raw: bytes, tmp_path_factory: Any) -> None:
    folder = _copy(stages, tmp_path_factory)
    names = ["format_version", "algorithm", "signer", "signature", "x"]
    mine = read_public_key(keys / "mine.pub")
    good = {"format_version": 1, "algorithm": "ed25519", "signer": mine, "signature": "A" * 86 + "=="}
    key = value.draw(st.sampled_from(names))
    other = value.draw(leaves.filter(lambda found: not isinstance(found, bytes)))
    for content in (raw, json.dumps({**good, key: other}).encode(), json.dumps(other).encode(), b"[" * 9000):
        (folder / SIGNATURE_NAME).write_bytes(content)
        with pytest.raises(BundleError) as caught:
            check_signature(folder, mine)
        assert "\n" not in str(caught.value)


_COPIES: dict[str, Path] = {}


def _copy(stages: StageFolders, factory: Any) -> Path:
    if "one" not in _COPIES:
        _COPIES["one"] = Path(shutil.copytree(stages.bundle, factory.mktemp("fuzz") / "bundle"))
    return _COPIES["one"]
