"""A judge's scores in a report: rows of text, what they warn of, and who judged."""

from typing import Any

from difflm_evaluators.report_file import JudgeEntry
from difflm_evaluators.report_rows import number_text


def judge_rows(judge: JudgeEntry | None) -> list[dict[str, Any]]:
    """A judge's scores as rows of text, and whether each is defined."""
    rows: list[dict[str, Any]] = []
    for score in judge.scores if judge is not None else ():
        value = f"undefined: {score.undefined_because}" if score.value is None else number_text(score.value, score.unit)
        if score.standard_error is not None:
            value += f" ± {score.standard_error:.2g}"
        beside = (
            f"{number_text(score.baseline, score.unit)} ({score.baseline_label})" if score.baseline is not None else "–"
        )
        defined = score.value is not None
        rows.append(
            {"title": score.title, "value": value, "beside": beside, "meaning": score.meaning, "defined": defined}
        )
    return rows


def judge_warnings(judge: JudgeEntry | None) -> list[str]:
    """What a judge's scores warn of, each once."""
    scores = judge.scores if judge is not None else ()
    return list(dict.fromkeys(score.warning for score in scores if score.warning is not None))


def judge_text(judge: JudgeEntry) -> str:
    """Who judged what, and how far it came."""
    stopped = "" if judge.complete else " Stopped before the end."
    counted = f"{judge.answered:,} of {judge.questions:,} questions answered."
    return f"{judge.model}, protocol {judge.protocol}: {counted}{stopped} {judge.title}"
