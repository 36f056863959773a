"""Metrics of a server for Prometheus: requests, rows, and how long they took."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_KNOWN = ("/v1/samples", "/v1/impute", "/v1/encode", "/v1/schema", "/v1/quality", "/v1/bundles", "/v1/jobs")


class ServerMetrics:
    """Counters of one server process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "difflm_requests", "Answers by path and status", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "difflm_request_seconds", "Until an answer ended", ("path",), buckets=_SECONDS, registry=self._registry
        )
        self._rows = Counter("difflm_served_rows", "Rows handed out", ("bundle", "key"), registry=self._registry)
        self._given_up = Counter(
            "difflm_served_given_up", "Indices without a valid draw", ("bundle",), registry=self._registry
        )
        self._outstanding = Gauge("difflm_outstanding_rows", "Accepted, not handed out", registry=self._registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; paths that are none of ours are one."""
        known = next((name for name in _KNOWN if path == name or path.startswith(name + "/")), "other")
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def handed_out(self, bundle: str, owner: str, rows: int, given_up: int) -> None:
        """Count rows."""
        self._rows.labels(bundle, owner).inc(rows)
        self._given_up.labels(bundle).inc(given_up)

    def outstanding(self, rows: int) -> None:
        """Set what is accepted and not handed out."""
        self._outstanding.set(rows)

    def text(self) -> bytes:
        """Write all of them in Prometheus' text format."""
        return generate_latest(self._registry)
