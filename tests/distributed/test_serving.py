"""A server on Ray Serve with HTTPS: the offline job's rows, a replica killed under load, overload, new versions and
the file for clusters.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from difflm.client import AsyncClient, BusyError, Client, RequestError, ServerError
from difflm.records.schema import Record
from difflm.runtime import serving
from difflm.runtime.cluster import ClusterContext
from difflm.serving.config import HttpConfig, LimitsConfig, ReplicasConfig, ServeConfig, ServedConfig
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import untrained_stages
from difflm.testing.clusters import free_port
from difflm.testing.processes import kill_pid, wait_until
from difflm.testing.servers import write_certificate
from difflm.testing.tables import small_table
from difflm_jobs.cli.serve import write_deployable
from difflm_jobs.config import ServeSettings

pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("cluster")]

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=16)
ROWS = 300


@dataclass(frozen=True)
class Server:
    """A server under test, and the link that its bundle is found by."""

    url: str
    config: ServeConfig
    link: Path
    bundle: Path
    certificate: Path

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def client(self) -> Client:
        return Client(self.url, authority_file=self.certificate)

    def offline(self, rows: int, *, seed: int) -> list[Record]:
        """What the offline job draws."""
        bundle = load_bundle(self.bundle, solver=SAMPLING.solver_settings())
        drawn, _ = Synthesizer(bundle, SAMPLING).draw_valid(range(rows), seed=seed)
        return list(bundle.codec.table_of(record for _, record in drawn).to_pylist())


@pytest.fixture(scope="module")
def server(cluster: ClusterContext, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    bundle = untrained_stages(folder / "stages", small_table(60)).bundle
    link = folder / "current"
    link.symlink_to(bundle)
    certificate, key = write_certificate(folder)
    config = ServeConfig(
        bundles=[ServedConfig(name="small", path=str(link))],
        sampling=SAMPLING,
        http=HttpConfig(port=free_port(), certificate_file=str(certificate), key_file=str(key)),
        limits=LimitsConfig(rows_per_request=1_000, outstanding_rows=1_200, outstanding_requests=40),
        replicas=ReplicasConfig(),
        refresh_s=0.2,
    )
    serving.start(config)
    url = f"https://127.0.0.1:{config.http.port}"
    found = Server(url=url, config=config, link=link, bundle=bundle, certificate=certificate)
    wait_until(lambda: _ready(found), what="the bundle", timeout_s=120)
    yield found
    serving.stop()


def _ready(server: Server) -> bool:
    return httpx2.get(f"{server.url}/readyz", timeout=10, verify=server.trusted).status_code == 200


def test_a_certificate_that_nobody_knows_is_not_believed(server: Server) -> None:
    with Client(server.url, attempts=1) as client, pytest.raises(BusyError, match="CERTIFICATE_VERIFY_FAILED"):
        client.bundles()
    with Client(server.url.replace("https", "http"), attempts=1) as client, pytest.raises(ServerError):
        client.bundles()


def test_rows_are_those_of_the_offline_job(server: Server) -> None:
    with server.client() as client:
        expected = server.offline(30, seed=3)
        assert client.sample(30, seed=3) == expected
        assert list(client.stream(30, seed=3)) == expected
        with pytest.raises(Exception, match="did you mean 'age'"):
            client.sample(1, where="agee > 3")


def test_a_killed_replica_costs_no_request_a_row(server: Server) -> None:
    from ray import serve

    expected = server.offline(ROWS, seed=5)

    async def under_way() -> list[list[Any]]:
        async with AsyncClient(server.url, attempts=10, authority_file=server.certificate) as client:

            async def streamed(first: asyncio.Event) -> list[Any]:
                rows = []
                async for row in client.stream(ROWS, seed=5):
                    rows.append(row)
                    first.set()
                return rows

            begun = [asyncio.Event() for _ in range(3)]
            tasks = [asyncio.create_task(streamed(first)) for first in begun]
            await asyncio.gather(*(first.wait() for first in begun))
            handle = serve.get_deployment_handle("sampler", serving.APPLICATION)
            pid = await asyncio.to_thread(lambda: handle.process.remote().result(timeout_s=60))
            await asyncio.to_thread(kill_pid, pid)
            return await asyncio.gather(*tasks)

    assert asyncio.run(under_way()) == [expected] * 3


def test_too_much_at_once_is_answered_with_429_and_the_rest_is_served(server: Server) -> None:
    async def flood() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=120, verify=server.trusted) as client:
            bodies = [{"n": 300 if number % 2 else 1, "seed": number} for number in range(60)]
            return await asyncio.gather(*(client.post("/v1/samples", json=body) for body in bodies))

    answers = asyncio.run(flood())
    assert {answer.status_code for answer in answers} == {200, 429}
    for number, answer in enumerate(answers):
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
        else:
            found = answer.json()
            assert len(found["rows"]) + len(found["given_up"]) == (300 if number % 2 else 1)
    with server.client() as client:
        assert client.sample(3, seed=1) == server.offline(3, seed=1)


def test_the_file_for_clusters_is_taken_by_a_cluster_that_serves(server: Server, tmp_path: Path) -> None:
    """What `serve deploy` and `serve run` do with it, here with another limit: requests wait for the new processes."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    limits = server.config.limits.model_copy(update={"rows_per_request": 7})
    changed = server.config.model_copy(update={"limits": limits})
    write_deployable(ServeSettings(server=changed), tmp_path / "serve.yaml")
    deployed = ServeDeploySchema.model_validate(yaml.safe_load((tmp_path / "serve.yaml").read_text()))
    _get_global_client().deploy_apps(deployed)

    def refused() -> bool:
        with server.client() as client:
            try:
                client.sample(8)
            except RequestError as error:
                return "7 are the most" in str(error)
        return False

    wait_until(refused, what="the new limit", timeout_s=120)
    with server.client() as client:
        assert client.sample(7, seed=1) == server.offline(7, seed=1)


def test_another_version_is_served_without_dropping_a_request(server: Server, tmp_path: Path) -> None:
    other = untrained_stages(tmp_path / "stages", small_table(60), seed=1).bundle
    with server.client() as client:
        before, stop, failures = client.schema()["version"], threading.Event(), list[BaseException]()

        def asking() -> None:
            with Client(server.url, attempts=1, authority_file=server.certificate) as own:
                while not stop.is_set():
                    try:
                        own.sample(5)
                    except BusyError as error:
                        failures.append(error)

        asker = threading.Thread(target=asking)
        asker.start()
        new = server.link.with_name("next")
        new.symlink_to(other)
        new.replace(server.link)
        wait_until(lambda: client.schema()["version"] != before, what="the new version", timeout_s=60)
        stop.set()
        asker.join()
        assert failures == []
        shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_end_waits_for_what_is_under_way(server: Server) -> None:
    """The last test: the server is gone afterwards."""
    arrived, closing, answers = threading.Event(), threading.Event(), list[httpx2.Response]()

    def body() -> Iterator[bytes]:
        yield b'{"n": 3, '
        arrived.set()
        assert closing.wait(timeout=60)
        yield b'"seed": 1}'

    def asking() -> None:
        url, headers = f"{server.url}/v1/samples", {"Content-Type": "application/json"}
        answers.append(httpx2.post(url, content=body(), headers=headers, timeout=60, verify=server.trusted))

    def refused() -> bool:
        answer = httpx2.get(f"{server.url}/v1/bundles", timeout=60, verify=server.trusted)
        return answer.status_code == 503 and "about to end" in answer.text

    asker, ender = threading.Thread(target=asking), threading.Thread(target=serving.stop)
    asker.start()
    assert arrived.wait(timeout=60)
    with server.client() as client:
        client.sample(1)  # whatever came before it has reached the gateway
    ender.start()
    wait_until(refused, what="the closed door", timeout_s=60)
    closing.set()
    asker.join()
    ender.join()
    assert [answer.status_code for answer in answers] == [200]
    assert len(answers[0].json()["rows"]) == 3
