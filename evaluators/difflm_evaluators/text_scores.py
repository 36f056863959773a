"""What scores of texts have in common: shares in percent, and copies and near-copies within and against training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from difflm_evaluators.base import TEST_LABEL, Score
from difflm_evaluators.near_duplicates import NearDuplicates


class CopiesConfig(BaseModel):
    """What the scores of copies leave open."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    near_duplicate: float = Field(default=0.8, ge=0.5, le=1)
    """Jaccard index from which two records count as near-duplicates."""


COPY_MARGIN = 5.0
"""Percent points above the real test split from which near-copies are a warning."""


def share_score(
    name: str,
    title: str,
    meaning: str,
    flags: Sequence[bool],
    real: Sequence[bool] | None,
    *,
    direction: Literal["lower", "higher", "target"] = "higher",
    undefined: str = "there is nothing to count",
    warning: str | None = None,
) -> Score:
    """The percentage of true flags, with that of the real test split beside it; undefined without any."""
    return Score(
        name=name,
        title=title,
        meaning=meaning,
        value=percentage(flags),
        direction=direction,
        unit="%",
        bounds=(0, 100),
        ideal={"lower": 0.0, "higher": 100.0}.get(direction),
        baseline=percentage(real) if real else None,
        baseline_label=TEST_LABEL if real else None,
        undefined_because=None if flags else undefined,
        warning=warning,
    )


def percentage(flags: Sequence[bool]) -> float | None:
    """Percent of true flags, None for none."""
    return 100 * sum(flags) / len(flags) if flags else None


def copy_scores(
    synthetic: Sequence[str], train: Sequence[str], test: Sequence[str] | None, *, threshold: float
) -> tuple[list[Score], dict[int, int]]:
    """Repeats within, exact and near copies of training, and what is new; with the near copies' training positions."""
    within = [place is not None for place in NearDuplicates.repeats(synthetic, threshold)]
    real_within = [place is not None for place in NearDuplicates.repeats(test, threshold)] if test else None
    exact = {_bare(text) for text in train}
    copies = [_bare(text) in exact for text in synthetic]
    real_copies = [_bare(text) in exact for text in test] if test else None
    index = NearDuplicates.of(train, threshold)
    nearest = index.near(synthetic)
    near = [place is not None for place in nearest]
    real_near = [place is not None for place in index.near(test)] if test else None
    rule = f"Jaccard index of 5-word shingles at least {threshold:g}"
    scores = [
        share_score(
            "near_duplicate_share",
            "Near-duplicates within",
            f"Records nearly equal to an earlier one of the same set ({rule}).",
            within,
            real_within,
            direction="lower",
        ),
        share_score(
            "exact_copy_share",
            "Copies of training",
            "Records equal to a training record but for white space at their ends and at the ends of lines.",
            copies,
            real_copies,
            direction="lower",
        ),
        share_score(
            "near_copy_share",
            "Near-copies of training",
            f"Records nearly equal to a training record ({rule}); the others are new.",
            near,
            real_near,
            direction="lower",
            warning=_warning(percentage(near), percentage(real_near) if real_near else None),
        ),
    ]
    return scores, {place: found for place, found in enumerate(nearest) if found is not None}


def _warning(value: float | None, real: float | None) -> str | None:
    usual = 0.0 if real is None else real
    if value is None or value <= usual + COPY_MARGIN:
        return None
    beside = "" if real is None else f", {real:.1f} % of real test records are"
    return f"{value:.1f} % of the records are near-copies of training records{beside}: look before you share them"


def _bare(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
