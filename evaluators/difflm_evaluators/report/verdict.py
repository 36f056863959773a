"""The verdict that a report opens with: is the table faithful, useful, private, and what to do about the worst of it.

Each question is answered by a colour (green, amber, red; grey is not measured), the same as a word, one sentence, and
the two figures behind it, beside those of real rows. Where the colours turn stands in `thresholds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from difflm_evaluators.privacy.membership import NORMAL_95
from difflm_evaluators.report import thresholds
from difflm_evaluators.report.advice import advice_on
from difflm_evaluators.report.layout import (
    AnswerEntry,
    Colour,
    FigureEntry,
    Question,
    ReportFile,
    ScoreEntry,
    VerdictEntry,
)
from difflm_evaluators.report.privacy import Finding, Status, privacy_findings
from difflm_evaluators.report.rows import baseline_text, number_text
from difflm_evaluators.report.thresholds import Limits

TITLES: Final[Mapping[Question, str]] = {
    "faithful": "Faithful: are the rows like real ones?",
    "useful": "Useful: does a model learn the same from them?",
    "private": "Private: do they give training rows away?",
}
WORDS: Final[Mapping[Colour, str]] = {"green": "yes", "amber": "partly", "red": "no", "grey": "not measured"}
_PRIVATE_WORDS: Final[Mapping[Colour, str]] = {
    "green": "nothing found",
    "amber": "look closer",
    "red": "rows leak",
    "grey": "not measured",
}
_RANKS: Final[tuple[Colour, ...]] = ("grey", "green", "amber", "red")
_OF_STATUS: Final[Mapping[Status, Colour]] = {"unknown": "grey", "fine": "green", "look": "amber", "warning": "red"}
_PRIVATE_FIGURES = ("exact_copy_share", "mia_auc", "dcr_share", "near_copy_share")
_SHOWN = 2


def verdict_on(report: ReportFile) -> VerdictEntry:
    """Judge the scores of a report."""
    answers = (_faithful(report), _useful(report), _private(report))
    severity = {answer.question: _RANKS.index(answer.colour) for answer in answers}
    order: tuple[Question, ...] = ("private", "faithful", "useful")  # of equal ones the first is named
    worst = max(order, key=lambda question: severity[question])
    found = worst if severity[worst] >= _RANKS.index("amber") else None
    unmeasured = next((answer.question for answer in answers if answer.colour == "grey"), None)
    advice = advice_on(report, found, {answer.question: answer.colour for answer in answers}, unmeasured)
    return VerdictEntry(answers=answers, worst=found, advice=advice)


def verdict_of(report: ReportFile) -> VerdictEntry:
    """Return the verdict that a report came with; it is made here for one that is older than verdicts."""
    return report.verdict or verdict_on(report)


def verdict_shown(report: ReportFile) -> dict[str, Any]:
    """Lay out the verdict for templates: `answers` with their titles, `advice` in parts of text and code, its title."""
    verdict = verdict_of(report)
    answers = [{"title": TITLES[answer.question], **answer.model_dump()} for answer in verdict.answers]
    steps = [
        [{"text": text, "code": place % 2 == 1} for place, text in enumerate(step.split("`")) if text]
        for step in verdict.advice
    ]
    about = "What was not measured" if verdict.worst is None else f"What to do about the worst: {verdict.worst}"
    return {"answers": answers, "advice": steps, "advice_title": about}


def verdict_lines(verdict: VerdictEntry) -> list[str]:
    """Write a verdict as lines of plain text: a line for each question, and one for each step of its advice."""
    lines = []
    for answer in verdict.answers:
        figures = "; ".join(f"{figure.title} {figure.text} beside {figure.beside}" for figure in answer.figures)
        lines.append(
            f"{answer.question}: {answer.word} ({answer.colour}). {answer.sentence}{figures and f' {figures}.'}"
        )
    return [*lines, *(f"next: {step}" for step in verdict.advice)]


def _faithful(report: ReportFile) -> AnswerEntry:
    if not report.columns:
        return _faithful_texts(report)
    detection, shape = _defined(report, "c2st_auc", "shape_error")
    colours: dict[str, Colour] = {}
    if detection is not None:
        excess, error = _excess(detection), NORMAL_95 * (detection.standard_error or 0.0)
        colours["c2st_auc"] = _rising(excess, thresholds.DETECTION, slack=error)
    if shape is not None:
        colours["shape_error"] = _rising(_number(shape), _shape_limits(shape.baseline))
    if not colours:
        return _unmeasured("faithful", report, "c2st_auc", "Nothing was compared with real rows")
    colour = _worst(colours)
    told = detection is not None and colours["c2st_auc"] == colour
    below = detection is not None and _number(detection) < 0.5 - thresholds.DETECTION.green
    sentence = {
        ("green", True): "A detector hardly tells the synthetic rows from real ones.",
        ("amber", True): "A detector finds some difference between the synthetic rows and real ones.",
        ("red", True): "A detector tells many synthetic rows from real ones.",
        ("green", False): "Each column is distributed nearly as in real rows.",
        ("amber", False): "Some columns are distributed otherwise than in real rows.",
        ("red", False): "Columns are distributed clearly otherwise than in real rows.",
    }[colour, told]
    if told and below and colour != "green":
        sentence = "The detector is misled by copies of training rows, which are no better than odd ones."
    return _answer("faithful", colour, sentence, [detection, shape])


def _excess(score: ScoreEntry) -> float:
    """Return how much farther from 0.5 a ROC-AUC is than that of real rows."""
    beside = 0.5 if score.baseline is None else score.baseline
    return abs(_number(score) - 0.5) - abs(beside - 0.5)


def _shape_limits(baseline: float | None) -> Limits:
    beside, ratio, least = baseline or 0.0, thresholds.SHAPE_RATIO, thresholds.SHAPE
    return Limits(green=max(least.green, ratio.green * beside), amber=max(least.amber, ratio.amber * beside))


def _faithful_texts(report: ReportFile) -> AnswerEntry:
    """Answer for tools and code: are records valid, and as fluent as real ones."""
    valid, bits = _defined(report, "valid_share", "bits_per_character")
    valid = valid or _defined(report, "parses_share")[0]
    colours: dict[str, Colour] = {}
    if valid is not None:
        lost = (100.0 if valid.baseline is None else valid.baseline) - _number(valid)
        colours["valid"] = _rising(lost, thresholds.VALID_LOSS)
    if bits is not None and bits.baseline:
        slack = NORMAL_95 * (bits.standard_error or 0.0) / bits.baseline
        colours["bits"] = _rising(abs(_number(bits) / bits.baseline - 1), thresholds.BITS_RATIO, slack=slack)
    if not colours:
        return _unmeasured("faithful", report, "valid_share", "Nothing was compared with real records")
    colour = _worst(colours)
    told = colours.get("valid") == colour
    sentence = {
        ("green", True): "Records are as valid as real ones.",
        ("amber", True): "Some records are not valid.",
        ("red", True): "Many records are not valid.",
        ("green", False): "Records read like real ones.",
        ("amber", False): "Records read somewhat otherwise than real ones.",
        ("red", False): "Records do not read like real ones.",
    }[colour, told]
    return _answer("faithful", colour, sentence, [valid, bits])


def _useful(report: ReportFile) -> AnswerEntry:
    if not report.columns:
        return _unmeasured("useful", report, None, "Nothing was trained on these records")
    score = next((found for found in _defined(report, "mle_auc", "mle_rmse") if found is not None), None)
    named = "mle_rmse" if "mle_rmse" in report.scores else "mle_auc"
    if score is None or score.baseline is None:
        return _unmeasured("useful", report, named, "No model was trained on these rows and on real ones")
    value, beside, slack = _number(score), score.baseline, NORMAL_95 * (score.standard_error or 0.0)
    target = f" {report.target!r}" if report.target is not None else " the target"
    if score.name == "mle_rmse":
        ratio = value / beside if beside else 1.0 if value == 0 else 2.0
        colour = _rising(ratio, thresholds.RMSE_RATIO, slack=slack / beside if beside else 0.0)
        kept = f"its error is {ratio:.2f} times as large"
    elif beside < thresholds.LEARNABLE:
        sentence = f"No model predicts{target} from real rows either, so there is nothing to compare."
        return _answer("useful", "grey", sentence, [score])
    else:
        share = (value - 0.5) / (beside - 0.5)
        colour = _falling(share, thresholds.LEARNED, slack=slack / (beside - 0.5))
        kept = f"it learns {100 * max(0.0, share):.1f} % of what real rows teach"
    how = {"green": "nearly as well as", "amber": "somewhat worse than", "red": "much worse than"}[colour]
    sentence = f"A model trained on the synthetic rows predicts{target} {how} one trained on real rows: {kept}."
    return _answer("useful", colour, sentence, [score, *_defined(report, "trend_error")])


def _private(report: ReportFile) -> AnswerEntry:
    findings = privacy_findings(report)
    known = [finding for finding in findings if finding.status != "unknown"]
    measured = {finding.score for finding in known} & set(_PRIVATE_FIGURES)
    if not measured:
        return _unmeasured("private", report, "exact_copy_share", "Nothing was compared with training rows")
    worst = max(known, key=lambda finding: _RANKS.index(_OF_STATUS[finding.status]))
    colour = _OF_STATUS[worst.status]
    sentence = (
        "No test found training rows given away; that is evidence, not a proof."
        if colour == "green"
        else _findings_sentence(worst, known)
    )
    names = [worst.score] if colour != "green" and worst.score is not None else []
    figures = _defined(report, *dict.fromkeys([*names, *_PRIVATE_FIGURES]))
    return _answer("private", colour, sentence, figures)


def _findings_sentence(worst: Finding, known: list[Finding]) -> str:
    alike = sum(finding.status == worst.status for finding in known) - 1
    more = f" ({alike} more below)" if alike else ""
    return f"{worst.title}: {worst.text}{more}"


def _answer(question: Question, colour: Colour, sentence: str, scores: list[ScoreEntry | None]) -> AnswerEntry:
    words = _PRIVATE_WORDS if question == "private" else WORDS
    figures = tuple(_figures(scores))[:_SHOWN]
    return AnswerEntry(question=question, colour=colour, word=words[colour], sentence=sentence, figures=figures)


def _figures(scores: list[ScoreEntry | None]) -> Iterator[FigureEntry]:
    for score in scores:
        if score is not None and score.value is not None:
            text, beside = number_text(score.value, score.unit), baseline_text(score)
            yield FigureEntry(
                score=score.name,
                title=score.title,
                value=score.value,
                baseline=score.baseline,
                text=text,
                beside=beside,
            )


def _unmeasured(question: Question, report: ReportFile, name: str | None, otherwise: str) -> AnswerEntry:
    score = report.scores.get(name) if name is not None else None
    why = None if score is None else score.undefined_because
    return _answer(question, "grey", f"{otherwise}{f': {why}' if why else ''}.", [])


def _defined(report: ReportFile, *names: str) -> list[ScoreEntry | None]:
    """Return the scores of these names, None for those that are missing or undefined."""
    found = (report.scores.get(name) for name in names)
    return [score if score is not None and score.value is not None else None for score in found]


def _number(score: ScoreEntry) -> float:
    assert score.value is not None, "only defined scores are asked for"
    return score.value


def _rising(value: float, limits: Limits, *, slack: float = 0.0) -> Colour:
    """Colour a number that is better when small; red only where it is so surely, by its `slack`."""
    if value <= limits.green:
        return "green"
    return "red" if value - slack > limits.amber else "amber"


def _falling(value: float, limits: Limits, *, slack: float = 0.0) -> Colour:
    """Colour a number that is better when large, as `_rising`."""
    return _rising(-value, Limits(green=-limits.green, amber=-limits.amber), slack=slack)


def _worst(colours: Mapping[str, Colour]) -> Colour:
    return max(colours.values(), key=_RANKS.index)
