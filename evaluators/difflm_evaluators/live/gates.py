"""Quality gates: what scores must hold, such as `stop: shape_error < 3`, and what happens where they do not."""

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from difflm.errors import ConfigError
from difflm_evaluators.base import Score

Action = Literal["stop", "warn", "drop"]
DEFAULT_ACTION: Action = "stop"

ALIASES = {"shape": "shape_error", "trend": "trend_error", "exact_copies": "exact_copy_share"}
STREAMED_SCORES = (
    "conforming_share",
    "shape_error",
    "trend_error",
    "category_coverage",
    "range_coverage",
    "entropy_ratio",
    "distinct_row_share",
    "exact_copy_share",
    "dcr_median",
    "dcr_share",
    "nndr",
)
"""Scores of rows that are still being made."""
TABLE_SCORES = (
    *STREAMED_SCORES,
    *("c2st_auc", "c2st_accuracy", "alpha_precision", "beta_recall", "mle_auc", "mle_rmse"),
    *("mia_auc", "mia_calibrated_auc", "mia_tpr", "rare_cell_share", "rare_pair_share"),
    *("singling_out", "linkability", "attribute_inference"),
)
"""Scores of a finished table; which of them there are depends on the table and the settings."""
_LANGUAGE_SCORES = ("known_word_share", "repetition_within", "repetition_between", "bits_per_character")
CODE_SCORES = (
    *("parses_share", "compiles_share", "resolvable_import_share", "known_import_share", "lint_rate", "licence_share"),
    *("near_duplicate_share", "exact_copy_share", "near_copy_share"),
    *_LANGUAGE_SCORES,
)
"""Scores of finished records of code."""
TOOL_SCORES = (
    *("valid_share", "consistent_share", "category_coverage"),
    *("near_duplicate_share", "exact_copy_share", "near_copy_share"),
    *("description_length_error", "parameter_count_error", "distinct_pairs"),
    *_LANGUAGE_SCORES,
)
"""Scores of finished records of tools."""
RECORD_MEASURES = ("exact_copy_share", "dcr_quantile")
"""What single records can be dropped for."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_GATE = re.compile(r"(?:(\w+)\s*:)?\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|<|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)")
_EXAMPLE = "write it like 'shape_error < 3', 'warn: trend < 5', or 'drop: exact_copies == 0'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition on one score, as it was written and as it is meant."""

    text: str
    action: Action
    score: str
    comparison: str
    bound: float

    def holds(self, value: float) -> bool:
        """Tell whether a value of the score passes."""
        return _OPERATORS[self.comparison](value, self.bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a gate holds for so many rows; `value` is None where the score is undefined, which no gate lets pass."""

    gate: Gate
    rows: int
    value: float | None
    undefined_because: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the gate holds."""
        return self.value is not None and self.gate.holds(self.value)

    def sentence(self) -> str:
        """Such as: gate 'shape < 3': shape_error is 5.21 after 12,288 rows."""
        found = f"is {self.value:.4g}" if self.value is not None else f"is undefined ({self.undefined_because})"
        return f"gate {self.gate.text!r}: {self.gate.score} {found} after {self.rows:,} rows"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        facts: dict[str, Any] = {
            "gate": self.gate.text,
            "action": self.gate.action,
            "score": self.gate.score,
            "rows": self.rows,
            "value": self.value,
            "passed": self.passed,
        }
        return facts if self.undefined_because is None else {**facts, "undefined_because": self.undefined_because}


def parse_gate(text: str, known: Sequence[str]) -> Gate:
    """Read the gate that `text` states: an optional action and a colon, the name of a score, a comparison, a number.

    Raises:
        ConfigError: it cannot be read, its action is unknown, or its score is none of `known`; names the nearest one.
    """
    match = _GATE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"gate {text!r}: cannot be read; {_EXAMPLE}")
    action, name, comparison, number = match.groups()
    if action is not None and action not in get_args(Action):
        raise ConfigError(f"gate {text!r}: unknown action {action!r}; give one of {', '.join(get_args(Action))}")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise ConfigError(f"gate {text!r}: {number!r} is no number; {_EXAMPLE}")
    meant = cast("Action", action or DEFAULT_ACTION)
    gate = Gate(text=text.strip(), action=meant, score=ALIASES.get(name, name), comparison=comparison, bound=bound)
    _check(gate, name, RECORD_MEASURES if gate.action == "drop" else known)
    return gate


def check_gates(gates: Iterable[Gate], scores: Sequence[Score], rows: int) -> list[Verdict]:
    """Check each gate on scores against the scores of so many rows; a score that is not there counts as undefined."""
    found = {score.name: score for score in scores}
    return [_verdict(gate, found.get(gate.score), rows) for gate in gates if gate.action != "drop"]


def _verdict(gate: Gate, score: Score | None, rows: int) -> Verdict:
    if score is None:
        return Verdict(gate=gate, rows=rows, value=None, undefined_because="it was not computed")
    return Verdict(gate=gate, rows=rows, value=score.value, undefined_because=score.undefined_because)


def _check(gate: Gate, name: str, known: Sequence[str]) -> None:
    """Refuse a score that is not there, and a drop that says something else than which records go."""
    if gate.score not in known:
        if gate.action != "drop" and known == STREAMED_SCORES and gate.score in TABLE_SCORES:
            raise ConfigError(
                f"gate {gate.text!r}: {gate.score} needs all rows at once, difflm evaluate has it; while rows are made "
                f"there are {', '.join(known)}"
            )
        names = [*known, *(alias for alias, full in ALIASES.items() if full in known)]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        what = "records can be dropped for" if gate.action == "drop" else "scores are"
        raise ConfigError(f"gate {gate.text!r}: no score {name!r}; {hint}{what} {', '.join(known)}")
    if gate.action != "drop":
        return
    wanted = "exact_copy_share == 0" if gate.score == "exact_copy_share" else "dcr_quantile >= 0.05"
    copies = gate.score == "exact_copy_share" and gate.comparison == "==" and gate.bound == 0
    near = gate.score == "dcr_quantile" and gate.comparison == ">=" and 0 < gate.bound < 1
    if not (copies or near):
        raise ConfigError(f"gate {gate.text!r}: records are dropped with 'drop: {wanted}'")
