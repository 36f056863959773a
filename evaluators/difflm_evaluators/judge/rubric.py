"""Rubrics: what one record is and what makes a good one, as a YAML file defines them, and the question they make.

The single-tool score of the DiffLM paper: one tool, six aspects, one score from 0 to 10.

Source: Zhou et al. (arXiv 2411.03250), evaluation of tool generation. The aspects are the paper's, the words are not.
There the aspects only guide one score; here each gets a grade of its own as well, so that a low score can be traced.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, create_model, model_validator

from difflm.config import Config
from difflm_evaluators.judge.questions import Record, form, shown

MEAN = "rubric_mean"


class Criterion(Config):
    """One thing that is graded, with whole numbers from `lowest` (worst) to `highest` (best)."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    description: str = Field(min_length=1)
    lowest: int = 0
    highest: int = 10

    @model_validator(mode="after")
    def _a_scale_has_two_ends(self) -> Criterion:
        if not 1 <= self.highest - self.lowest <= 100:
            raise ValueError(f"lowest {self.lowest} and highest {self.highest} make no scale; give 2 to 101 steps")
        return self


class Rubric(Config):
    """What one record is, and what makes a good one.

    `headline` names the criterion that stands for the whole; without one it is the mean over all, each scaled to
    0 to 100.
    """

    record: str = Field(min_length=1)
    criteria: tuple[Criterion, ...] = Field(min_length=1, max_length=20)
    headline: str | None = None

    @model_validator(mode="after")
    def _names_are_clear(self) -> Rubric:
        names = [criterion.name for criterion in self.criteria]
        for name in names:
            if names.count(name) > 1 or name in ("reason", MEAN):
                raise ValueError(f"criterion {name!r} stands twice or means something else already; rename it")
        if self.headline is not None and self.headline not in names:
            raise ValueError(f"headline {self.headline!r} is no criterion; the criteria are {', '.join(names)}")
        return self


def answer_model(rubric: Rubric) -> type[BaseModel]:
    """Build the form of a reply: a reason, and one whole number for every criterion."""
    fields: dict[str, Any] = {criterion.name: (_grade(criterion), ...) for criterion in rubric.criteria}
    model: type[BaseModel] = create_model("Answer", reason=(str, ...), **fields)
    return model


def rubric_prompt(rubric: Rubric, record: Record) -> str:
    """Write the question about one record."""
    criteria = [f"- {c.name} ({c.lowest} to {c.highest}): {' '.join(c.description.split())}" for c in rubric.criteria]
    keys = [("reason", "what speaks for and against the record, in at most three sentences")]
    keys += [(c.name, f"a whole number from {c.lowest} (worst) to {c.highest} (best)") for c in rubric.criteria]
    return "\n".join(
        [
            f"Grade one record. What it is: {' '.join(rubric.record.split())}",
            "",
            "Criteria:",
            *criteria,
            "",
            shown("record", dict(record.fields)),
            "",
            form(keys),
        ]
    )


def _grade(criterion: Criterion) -> Any:
    # "7" is a grade that a server without structured output may give; true is none.
    return Annotated[int, Field(ge=criterion.lowest, le=criterion.highest), BeforeValidator(_no_boolean)]


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a truth value is no grade")  # noqa: TRY004 - pydantic reports ValueErrors only
    return value


TOOL_RUBRIC = Rubric(
    record=(
        "the description of a tool that a program or a language model may call: what the tool is, its API or APIs, "
        "and their parameters."
    ),
    criteria=(
        Criterion(
            name="description",
            description="A reader learns from the tool's description what it is for and all that it can do.",
        ),
        Criterion(
            name="api",
            description="Names of APIs are telling, and their descriptions say precisely and correctly what they do.",
        ),
        Criterion(
            name="parameters",
            description="Everything a call needs is there, with types, meaning, and what is required.",
        ),
        Criterion(
            name="consistency",
            description="Tool, APIs and parameters belong together and complete each other without contradiction.",
        ),
        Criterion(
            name="integration",
            description="A developer could build against it at once, without having to ask for missing details.",
        ),
        Criterion(
            name="usefulness",
            description="There are real uses for it, and it serves those whom it is made for.",
        ),
        Criterion(
            name="score",
            description="The quality of the tool as a whole, all of the above considered.",
        ),
    ),
    headline="score",
)
