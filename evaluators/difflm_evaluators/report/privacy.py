"""What the report says about privacy in plain words: each finding, how it reads, and what none of them proves."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from difflm.records.protection.settings import ProtectConfig, protection_line
from difflm_evaluators.privacy.membership import NORMAL_95
from difflm_evaluators.report.layout import ReportFile, ScoreEntry
from difflm_evaluators.report.thresholds import MEMORISED, NEAR_RATIO, NOTICED, RISK, SURE

Status = Literal["fine", "look", "warning", "unknown"]
PROTECTED = "Protected values"

NOT_PROVEN = (
    "These are tests of one table by distance, and a table can pass them all and still give somebody away. They are no "
    "guarantee like differential privacy; they know no other data that an attacker may hold; they average over rows, "
    "while it is the rare ones that are at risk; and free text counts only where a whole row is copied."
)
SHOWN_ROWS = (
    "These are rows of the training data, shown because privacy.show_nearest is on: treat this report like the "
    "training data themselves."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `fine`, worth a `look`, a `warning`, or `unknown` for want of data; `score` is the
    one that it is about, where it is about one.
    """

    status: Status
    title: str
    text: str
    score: str | None = None


def privacy_findings(report: ReportFile) -> list[Finding]:
    """List what was promised and protected, and the findings of what was measured; empty without any of it."""
    return [
        *_promised(report),
        *_protected(report),
        *_read(report, "exact_copy_share", "Exact copies", _copies),
        *_near_copies(report),
        *_read(report, "near_copy_share", "Near copies", _near_texts),
        *_read(report, "dcr_share", "Nearer to training than to unseen rows", _share),
        *_read(report, "nndr", "Clinging to single rows", _ratio),
        *_read(report, "rare_cell_share", "Rare values", partial(_rare, "values")),
        *_read(report, "rare_pair_share", "Rare pairs of values", partial(_rare, "pairs of values")),
        *_read(report, "mia_auc", "Membership attack", _attack),
        *_read(report, "mia_calibrated_auc", "Membership attack, calibrated", _attack),
        *_risks(report),
    ]


def _protected(report: ReportFile) -> Iterator[Finding]:
    """Say what the run that wrote the report protected; nothing where it is of files."""
    settings = report.settings.get("protect")
    if isinstance(settings, Mapping):
        config = ProtectConfig.model_validate(settings)
        open_ = not config.enabled or "off" in config.columns.values()
        line = protection_line(config)
        yield Finding(status="look" if open_ else "fine", title=PROTECTED, text=f"{line[0].upper()}{line[1:]}.")


def _promised(report: ReportFile) -> Iterator[Finding]:
    """Tell what differential privacy promises of the generator, whatever is measured below."""
    promised = report.settings.get("promised_privacy")
    if isinstance(promised, Mapping):
        broken = promised.get("voided_by")
        voided = "; ".join(map(str, broken)) if isinstance(broken, Sequence) else "nothing that is known"
        text = f"{promised.get('says')}. It is voided by: {voided}."
        yield Finding(status="fine", title="Differential privacy", text=text)


def _read(
    report: ReportFile, name: str, title: str, reading: Callable[[ScoreEntry, float], tuple[Status, str]]
) -> Iterator[Finding]:
    """Tell how a score and its value read; a finding that it is undefined; nothing where it was left out."""
    score = report.scores.get(name)
    if score is None:
        return
    if score.value is None:
        yield Finding(status="unknown", title=title, text=f"Not known: {score.undefined_because}.", score=name)
    else:
        status, text = reading(score, score.value)
        yield Finding(status=status, title=title, text=text, score=name)


def _copies(score: ScoreEntry, value: float) -> tuple[Status, str]:
    beside = "" if score.baseline is None else f"; of the real test rows {score.baseline:.2f} % do by chance"
    text = f"{value:.2f} % of the synthetic rows equal a training row{beside}."
    if score.warning is not None:
        return "warning", f"{text} That is far more than chance: rows were copied."
    if value and score.baseline is None:
        return "look", f"{text} Without test rows nobody can say if that is chance."
    return "fine", f"{text} That is not more than chance explains."


def _near_copies(report: ReportFile) -> Iterator[Finding]:
    details = report.details("privacy")
    dcr = details.get("dcr")
    if not dcr or "near" not in dcr:
        return
    near, rows = dcr["near"], [details[f"queried_{side}"] for side in ("synthetic", "test")]
    synthetic, test = near["synthetic"], near["test"]
    pooled = (synthetic * rows[0] + test * rows[1]) / (rows[0] + rows[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / rows[0] + 1 / rows[1]))
    where = f"within {near['limit']:.3g} of a training row" if near["limit"] else "at distance 0 from a training row"
    text = f"{100 * synthetic:.2f} % of the synthetic rows lie {where}; of the real test rows {100 * test:.2f} % do."
    if synthetic - test > SURE * error:
        text += " That is surely more."
        yield Finding(status="warning" if synthetic > 2 * test else "look", title="Near copies", text=text)
    else:
        yield Finding(status="fine", title="Near copies", text=f"{text} That is no more than chance explains.")


def _near_texts(score: ScoreEntry, value: float) -> tuple[Status, str]:
    beside = "" if score.baseline is None else f"; of the real test records {score.baseline:.2f} % are"
    text = f"{value:.2f} % of the records are nearly equal to a training record{beside}."
    if score.warning is not None:
        return "warning", f"{text} Look before you share them."
    return ("look" if value > (score.baseline or 0.0) else "fine"), text


def _share(score: ScoreEntry, value: float) -> tuple[Status, str]:
    low = value - NORMAL_95 * (score.standard_error or 0.0)
    text = f"{100 * value:.1f} % of the synthetic rows are nearer to training rows; 50 % would be no difference."
    status: Status = "warning" if low > MEMORISED else "look" if low > NOTICED else "fine"
    surely = " That is little, but more than chance."
    text += {"warning": " Rows were memorised.", "look": surely}.get(status, surely if low > 0.5 else "")
    return status, text


def _ratio(score: ScoreEntry, value: float) -> tuple[Status, str]:
    text = f"The nearest training row is on average {value:.3f} times as far as the second nearest"
    if score.baseline is None:
        return "unknown", f"{text}; there are no real test rows to compare with."
    status: Status = "look" if value < NEAR_RATIO * score.baseline else "fine"
    return status, f"{text}; for real test rows {score.baseline:.3f} times."


def _rare(what: str, score: ScoreEntry, value: float) -> tuple[Status, str]:
    text = f"{value:.1f} % of the synthetic rows' {what} that few training rows have are one of theirs"
    if score.baseline is None:
        return "unknown", f"{text}; there are no real test rows to compare with."
    text += f"; of the real test rows' {score.baseline:.1f} %."
    surely = value - score.baseline > SURE * (score.standard_error or 0.0)
    if surely and value > score.baseline / NEAR_RATIO:
        return "look", f"{text} Values of single rows are handed out."
    return "fine", f"{text} That is not clearly more than chance."


def _attack(score: ScoreEntry, value: float) -> tuple[Status, str]:
    low, high = score.interval or (0.0, 1.0)
    text = (
        "An attacker with the synthetic rows ranks a training row above an unseen one "
        f"{100 * value:.1f} % of the time (95 % confidence: {100 * low:.1f} to {100 * high:.1f} %); 50 % is guessing."
    )
    return "warning" if score.warning is not None else "look" if low > NOTICED else "fine", text


_TRIED = {
    "singling_out": (
        "Singling out",
        "Of what is true of one synthetic row, {attack} is true of exactly one training row; {control} would be by "
        "chance.",
    ),
    "linkability": (
        "Linkability",
        "Who has two halves of a row's columns joins them by the synthetic rows in {attack} of training rows and in "
        "{control} of unseen rows.",
    ),
    "attribute_inference": (
        "Attribute inference",
        "Who knows all values of a row but one is told that one by the nearest synthetic row in {attack} of training "
        "rows and in {control} of unseen rows.",
    ),
}


def _risks(report: ReportFile) -> Iterator[Finding]:
    """Tell what each attack finds of training rows and of unseen ones; a column that is told more often has its own."""
    details = report.details("attacks")
    for name, (title, sentence) in _TRIED.items():
        yield from _read(report, name, title, partial(_risk, sentence, details.get(name, {})))
    worst = details.get("worst")
    if worst is not None and worst["interval"][0] > RISK.green:
        low, high = worst["interval"]
        interval = f"(95 % confidence: {low:.3f} to {high:.3f})"
        text = f"Most is told of {worst['column']!r}: a risk of {worst['risk']:.3f} {interval}."
        yield Finding(status=_risk_status(low), title="Attribute inference, one column", text=text)


def _risk(sentence: str, rates: Mapping[str, float], score: ScoreEntry, value: float) -> tuple[Status, str]:
    low, high = score.interval or (0.0, 1.0)
    shares = {side: f"{100 * rates[side]:.1f} %" for side in ("attack", "control") if side in rates}
    told = f"{sentence.format(**shares)} " if len(shares) == 2 else ""
    text = f"{told}The risk is {value:.3f} (95 % confidence: {low:.3f} to {high:.3f}), where 0 is none and 1 is all."
    return _risk_status(low), text


def _risk_status(low: float) -> Status:
    return "warning" if low > RISK.amber else "look" if low > RISK.green else "fine"
