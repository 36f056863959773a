"""Metrics: what an account adds to which counter."""

from __future__ import annotations

from typing import Any

import pytest

from difflm.runtime.metrics import PrometheusMetrics, ScoreGauges


class Recorded:
    """Stands for Ray's counters and histograms, and keeps what they are told."""

    told: list[tuple[str, float, dict[str, str]]]

    def __init__(self, name: str, **_: Any) -> None:
        self.name, self.tags = name, dict[str, str]()

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.tags = tags

    def inc(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.told.append((self.name, value, {**self.tags, **(tags or {})}))

    observe = set = inc


def test_an_account_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorded.told = []
    monkeypatch.setattr("ray.util.metrics.Counter", Recorded)
    monkeypatch.setattr("ray.util.metrics.Histogram", Recorded)
    metrics = PrometheusMetrics("abc")
    rejections = {"unfinished": 3}
    metrics.record({"start": 0, "stop": 10, "rows": 9, "attempts": 13, "rejections": rejections, "seconds": 2.5})
    metrics.record({"start": 10, "stop": 11, "given_up": "its process died"})
    job = {"job": "abc"}
    assert Recorded.told == [
        ("difflm_rows", 9, job),
        ("difflm_draws", 13, job),
        ("difflm_given_up", 1, job),
        ("difflm_rejections", 3, {**job, "reason": "unfinished"}),
        ("difflm_shard_seconds", 2.5, job),
        ("difflm_given_up", 1, job),
    ]


def test_scores_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorded.told = []
    monkeypatch.setattr("ray.util.metrics.Gauge", Recorded)
    ScoreGauges("abc").set(2048, {"shape_error": 1.5})
    job = {"job": "abc"}
    assert Recorded.told == [
        ("difflm_evaluated_rows", 2048, job),
        ("difflm_score", 1.5, {**job, "score": "shape_error"}),
    ]
