"""`difflm serve` before anything is served: names, settings, refusals, and the file for clusters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from difflm.errors import BundleError, ConfigError
from difflm.serving.config import HttpConfig, ServeConfig
from difflm.testing.servers import write_certificate
from difflm_jobs.cli.serve import check_certificate, read_settings, with_room_for_jobs, within_room, write_deployable

# Ray Serve's own models declare their fields in a way that pydantic is about to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """As much of a bundle as is looked at before it is loaded."""
    folder = tmp_path / "adult"
    (folder / "decoder").mkdir(parents=True)
    (folder / "bundle.json").write_text('{"format_version": 1}')
    (folder / "decoder" / "decoder.json").write_text('{"config": {"kind": "compact"}}')
    return folder


def test_names_paths_and_settings_come_together(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "server.yaml"
    file.write_text("server: {limits: {rows_per_request: 50}, keys_file: keys.yaml}\ncluster: {num_cpus: 3}\n")
    settings = read_settings(
        ["adult", "again=adult"], config=file, port=9000, overrides=["server.replicas.max_replicas=3"]
    )
    server = settings.server
    assert [(served.name, served.path) for served in server.bundles] == [("adult", str(bundle)), ("again", str(bundle))]
    assert (server.http.port, server.limits.rows_per_request, server.replicas.max_replicas) == (9000, 50, 3)
    assert server.keys_file == str(tmp_path / "keys.yaml")
    assert settings.cluster.num_cpus == 3


@pytest.mark.parametrize(
    ("bundles", "overrides", "message"),
    [
        ([], [], "no bundle given"),
        (["a b=adult"], [], "bundles"),
        (["adult", "adult"], [], "not unique"),
        (["adult"], ["server.http.host=0.0.0.0"], "difflm serve-key"),
        (["adult"], ["server=3"], "server: expected keys and values, found 3"),
        (["adult"], ["server.limit.rows=3"], "did you mean 'server.limits'"),
        (["adult"], ["server.sampling.engine={kind: vllm}"], "only sampling.engine.kind builtin"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, bundles: list[str], overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(bundle.parent)
    with pytest.raises(ConfigError, match=message):
        read_settings(bundles, config=None, port=None, overrides=overrides)


def test_a_path_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        read_settings([f"a={tmp_path}"], config=None, port=None, overrides=[])


def test_the_file_for_clusters_is_one_that_serve_takes(bundle: Path, tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    settings = read_settings([f"a={bundle}"], config=None, port=8123, overrides=["server.sampling.steps=7"])
    write_deployable(settings, tmp_path / "serve.yaml")
    written = yaml.safe_load((tmp_path / "serve.yaml").read_text())
    assert ServeDeploySchema.model_validate(written).http_options.port == 8123
    assert ServeConfig.model_validate(written["applications"][0]["args"]) == settings.server
    write_deployable(settings, tmp_path / "serve.yaml")
    (tmp_path / "server.yaml").write_text("server: {}")
    with pytest.raises(ConfigError, match=r"server\.yaml: is there already, and none that --build wrote"):
        write_deployable(settings, tmp_path / "server.yaml")


def test_a_certificate_that_nobody_can_be_answered_with_is_refused(bundle: Path, tmp_path: Path) -> None:
    """The server said that it was serving, and no connection was ever answered."""
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    certificate, key = write_certificate(tmp_path / "own")
    _, other = write_certificate(tmp_path / "other")
    locked = tmp_path / "locked.pem"
    secret = serialization.BestAvailableEncryption(b"secret")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    check_certificate(HttpConfig())
    check_certificate(HttpConfig(certificate_file=str(certificate), key_file=str(key)))
    for wrong in (other, locked, certificate, tmp_path, tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match=r"cannot be used .*; give a certificate and its key"):
            check_certificate(HttpConfig(certificate_file=str(certificate), key_file=str(wrong)))
    overrides = ["server.http.certificate_file=c.pem", "server.http.key_file=k.pem"]
    assert read_settings([f"a={bundle}"], config=None, port=None, overrides=overrides).server.http.key_file == str(
        Path("k.pem").absolute()
    )


def test_the_example_of_infra_is_one_that_serve_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    example = yaml.safe_load((REPOSITORY / "infra" / "ray" / "serve.yaml").read_text())
    ServeDeploySchema.model_validate(example)
    args = ServeConfig.model_validate(example["applications"][0]["args"])
    assert args.http.port == example["http_options"]["port"]
    assert args.keys_file is not None


@pytest.mark.parametrize(("cpus", "most", "replicas"), [(1, 1, 1), (1, 4, 1), (2, 1, 1), (2, 4, 2)])
def test_replicas_leave_a_job_its_processor(bundle: Path, cpus: int, most: int, replicas: int) -> None:
    """With one processor, or as many replicas as processors, jobs were called running and waited for ever."""
    changes = [f"cluster.num_cpus={cpus}", f"server.replicas.max_replicas={most}"]
    plain = read_settings([str(bundle)], config=None, port=None, overrides=changes)
    assert with_room_for_jobs(plain) == plain.cluster
    assert within_room(plain.server, cpus) == plain.server
    jobs = read_settings([str(bundle)], config=None, port=None, overrides=[*changes, "server.jobs_folder=jobs"])
    there = with_room_for_jobs(jobs).num_cpus
    assert there == cpus + 1
    server = within_room(jobs.server, there)
    assert server.replicas.max_replicas == replicas
    assert server.replicas.max_replicas * server.replicas.cpus <= there - 1
