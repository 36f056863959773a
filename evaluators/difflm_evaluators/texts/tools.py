"""Scores of tool records: do they fit the schema, are their parameters consistent, are they new, are they like others.

A record has the keys of `difflm.records.tool_codec`. Scores of what a record says leave out those that do not fit the
schema, which the first score counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jsonschema import Draft202012Validator

from difflm.errors import DataError
from difflm.records.tool_codec import KEYS, ToolRecord, parameters_text, record_schema
from difflm.telemetry import JSON, parse_json
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.texts.language import LanguageConfig, TextScorer, evaluate_language, read_tool
from difflm_evaluators.texts.text_scores import CopiesConfig, copy_scores, share_score

_MAX_NAMED = 20
Records = Sequence[Mapping[str, Any]]


def evaluate_tools(
    synthetic: Records,
    train: Records,
    test: Records | None,
    config: CopiesConfig,
    *,
    language: LanguageConfig | None = None,
    scorer: TextScorer | None = None,
) -> list[Evaluation]:
    """Make three evaluations: `tools`, `copies` and `tool_texts`, and those of the language where it is asked for.

    DataError when a real record does not fit the schema: all others would be measured by it.
    """
    if not train:
        raise DataError("no real tools to compare with; give at least one")
    schema = record_schema(_types(train))
    for role, records in (("training", train), ("test", test or ())):
        _check_real(records, record_schema(_types(records)), role)
    faults = [_fault(Draft202012Validator(schema), record) for record in synthetic]
    valid = [dict(record) for record, fault in zip(synthetic, faults, strict=True) if fault is None]
    real = list(test) if test else None
    copies, nearest = copy_scores(
        list(map(_text, valid)),
        list(map(_text, train)),
        list(map(_text, real)) if real else None,
        threshold=config.near_duplicate,
    )
    examples: list[JSON] = [[place, found] for place, found in list(nearest.items())[:_MAX_NAMED]]
    reasons = Counter(fault for fault in faults if fault is not None)
    return [
        Evaluation(
            name="tools",
            scores=(
                share_score(
                    "valid_share",
                    "Fit the schema",
                    "Records with the keys and types of a tool record, parameter types among those of training.",
                    [fault is None for fault in faults],
                    [True] * len(real) if real else None,
                ),
                share_score(
                    "consistent_share",
                    "Consistent parameters",
                    "Valid records whose parameters have different names, required ones before optional ones.",
                    list(map(_is_consistent, valid)),
                    list(map(_is_consistent, real)) if real else None,
                    undefined="no record is valid",
                ),
                _coverage(valid, train, real),
            ),
            details={"faults": dict(reasons.most_common(_MAX_NAMED)), "categories": _category_counts(valid, train)},
        ),
        Evaluation(name="copies", scores=tuple(copies), details={"near_copies": examples}),
        _texts(valid, train, real),
        *_language(valid, train, real, language, scorer),
    ]


def _language(
    valid: Records, train: Records, real: Records | None, config: LanguageConfig | None, scorer: TextScorer | None
) -> list[Evaluation]:
    if config is None:
        return []
    made, trained, beside = ([read_tool(record) for record in some or ()] for some in (valid, train, real))
    return evaluate_language(made, trained, beside, config, scorer=scorer)


def _check_real(records: Records, schema: Mapping[str, Any], role: str) -> None:
    validator = Draft202012Validator(schema)
    for place, record in enumerate(records, start=1):
        fault = _fault(validator, record)
        if fault is not None:
            raise DataError(f"{role} record {place}: {fault}; give records with the keys {', '.join(KEYS)}")


def _types(records: Records) -> set[str]:
    """List every type of a parameter; one that no schema allows where there are none: no enumeration is empty."""
    lists = (record.get("parameters") for record in records)
    found = {one.get("type") for some in lists if isinstance(some, list) for one in some if isinstance(one, Mapping)}
    return {kind for kind in found if isinstance(kind, str)} or {""}


def _fault(validator: Draft202012Validator, record: Mapping[str, Any]) -> str | None:
    """Name the first fault as its place and the rule that is broken; no values, which would never repeat."""
    error = next(iter(validator.iter_errors(record)), None)
    if error is None:
        return None
    place = "/".join(str(part) for part in error.absolute_path if not isinstance(part, int))
    return f"{place or 'record'}: {error.validator}"


def _is_consistent(record: Mapping[str, Any]) -> bool:
    names = [parameter["name"] for parameter in record["parameters"]]
    required = [parameter["required"] for parameter in record["parameters"]]
    return len(set(names)) == len(names) and required == sorted(required, reverse=True)


def _text(record: Mapping[str, Any]) -> str:
    """Return what is compared: all but the category, so that a copy in another category is a copy."""
    parts = [str(record[key] or "") for key in KEYS[1:-1]]
    return "\n".join([*parts, parameters_text(record["parameters"])])


def _coverage(valid: Sequence[ToolRecord], train: Records, real: Records | None) -> Score:
    wanted = sorted({record["category"] for record in train})
    seen, beside = ({record["category"] for record in some or ()} for some in (valid, real))
    return share_score(
        "category_coverage",
        "Categories covered",
        "Categories of training that occur.",
        [category in seen for category in wanted],
        [category in beside for category in wanted] if real else None,
    )


def _category_counts(valid: Sequence[ToolRecord], train: Records) -> dict[str, JSON]:
    real, made = (Counter(record["category"] for record in some) for some in (train, valid))
    return {category: {"train": count, "synthetic": made[category]} for category, count in real.most_common()}


def _texts(valid: Sequence[ToolRecord], train: Records, real: Records | None) -> Evaluation:
    """Score how much a record says (Kolmogorov-Smirnov distances to training) and how many words and pairs differ."""
    measures: tuple[tuple[str, str, Callable[[Mapping[str, Any]], int]], ...] = (
        (
            "description_length_error",
            "length of API descriptions in words",
            lambda r: len(_words(r["api_description"])),
        ),
        ("parameter_count_error", "number of parameters", lambda r: len(r["parameters"])),
    )
    scores = [_distance(name, what, measure, valid, train, real) for name, what, measure in measures]
    scores.append(_distinct_pairs(valid, train, real))
    means: dict[str, JSON] = {
        what: {
            role: float(np.mean([measure(record) for record in some])) if some else None
            for role, some in (("synthetic", valid), ("train", train), ("test", real or ()))
        }
        for _, what, measure in measures
    }
    return Evaluation(name="tool_texts", scores=tuple(scores), details={"means": means})


def _distance(
    name: str,
    what: str,
    measure: Callable[[Mapping[str, Any]], int],
    valid: Sequence[ToolRecord],
    train: Records,
    real: Records | None,
) -> Score:
    from scipy.stats import ks_2samp

    def error(some: Records) -> float:
        return 100 * float(ks_2samp([measure(r) for r in some], [measure(r) for r in train], method="asymp").statistic)

    return _beside_real(
        name, what[0].upper() + what[1:], f"Kolmogorov-Smirnov distance to training of the {what}.", error, valid, real,
        direction="lower",
    )  # fmt: skip


def _distinct_pairs(valid: Sequence[ToolRecord], train: Records, real: Records | None) -> Score:
    """Score different pairs among as many records of each side: a larger text has fewer new pairs."""
    fewest = min(len(some) for some in (valid, train, real or train) if some)

    def distinct(some: Records) -> float:
        pairs = [pair for record in some[:fewest] for pair in _pairs(_words(record["api_description"]))]
        return 100 * len(set(pairs)) / max(1, len(pairs))

    return _beside_real(
        "distinct_pairs",
        "Different word pairs",
        f"Different pairs of successive words in API descriptions among all, first {fewest:,} records of each side.",
        distinct,
        valid,
        real,
        direction="target",
    )


def _beside_real(
    name: str,
    title: str,
    meaning: str,
    measure: Callable[[Records], float],
    valid: Sequence[ToolRecord],
    real: Records | None,
    *,
    direction: Literal["lower", "target"],
) -> Score:
    return Score(
        name=name,
        title=title,
        meaning=meaning,
        value=measure(valid) if valid else None,
        undefined_because=None if valid else "no record is valid",
        direction=direction,
        unit="%",
        bounds=(0, 100),
        ideal=0.0 if direction == "lower" else None,
        baseline=measure(real) if real else None,
        baseline_label=TEST_LABEL if real else None,
    )


def _words(text: str | None) -> list[str]:
    return (text or "").lower().split()


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(pairwise(words))


def read_record(row: Mapping[str, Any], place: str) -> ToolRecord:
    """Read a record whose `parameters` may be JSON text, as a table holds them. DataError naming the place."""
    record = dict(row)
    if isinstance(record.get("parameters"), str):
        try:
            record["parameters"] = parse_json(record["parameters"])
        except ValueError:
            # the schema's check counts it: a text is no list
            return record
    absent = [key for key in KEYS if key not in record]
    if absent:
        raise DataError(f"{place}: no key {absent[0]!r}; a tool record has {', '.join(KEYS)}")
    return record
