"""The configuration of a server: what it serves, how much it takes on, and who may ask."""

from __future__ import annotations

import ipaddress
from typing import Self

from pydantic import Field, model_validator

from difflm.config import Config
from difflm.synthesis.synthesizer import SamplingConfig


class ServedConfig(Config):
    """One bundle behind the server."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="what requests call it")
    path: str = Field(
        min_length=1, description="a bundle, a link to one, its file, or an experiment: its newest is served"
    )


class KeptConfig(Config):
    """How much is kept of the jobs of a key that have ended, with rows or an error. Beyond it the oldest are removed;
    the newest stays for its time, however large it is.
    """

    jobs: int = Field(default=100, ge=1)
    bytes: int = Field(default=20 * 2**30, ge=1, description="of the rows of all of them")
    days: float = Field(default=7.0, gt=0, allow_inf_nan=False)


class LimitsConfig(Config):
    """What one server takes on; beyond it, requests are refused with 429, 413 or 422."""

    rows_per_request: int = Field(default=10_000, ge=1, description="more become a job, where jobs are configured")
    rows_per_job: int = Field(default=10_000_000, ge=1)
    outstanding_rows: int = Field(default=50_000, ge=1, description="rows accepted and not yet handed out")
    outstanding_requests: int = Field(default=1_000, ge=1)
    given_rows: int = Field(default=1_000, ge=1, description="records in a request to vary, impute or encode")
    body_bytes: int = Field(default=8 * 2**20, ge=1024)
    deadline_s: float = Field(default=300.0, gt=0, allow_inf_nan=False, description="longest time for one request")
    upload_s: float = Field(default=30.0, gt=0, allow_inf_nan=False, description="longest time for a request's body")
    jobs: int = Field(default=20, ge=1, description="jobs that are unfinished at a time; they run one by one")
    kept: KeptConfig = KeptConfig()

    @model_validator(mode="after")
    def _one_request_fits(self) -> Self:
        if self.rows_per_request > self.outstanding_rows:
            raise ValueError(f"rows_per_request {self.rows_per_request} exceeds outstanding_rows")
        return self


class ReplicasConfig(Config):
    """The processes that draw rows, and when there are more of them. Each loads the first `loaded_bundles` bundles when
    it starts, others when it is asked for them.
    """

    min_replicas: int = Field(default=1, ge=0, description="0 lets an idle server give its processors back")
    max_replicas: int = Field(default=1, ge=1)
    target_queued_rows: int = Field(default=2_000, ge=1, description="unfinished rows that a replica should have")
    upscale_delay_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    downscale_delay_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    cpus: float = Field(default=1.0, gt=0, description="CPUs, and torch threads, of each")
    gpus: float = Field(default=0.0, ge=0)
    loaded_bundles: int = Field(default=4, ge=1, description="bundles in memory; the one not used for longest goes")
    opening_rows: int = Field(default=8, ge=1, description="rows of a request that are drawn before its first is there")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}")
        return self


class HttpConfig(Config):
    """Where the server listens. With a certificate it speaks HTTPS itself; otherwise put a proxy in front that does."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    certificate_file: str | None = Field(default=None, description="PEM; the same path on every node with a proxy")
    key_file: str | None = None
    allowed_hosts: list[str] = Field(
        default=[],
        description="names that a request's Host may have; by default any where there are keys or where others reach "
        "the server, else this machine's own: a page in a browser may have its name lead here",
    )
    cors_origins: list[str] = Field(default=[], description="origins whose pages may call the server; none by default")

    @model_validator(mode="after")
    def _both_files(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together; give both")
        return self


class ServeConfig(Config):
    """A server. Engine and sampling settings are those of `difflm synthesize`: the same give the same rows."""

    bundles: list[ServedConfig] = Field(min_length=1)
    sampling: SamplingConfig = SamplingConfig(batch_size=256)
    limits: LimitsConfig = LimitsConfig()
    replicas: ReplicasConfig = ReplicasConfig()
    http: HttpConfig = HttpConfig()
    keys_file: str | None = Field(default=None, description="hashes of the keys that may ask (`difflm serve-key`)")
    anonymous: bool = Field(default=False, description="answer without a key also beyond this machine")
    jobs_folder: str | None = Field(default=None, description="where large requests write; none: they are refused")
    refresh_s: float = Field(default=10.0, gt=0, allow_inf_nan=False, description="how often bundles are looked at")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [bundle.name for bundle in self.bundles]
        if len(set(names)) != len(names):
            raise ValueError(f"bundle names are not unique: {', '.join(names)}")
        if self.sampling.engine.kind != "builtin":
            raise ValueError("only sampling.engine.kind builtin can be served: requests join its batch as they come")
        if self.keys_file is None and not self.anonymous and not is_loopback(self.http.host):
            raise ValueError(
                f"http.host {self.http.host} can be reached from elsewhere and there are no keys; make some with "
                "difflm serve-key, or set anonymous=true"
            )
        return self

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that a request's Host may have, in lower case and without a port; None for any."""
        http = self.http
        if http.allowed_hosts:
            return frozenset(name.lower() for name in http.allowed_hosts)
        if self.keys_file is not None or not is_loopback(http.host):
            return None
        return frozenset({"localhost", "127.0.0.1", "[::1]", http.host.lower()})

    def served(self, name: str) -> ServedConfig | None:
        """Find the bundle of a name; None where there is none."""
        return next((bundle for bundle in self.bundles if bundle.name == name), None)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which anybody may have given any address
        return False
