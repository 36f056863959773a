"""May this be published: the table, the bundle, the endpoint; answered from what was promised, protected and measured.

Only a promise of differential privacy is a yes. Without one the answers say what was looked at and what was not: a
table was measured row by row, while a bundle draws as many other rows as somebody likes, which no screen holds back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from difflm.records.protection.settings import ProtectConfig
from difflm_evaluators.report.layout import AnswerEntry, ReportFile
from difflm_evaluators.report.privacy import Status
from difflm_evaluators.report.verdict import verdict_of

YES, NOTHING_FOUND, CARE, LOOK, NO = "yes", "nothing found against it", "with care", "look first", "no"
MEANT: Final = (
    "Protected values are such that fewer training rows have than the threshold: they are replaced before anything is "
    "learned. Promised is only what is called differential privacy above; its epsilon bounds, for every single person, "
    "how much more likely anything becomes by this person's rows. Measured is one table, by attacks known today and "
    "beside real rows that nobody learned from. Protected and measured are no promise: values that many people "
    "have may give somebody away together, and a better attack may come. Whether published rows are personal data is a "
    "question of law, which figures inform and do not answer."
)
_EVIDENCE: Final = "That is evidence of tests, not a promise."


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """An answer for one thing that may be published: how it reads in colours, and why."""

    what: str
    word: str
    text: str

    @property
    def status(self) -> Status:
        """The colour of the word, as of findings."""
        return {YES: "fine", NOTHING_FOUND: "fine", NO: "warning"}.get(self.word, "look")


def publishing(report: ReportFile) -> tuple[Publishing, ...]:
    """Answer for table, bundle and endpoint; empty for a report that measured no privacy."""
    answer = next(each for each in verdict_of(report).answers if each.question == "private")
    promised, protect = report.settings.get("promised_privacy"), report.settings.get("protect")
    if isinstance(promised, Mapping):
        return _promised(str(promised.get("says", "differential privacy")))
    if answer.colour == "grey":
        return ()
    protection = ProtectConfig.model_validate(protect) if isinstance(protect, Mapping) else None
    return _table(answer, protection), *_generator(answer, protection)


def _promised(says: str) -> tuple[Publishing, ...]:
    rest = "Publish neither the run's folder nor this report, which read real rows."
    return (
        Publishing(what="this table", word=YES, text=f"{says}: rows that are drawn are covered."),
        Publishing(what="the bundle", word=YES, text=f"{says}. {rest}"),
        Publishing(
            what="an endpoint",
            word=YES,
            text="It draws rows of the bundle, which are covered, however many are asked for; its scores at "
            "/v1/quality are of real rows and are not.",
        ),
    )


def _table(answer: AnswerEntry, protection: ProtectConfig | None) -> Publishing:
    what = "this table"
    if answer.colour == "red":
        return Publishing(what=what, word=NO, text=answer.sentence)
    if protection is None:
        text = f"How the rows were made is not known here. {answer.sentence}"
        return Publishing(what=what, word=LOOK, text=text)
    if not _whole(protection):
        text = f"{_open(protection)} Look for them in the table before it leaves your hands."
        return Publishing(what=what, word=LOOK, text=text)
    held = (
        f"No value that fewer than {protection.threshold} training rows have was learned, and rows that are copies of "
    )
    held += "training rows, beyond chance, were held back."
    if answer.colour == "amber":
        return Publishing(what=what, word=LOOK, text=f"{held} But: {answer.sentence}")
    return Publishing(what=what, word=NOTHING_FOUND, text=f"{held} {answer.sentence} What each test found is below.")


def _generator(answer: AnswerEntry, protection: ProtectConfig | None) -> tuple[Publishing, ...]:
    if protection is None:
        return ()
    bundle, endpoint = "the bundle", "an endpoint"
    if answer.colour == "red":
        text = "It draws rows like those of this table, and those give training rows away."
        return tuple(Publishing(what=what, word=NO, text=text) for what in (bundle, endpoint))
    if not protection.enabled:
        text = "Its schema and tokenizer hold values of single training rows. Fit it again with protection."
        return tuple(Publishing(what=what, word=NO, text=text) for what in (bundle, endpoint))
    part = f"{_open(protection)} " if not _whole(protection) else ""
    return (
        Publishing(
            what=bundle,
            word=CARE,
            text=f"{part}Its files hold no rows, and of protected columns no value that fewer than "
            f"{protection.threshold} training rows have. But it draws without end, no screen holds copies back outside "
            f"of this run, and nobody measured its other rows. {_EVIDENCE} With --epsilon there is one.",
        ),
        Publishing(
            what=endpoint,
            word=CARE,
            text=f"{part}As the bundle, whose files stay with you: rows are drawn without a screen for copies. Give "
            "keys and limits, which bound how many rows anybody sees.",
        ),
    )


def _whole(protection: ProtectConfig) -> bool:
    return protection.enabled and "off" not in protection.columns.values()


def _open(protection: ProtectConfig) -> str:
    if not protection.enabled:
        return "Protection was off, so values of single training rows may be in it."
    names = ", ".join(repr(name) for name, switch in protection.columns.items() if switch == "off")
    return f"Values of single training rows may be in {names}, which protection leaves out."
