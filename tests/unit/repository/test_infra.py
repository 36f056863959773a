"""What infra/ says of containers and proxies agrees with itself and with the code: no root, one folder, limits."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflm.serving.config import LimitsConfig

INFRA = Path(__file__).resolve().parents[3] / "infra"
USER_ID = "1000"
STATE = "/state"


def instructions() -> list[tuple[str, str]]:
    """Name and argument of every instruction of the Dockerfile, in their order."""
    text = (INFRA / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, argument.strip()) for name, _, argument in (line.partition(" ") for line in lines)]


def containers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every pod of the manifest, with each of its containers."""
    job = yaml.safe_load((INFRA / "kuberay" / "rayjob.yaml").read_text(encoding="utf-8"))["spec"]
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups] + [job["submitterPodTemplate"]["spec"]]
    return [(pod, container) for pod in pods for container in pod["containers"]]


def nginx(directive: str) -> str:
    found = re.findall(rf"^\s*{directive}\s+([^;]+);", (INFRA / "proxy" / "nginx.conf").read_text(), re.MULTILINE)
    assert len(found) == 1, directive
    return str(found[0])


def test_the_image_runs_without_root_and_writes_to_one_folder() -> None:
    found = instructions()
    assert [argument for name, argument in found if name == "USER"] == [f"{USER_ID}:{USER_ID}"]
    variables = dict(part.split("=", 1) for name, value in found if name == "ENV" for part in shlex.split(value))
    assert (variables["HOME"], variables["TMPDIR"]) == (STATE, STATE)
    assert [argument for name, argument in found if name in ("WORKDIR", "VOLUME")][-2:] == [STATE, STATE]
    (command,) = [argument for name, argument in found if name == "RUN" and "useradd" in argument]
    assert f"--uid {USER_ID} " in command
    assert f"install --directory --owner={USER_ID} --group={USER_ID} {STATE}" in command
    names = [name for name, _ in found]
    assert names.index("USER") > max(position for position, name in enumerate(names) if name in ("RUN", "COPY"))


@pytest.mark.parametrize(("pod", "container"), containers())
def test_every_container_of_the_cluster_is_confined(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) == str(pod["securityContext"]["fsGroup"]) == USER_ID
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    (volume,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == STATE]
    assert {"name": volume, "emptyDir": {}} in pod["volumes"]


def test_the_proxy_leads_to_its_own_name_alone() -> None:
    assert nginx("return").startswith("301 https://$server_name$")


def test_the_proxy_is_no_tighter_than_the_endpoint_and_ends_what_the_endpoint_cannot() -> None:
    limits = LimitsConfig()
    assert nginx("client_max_body_size") == f"{limits.body_bytes // 2**20}m"
    assert nginx("proxy_read_timeout") == f"{limits.deadline_s + limits.upload_s + 10:g}s"
    assert (nginx("proxy_buffering"), nginx("proxy_request_buffering")) == ("off", "off")
    for directive in ("client_header_timeout", "client_body_timeout"):
        assert 1 <= int(nginx(directive).removesuffix("s")) <= limits.upload_s
