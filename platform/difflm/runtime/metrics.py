"""Metrics of a shard map for Prometheus: what Ray exports on the metrics port of the driver's node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


class PrometheusMetrics:
    """Counters difflm_rows, difflm_draws, difflm_given_up, difflm_rejections (by reason) and the histogram
    difflm_shard_seconds, each with the job it belongs to. Ray puts "ray_" before the names.
    """

    def __init__(self, job: str) -> None:
        from ray.util.metrics import Counter, Histogram

        def counter(name: str, text: str, *tags: str) -> Counter:
            made = Counter(f"difflm_{name}", description=text, tag_keys=("job", *tags))
            made.set_default_tags({"job": job})
            return made

        self._rows = counter("rows", "Rows written.")
        self._draws = counter("draws", "Draws, rejected ones included.")
        self._given_up = counter("given_up", "Indices given up.")
        self._rejections = counter("rejections", "Draws that were no valid record.", "reason")
        self._seconds = Histogram(
            "difflm_shard_seconds", description="Seconds of a shard.", boundaries=_SECONDS, tag_keys=("job",)
        )
        self._seconds.set_default_tags({"job": job})

    def record(self, account: Mapping[str, Any]) -> None:
        rows = int(account.get("rows", 0))
        for counter, amount in (
            (self._rows, rows),
            (self._draws, int(account.get("attempts", 0))),
            (self._given_up, int(account["stop"]) - int(account["start"]) - rows),
        ):
            if amount > 0:
                counter.inc(amount)
        for reason, count in account.get("rejections", {}).items():
            self._rejections.inc(count, tags={"reason": reason})
        if "seconds" in account:
            self._seconds.observe(float(account["seconds"]))


class ScoreGauges:
    """Gauges difflm_score (by score) and difflm_evaluated_rows, each with the job it belongs to."""

    def __init__(self, job: str) -> None:
        from ray.util.metrics import Gauge

        self._scores = Gauge("difflm_score", description="Scores of the rows so far.", tag_keys=("job", "score"))
        self._rows = Gauge("difflm_evaluated_rows", description="Rows that were scored.", tag_keys=("job",))
        for gauge in (self._scores, self._rows):
            gauge.set_default_tags({"job": job})

    def set(self, rows: int, scores: Mapping[str, float]) -> None:
        """Show the scores of so many rows."""
        self._rows.set(rows)
        for name, value in scores.items():
            self._scores.set(value, tags={"score": name})
