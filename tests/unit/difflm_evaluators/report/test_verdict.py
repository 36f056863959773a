"""The verdict: its colours turn where the thresholds say, its words need no colour, its advice names what to type."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.report.layout import AnswerEntry, ReportContext, ReportFile, read_report
from difflm_evaluators.report.report import Report
from difflm_evaluators.report.verdict import verdict_lines, verdict_on
from difflm_jobs.cli.summary import print_verdict


def score(name: str, value: float | None, baseline: float | None = None, **more: Any) -> Score:
    return Score(
        name=name,
        title=name,
        meaning="m",
        value=value,
        baseline=baseline,
        baseline_label=None if baseline is None else "real test split",
        direction="target",
        undefined_because="too few rows" if value is None else None,
        **more,
    )


GOOD = (
    score("c2st_auc", 0.52, 0.5, standard_error=0.004),
    score("shape_error", 1.0, 0.7, unit="%"),
    score("mle_auc", 0.92, 0.927),
    score("exact_copy_share", 0.0, 0.1, unit="%"),
    score("dcr_share", 0.505, standard_error=0.003),
    score("mia_auc", 0.504, 0.498, interval=(0.497, 0.512)),
)


def report_of(*scores: Score, settings: dict[str, Any] | None = None, **more: Any) -> ReportFile:
    """A report with these scores in the place of good ones."""
    found = {one.name: one for one in (*GOOD, *scores)}
    return made(tuple(found.values()), settings, **more)


def made(scores: tuple[Score, ...], settings: dict[str, Any] | None = None, **more: Any) -> ReportFile:
    facts: dict[str, Any] = {
        "evaluations": (Evaluation(name="all", scores=scores), *more.pop("details", ())),
        "rows": dict.fromkeys(("train", "validation", "test", "synthetic"), 100),
        "real": {"train": "digest", "validation": None, "test": None},
        "columns": {"age": "integer", "job": "categorical"},
        "target": "job",
        "task": "classification",
        "config": {},
        "seconds": {},
        **more,
    }
    return Report(**facts).to_file(ReportContext(title="people", settings=settings or {}))


def answers(report: ReportFile) -> dict[str, AnswerEntry]:
    return {answer.question: answer for answer in verdict_on(report).answers}


def colours(report: ReportFile) -> dict[str, str]:
    return {question: answer.colour for question, answer in answers(report).items()}


def test_a_good_table_is_green_and_needs_nothing() -> None:
    verdict = verdict_on(report_of())
    assert [(one.question, one.colour, one.word) for one in verdict.answers] == [
        ("faithful", "green", "yes"),
        ("useful", "green", "yes"),
        ("private", "green", "nothing found"),
    ]
    assert (verdict.worst, verdict.advice) == (None, ())
    shown = [[(figure.score, figure.text, figure.beside) for figure in one.figures] for one in verdict.answers]
    assert shown[0] == [
        ("c2st_auc", "0.520", "0.500 (real test split)"),
        ("shape_error", "1.00 %", "0.70 % (real test split)"),
    ]
    assert [figure[0] for figure in shown[2]] == ["exact_copy_share", "mia_auc"]
    assert "not a proof" in verdict.answers[2].sentence


@pytest.mark.parametrize(
    ("changed", "question", "colour"),
    [
        (score("c2st_auc", 0.549, 0.5), "faithful", "green"),
        (score("c2st_auc", 0.551, 0.5), "faithful", "amber"),
        (score("c2st_auc", 0.66, 0.5), "faithful", "red"),
        (score("c2st_auc", 0.66, 0.5, standard_error=0.01), "faithful", "amber"),  # not surely beyond 0.65
        (score("c2st_auc", 0.66, 0.62), "faithful", "green"),  # real rows are told from real rows as well
        (score("c2st_auc", 0.3, 0.5), "faithful", "red"),  # copies are no better than odd rows
        (score("shape_error", 2.1, 0.7), "faithful", "amber"),
        (score("shape_error", 5.1, 0.7), "faithful", "red"),
        (score("shape_error", 5.1, 4.0), "faithful", "green"),  # a small table: real rows differ as much
        (score("mle_auc", 0.88, 0.927), "useful", "amber"),
        (score("mle_auc", 0.8, 0.927), "useful", "red"),
        (score("mle_auc", 0.52, 0.53), "useful", "grey"),  # real rows teach nothing either
        (score("mle_auc", None), "useful", "grey"),
        (score("exact_copy_share", 9.0, 0.1, warning="w"), "private", "red"),
        (score("dcr_share", 0.53, standard_error=0.003), "private", "amber"),
        (score("dcr_share", 0.53, standard_error=0.01), "private", "green"),  # not surely above 0.52
        (score("dcr_share", 0.6, standard_error=0.01), "private", "red"),
        (score("mia_auc", 0.6, 0.5, interval=(0.56, 0.64), warning="w"), "private", "red"),
    ],
)
def test_a_colour_turns_at_its_threshold(changed: Score, question: str, colour: str) -> None:
    expected = {"faithful": "green", "useful": "green", "private": "green", question: colour}
    assert colours(report_of(changed)) == expected


@pytest.mark.parametrize(("value", "colour"), [(1.04, "green"), (1.1, "amber"), (1.2, "red")])
def test_a_number_is_predicted_by_its_error(value: float, colour: str) -> None:
    scores = tuple(one for one in GOOD if one.name != "mle_auc")
    assert colours(made((*scores, score("mle_rmse", value, 1.0))))["useful"] == colour


def test_what_was_left_out_is_grey_and_says_how_to_measure_it() -> None:
    verdict = verdict_on(made((score("shape_error", 1.0, 0.7),), target=None, task=None))
    assert [one.colour for one in verdict.answers] == ["green", "grey", "grey"]
    assert verdict.answers[1].word == "not measured"
    assert verdict.worst is None
    assert "--target COLUMN" in verdict.advice[0]


def test_a_reason_stands_in_the_answer() -> None:
    assert "too few rows" in answers(report_of(score("mle_auc", None)))["useful"].sentence


def test_tools_are_judged_by_validity_and_copies() -> None:
    copies = (score("exact_copy_share", 0.0, 0.0), score("near_copy_share", 30.0, 0.0, warning="w"))
    report = made((score("valid_share", 80.0, 100.0), *copies), columns={}, target=None, task=None)
    assert colours(report) == {"faithful": "red", "useful": "grey", "private": "red"}


def test_the_worst_is_private_before_faithful_and_red_before_amber() -> None:
    leaky, odd = score("dcr_share", 0.53, standard_error=0.003), score("c2st_auc", 0.58, 0.5)
    assert verdict_on(report_of(leaky, odd)).worst == "private"
    assert verdict_on(report_of(leaky, score("c2st_auc", 0.8, 0.5))).worst == "faithful"


def test_advice_names_the_run_the_settings_and_the_column() -> None:
    difference = {"what": "value", "value": {"label": "a`b"}, "real": 0.1, "synthetic": 0.4}
    worst = {"name": "job", "error": 0.3, "baseline": 0.0, "gain_share": None, "difference": difference}
    details = [Evaluation(name="breakdown", scores=(), details={"columns": [worst], "pairs": []})]
    settings = {"name": "people", "decoder_fit": {"steps": 1500}}
    odd = score("c2st_auc", 0.8, 0.5)
    advice = verdict_on(report_of(odd, settings=settings, details=details)).advice
    assert "`difflm diagnose runs/people`" in advice[0]
    assert "'job' (a'b: 10.0 % real, 40.0 % synthetic)" in advice[1]  # a backquote would begin code
    assert "`--set decoder_fit.steps=3000` (it was 1,500)" in advice[2]
    assert "`difflm diagnose RUN`" in verdict_on(report_of(odd)).advice[0]
    copied = verdict_on(report_of(score("exact_copy_share", 9.0, 0.1, warning="w"), settings=settings)).advice
    assert "decoder_fit.steps=750" in copied[1]
    steered = {**settings, "decoder": {"kind": "pretrained"}, "autoencoder": {"steps": 400}}  # it is not fitted
    assert "`--set autoencoder.steps=800` (it was 400)" in verdict_on(report_of(odd, settings=steered)).advice[-1]
    assert "--gate 'drop: exact_copies == 0'" in copied[2]
    short = {**settings, "decoder_fit": {"steps": 1500, "epochs": 10.0, "batch_size": 64}}  # 100 rows: 16 steps
    assert "`--set decoder_fit.epochs=20` (it was 10)" in verdict_on(report_of(odd, settings=short)).advice[-1]


def test_protection_that_is_off_is_turned_on_first() -> None:
    off = {"name": "people", "decoder_fit": {"steps": 1500}, "protect": {"enabled": False}}
    verdict = verdict_on(report_of(settings=off))
    assert verdict.worst == "private"
    assert [step.split(",")[0] for step in verdict.advice] == ["Run again with `--protect on`"]
    leaky = verdict_on(report_of(score("dcr_share", 0.53, standard_error=0.003), settings=off)).advice
    assert ["--protect on" in step for step in leaky] == [True, False, False]


def test_rows_that_were_not_trained_on_are_asked_for_where_there_are_none() -> None:
    rows = dict.fromkeys(("train", "validation", "synthetic"), 100) | {"test": 0}
    alone = verdict_on(report_of(score("exact_copy_share", 1.0), rows=rows))
    assert alone.worst == "private"
    assert alone.advice[0].startswith("`--test FILE` gives real rows")
    beside = verdict_on(report_of(score("exact_copy_share", 9.0, 0.1, warning="w"))).advice
    assert not any("--test" in step for step in beside)


def test_missing_classes_are_balanced() -> None:
    details = [Evaluation(name="utility", scores=(), details={"classes_lacking": ["cook"]})]
    advice = verdict_on(report_of(score("mle_auc", 0.8, 0.927), details=details)).advice
    assert "'cook'" in advice[0]
    assert "--balance job`" in advice[0]


def test_every_form_of_a_report_opens_with_the_verdict(tmp_path: Path) -> None:
    file = report_of(score("c2st_auc", 0.8, 0.5))
    (tmp_path / "report.json").write_text(file.model_dump_json())
    report = Report.read(tmp_path)
    report.save(tmp_path)
    assert report.verdict.worst == "faithful"
    assert read_report(tmp_path / "report.json").verdict == report.verdict
    for name, last in (("report.html", "All 6 scores"), ("report.md", "| score |")):
        text = (tmp_path / name).read_text()
        assert 0 < text.index("tells many synthetic rows") < text.index("difflm diagnose") < text.index(last), name
    page = (tmp_path / "report.html").read_text()
    assert [*re.findall(r'class="card answer (\w+)"', page)] == ["red", "green", "green"]
    assert [*re.findall(r'<div class="word">(.*?)</div>', page)] == ["no", "yes", "nothing found"]
    assert re.search(r"<details class=\"scores\">(?s:.*?)<section class=\"tiles\"", page)
    notebook = report._repr_html_()
    assert notebook.index("tells many synthetic rows") < notebook.index("<details>") < notebook.index("<table>")
    assert repr(report).index("faithful: no (red)") < repr(report).index("c2st_auc ")


def test_a_report_from_before_verdicts_gets_one() -> None:
    old = report_of().model_copy(update={"verdict": None})
    assert verdict_on(old).answers[0].colour == "green"


def test_a_shared_report_shows_no_rows() -> None:
    names = ("nearest", "samples", "projection", "copies", "language")
    shown = [Evaluation(name=name, scores=(), details={"rows": ["secret"]}) for name in names]
    file = report_of(details=shown)
    report = Report(
        evaluations=tuple(
            Evaluation(name=one.name, scores=(), details=one.details) for one in file.evaluations if not one.scores
        ),
        rows=file.rows.model_dump(),
        real=file.real.model_dump(),
        columns={},
        target=None,
        task=None,
        config={},
        seconds={},
    )
    assert "secret" in report.to_file().model_dump_json()
    assert "secret" not in report.shared().to_file().model_dump_json()


def test_a_terminal_shows_words_where_it_has_no_colours() -> None:
    verdict = verdict_on(report_of(score("c2st_auc", 0.8, 0.5)))
    console = Console(file=io.StringIO(), width=60)
    print_verdict(console, verdict)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == verdict_lines(verdict)
    assert lines[0].startswith(
        "faithful: no (red). A detector tells many synthetic rows from real ones. c2st_auc 0.800"
    )
    assert lines[3].startswith("next: `difflm diagnose RUN`")
