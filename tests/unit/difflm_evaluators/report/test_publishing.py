"""What a report answers on publishing table, bundle and endpoint, by what was promised, protected and measured."""

from typing import Any

import pytest

from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.report.html import render_html, render_markdown
from difflm_evaluators.report.layout import ReportContext, ReportFile
from difflm_evaluators.report.publishing import publishing
from difflm_evaluators.report.report import Report

ON: dict[str, Any] = {"enabled": True, "threshold": 8, "rare": "resample", "columns": {}}
PROMISED = {"says": "(3, 1e-05)-differential privacy of every row", "voided_by": ["publishing the folder"]}


def _report(share: float | None, settings: dict[str, Any]) -> ReportFile:
    score = Score(
        name="dcr_share",
        title="DCR share",
        meaning="m",
        value=share,
        direction="target",
        standard_error=0.001 if share is not None else None,
        undefined_because=None if share is not None else "there is no holdout",
    )
    report = Report(
        evaluations=(Evaluation(name="privacy", scores=(score,)),),
        rows=dict.fromkeys(("train", "validation", "test", "synthetic"), 100),
        real={"train": "digest", "validation": None, "test": None},
        columns={"x": "integer"},
        target=None,
        task=None,
        config={},
        seconds={},
    )
    return report.to_file(context=ReportContext(title="t", settings=settings))


@pytest.mark.parametrize(
    ("share", "settings", "words"),
    [
        (0.5, {"protect": ON}, ["nothing found against it", "with care", "with care"]),
        (0.53, {"protect": ON}, ["look first", "with care", "with care"]),
        (0.7, {"protect": ON}, ["no", "no", "no"]),
        (0.5, {"protect": {**ON, "columns": {"x": "off"}}}, ["look first", "with care", "with care"]),
        (0.5, {"protect": {**ON, "enabled": False}}, ["look first", "no", "no"]),
        (0.5, {"protect": {**ON, "enabled": False}, "promised_privacy": PROMISED}, ["yes", "yes", "yes"]),
        (0.5, {}, ["look first"]),
        (None, {"protect": ON}, []),
    ],
)
def test_the_answers(share: float | None, settings: dict[str, Any], words: list[str]) -> None:
    found = publishing(_report(share, settings))
    assert [answer.word for answer in found] == words
    assert [answer.what for answer in found] == ["this table", "the bundle", "an endpoint"][: len(words)]


def test_reasons_name_the_promise_the_threshold_and_the_columns_left_out() -> None:
    promised = publishing(_report(0.5, {"promised_privacy": PROMISED}))
    assert all("differential privacy" in answer.text or "covered" in answer.text for answer in promised)
    protected = publishing(_report(0.5, {"protect": {**ON, "threshold": 11, "columns": {"x": "off"}}}))
    assert "in 'x', which protection leaves out" in protected[0].text
    assert "fewer than 11 training rows" in protected[1].text
    assert "no screen holds copies back" in protected[1].text


def test_both_forms_of_a_report_answer() -> None:
    report = _report(0.5, {"protect": ON})
    page, text = render_html(report, []), render_markdown(report, None)
    for answer in publishing(report):
        assert answer.word in page
        assert f"{answer.what.capitalize()}: {answer.word}." in text
    assert "May it be published?" in page
    assert "question of law" in page
