"""What a judge leaves behind: judge.json for programs and judge.md for people, with the account of every question.

A judge's scores as a report shows them, read from the judge.json that `difflm judge` left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from difflm.artifacts.atomic import write_bytes_atomic, write_json_atomic
from difflm.errors import DataError
from difflm.regular_files import read_file
from difflm.telemetry import JSON, parse_json
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.judge.answers import Answer
from difflm_evaluators.judge.settings import JudgeSettings
from difflm_evaluators.report.layout import JudgeEntry, ScoreEntry
from difflm_evaluators.report.rendering import markdown_templates
from difflm_evaluators.report.rows import baseline_text, number_text

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was asked and what it cost. Requests, tokens and dollars are those of all runs into the folder.

    `uncertain_requests` ended without a word about their tokens (timed out, broken off, or no usage in the reply) and
    are charged at the most they can have cost. `modes` counts the forms of output that replies were asked in.
    """

    questions: int
    answered: int
    sources: Mapping[str, int]
    requests: int
    uncertain_requests: int
    input_tokens: int
    output_tokens: int
    dollars: float | None
    modes: Mapping[str, int]

    def to_json(self) -> dict[str, JSON]:
        """Return it as plain values."""
        return {
            "questions": self.questions,
            "answered": self.answered,
            "unanswered": self.questions - self.answered,
            "answers_from": dict(self.sources),
            "requests": self.requests,
            "uncertain_requests": self.uncertain_requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "dollars": self.dollars,
            "output_modes": dict(self.modes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Scores, account, and the questions without an answer; `stopped_because` when not every question was asked."""

    title: str
    base_url: str
    settings: JudgeSettings
    evaluation: Evaluation
    account: Account
    unanswered: Sequence[Answer]
    stopped_because: str | None

    @property
    def reasons(self) -> dict[str, int]:
        """Questions without an answer, by reason, the most frequent first."""
        counts = Counter(str(answer.unanswered_because) for answer in self.unanswered)
        left = self.account.questions - self.account.answered - len(self.unanswered)
        return {**dict(counts.most_common()), **({"not asked": left} if left else {})}

    @property
    def warnings(self) -> list[str]:
        """What no reader may miss."""
        own = [] if self.stopped_because is None else [f"stopped before the end: {self.stopped_because}"]
        return own + list(dict.fromkeys(s.warning for s in self.evaluation.scores if s.warning is not None))


def account_of(
    lines: Sequence[Answer], answers: Mapping[str, Answer], questions: int, sources: Mapping[str, int]
) -> Account:
    """Sum up the account from all lines of the log and the answers that count."""
    dollars = [line.dollars for line in lines if line.requests]
    return Account(
        questions=questions,
        answered=sum(answer.values is not None for answer in answers.values()),
        sources=sources,
        requests=sum(line.requests for line in lines),
        uncertain_requests=sum(line.uncertain_requests for line in lines),
        input_tokens=sum(line.input_tokens for line in lines),
        output_tokens=sum(line.output_tokens for line in lines),
        dollars=None if any(d is None for d in dollars) else sum(d for d in dollars if d is not None),
        modes=Counter(answer.mode for answer in answers.values() if answer.requests and answer.values is not None),
    )


def write_judgement(judgement: Judgement, folder: Path) -> None:
    """Write judge.json and judge.md; StorageError when the folder cannot be written."""
    unanswered: list[JSON] = [
        {
            "item": answer.item,
            "variant": answer.variant,
            "repeat": answer.repeat,
            "reason": answer.unanswered_because,
            "detail": answer.detail,
        }
        for answer in judgement.unanswered
    ]
    evaluation: dict[str, JSON] = judgement.evaluation.to_json()
    document: dict[str, JSON] = {
        "format_version": FORMAT_VERSION,
        "title": judgement.title,
        "base_url": judgement.base_url,
        "settings": judgement.settings.model_dump(mode="json"),
        "complete": judgement.stopped_because is None,
        "stopped_because": judgement.stopped_because,
        "evaluation": evaluation,
        "account": judgement.account.to_json(),
        "unanswered": {"by_reason": dict(judgement.reasons), "questions": unanswered},
    }
    write_json_atomic(folder / "judge.json", document)
    write_bytes_atomic(folder / "judge.md", render_markdown(judgement).encode("utf-8", "replace"))


def render_markdown(judgement: Judgement) -> str:
    """Render `judge.md`: scores with their intervals, agreement, and the account."""
    template = markdown_templates().get_template("judge.md.j2")
    return template.render(
        judgement=judgement,
        scores=[_score_cells(score, judgement.evaluation) for score in judgement.evaluation.scores],
        agreement=_agreement_rows(judgement.evaluation),
        account=_account_rows(judgement.account),
    )


def _score_cells(score: Score, evaluation: Evaluation) -> list[str]:
    if score.value is None:
        value = f"undefined: {score.undefined_because}"
    else:
        error = "" if score.standard_error is None else f" ± {score.standard_error:.2g}"
        value = number_text(score.value, score.unit) + error
    interval = _interval(score, evaluation.details)
    between = "–" if interval is None else " to ".join(number_text(end, score.unit) for end in interval)
    low, high = score.bounds
    return [score.title, value, between, baseline_text(score), f"{low:g} to {high:g}", score.meaning]


def _interval(score: Score, details: Mapping[str, Any]) -> Sequence[float] | None:
    estimate = details["estimates"].get(score.name)
    interval: Sequence[float] | None = None if estimate is None else estimate["interval_95"]
    return interval


def _agreement_rows(evaluation: Evaluation) -> list[list[str]]:
    found: Mapping[str, Any] = evaluation.details["agreement"]  # type: ignore[assignment]
    rows = []
    for name, row in found.items():
        alpha = row["krippendorff_alpha"]
        text = f"undefined: {row['undefined_because']}" if alpha is None else f"{alpha:.3f}"
        equal = "–" if row["equal_share"] is None else f"{100 * row['equal_share']:.1f} %"
        rows.append([name, text, equal, f"{row['units_with_repeats']:,}"])
    return rows


def _account_rows(account: Account) -> list[tuple[str, str]]:
    dollars = "unknown; give prices.input and prices.output" if account.dollars is None else f"${account.dollars:.4f}"
    return [
        ("questions", f"{account.questions:,}, of which {account.answered:,} answered"),
        ("answers from", ", ".join(f"{source}: {count:,}" for source, count in account.sources.items())),
        (
            "requests",
            f"{account.requests:,}, of which {account.uncertain_requests:,} charged at the most possible",
        ),
        ("tokens", f"{account.input_tokens:,} in, {account.output_tokens:,} out"),
        ("cost", dollars),
        ("form of output", ", ".join(f"{mode}: {count:,}" for mode, count in account.modes.items()) or "–"),
    ]


JUDGE_FILE = "judge.json"


def read_judgement(folder: Path) -> JudgeEntry:
    """Read the summary of a judge's folder.

    Raises:
        DataError: there is no judge.json, or it has another layout.
    """
    path = folder / JUDGE_FILE
    try:
        data: Any = parse_json(read_file(path))
        account, evaluation = data["account"], data["evaluation"]
        return JudgeEntry(
            title=data["title"],
            protocol=evaluation["name"],
            model=data["settings"]["model"],
            complete=data["complete"],
            questions=account["questions"],
            answered=account["answered"],
            scores=tuple(ScoreEntry.model_validate(score) for score in evaluation["scores"]),
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the folder that difflm judge wrote with --out") from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is no judge's report ({reason}); run difflm judge again") from None
