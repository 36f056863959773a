"""Scores of Python code: does it parse, compile and import what exists, what does a linter say, whose copy is it."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from pyflakes.checker import Checker

from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.texts.language import LanguageConfig, TextScorer, evaluate_language
from difflm_evaluators.texts.text_scores import CopiesConfig, copy_scores, percentage, share_score

_LICENCE = re.compile(
    r"copyright|\(c\)\s*(?:19|20)\d\d|©|all rights reserved|spdx-license-identifier|licensed under"
    r"|permission is hereby granted|gnu (?:lesser |affero )?general public license|apache license"
    r"|mozilla public license|redistribution and use",
    re.IGNORECASE,
)
_MAX_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is found in one text without running it. `fault` is None where it parses and compiles."""

    parses: bool
    compiles: bool
    fault: str | None
    lines: int
    modules: tuple[str, ...]
    lint: tuple[str, ...]
    licence: bool


def inspect_code(text: str) -> Inspection:
    """Parse, compile (without running), list imported top-level modules and pyflakes' message classes."""
    lines = sum(1 for line in text.splitlines() if line.strip())
    licence = _LICENCE.search(text) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd literals and escapes in what is only looked at
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return Inspection(
                parses=False, compiles=False, fault=_fault(error), lines=lines, modules=(), lint=(), licence=licence
            )
        fault: str | None = None
        try:
            compile(text, "record", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            fault = _fault(error)
        lint = tuple(type(message).__name__ for message in Checker(tree, filename="record").messages)
    return Inspection(
        parses=True,
        compiles=fault is None,
        fault=fault,
        lines=lines,
        modules=tuple(sorted(imported_modules(tree))),
        lint=lint,
        licence=licence,
    )


def imported_modules(tree: ast.AST) -> set[str]:
    """List the top-level modules that a tree imports by absolute imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def resolves(module: str) -> bool:
    """Tell whether a top-level module is in the standard library or installed here; nothing is imported."""
    if module in sys.stdlib_module_names:
        return True
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def evaluate_source_code(
    synthetic: Sequence[str],
    train: Sequence[str],
    test: Sequence[str] | None,
    config: CopiesConfig,
    *,
    language: LanguageConfig | None = None,
    scorer: TextScorer | None = None,
) -> list[Evaluation]:
    """Make two evaluations, `source_code` and `copies`, and those of the language where it is asked for.

    Nothing is run. Imports depend on what is installed here.
    """
    seen = [inspect_code(text) for text in synthetic]
    trained = [inspect_code(text) for text in train]
    held_out = [inspect_code(text) for text in test] if test else None
    scores = [
        _share("parses", "Parses", "Records that are Python (ast.parse).", seen, held_out),
        _share("compiles", "Compiles", "Records that compile to byte code; nothing is run.", seen, held_out),
        *_import_scores(seen, trained, held_out),
        _lint_score(seen, held_out),
        _share(
            "licence",
            "Licence headers",
            "Records with the words of a copyright notice or licence: such text must not come out.",
            seen,
            held_out,
            lower=True,
        ),
    ]
    copies, nearest = copy_scores(synthetic, train, test, threshold=config.near_duplicate)
    examples: list[JSON] = [[place, found] for place, found in list(nearest.items())[:_MAX_NAMED]]
    return [
        Evaluation(name="source_code", scores=tuple(scores), details=_details(seen, held_out)),
        Evaluation(name="copies", scores=tuple(copies), details={"near_copies": examples}),
        *([] if language is None else evaluate_language(synthetic, train, test, language, scorer=scorer)),
    ]


def _share(
    key: str,
    title: str,
    meaning: str,
    seen: Sequence[Inspection],
    real: Sequence[Inspection] | None,
    *,
    lower: bool = False,
) -> Score:
    flags, beside = ([bool(getattr(one, key)) for one in some] if some else None for some in (seen, real))
    return share_score(f"{key}_share", title, meaning, flags or [], beside, direction="lower" if lower else "higher")


def _import_scores(
    seen: Sequence[Inspection], trained: Sequence[Inspection], real: Sequence[Inspection] | None
) -> list[Score]:
    """Score, of all imported modules, record by record, those that resolve here and those that training imports too."""
    known = {module for one in trained for module in one.modules}

    def flags(some: Sequence[Inspection] | None, known: set[str] | None) -> list[bool]:
        return [
            resolves(module) or (known is not None and module in known) for one in some or () for module in one.modules
        ]

    nothing = "no record imports anything"
    return [
        share_score(
            "resolvable_import_share",
            "Imports that resolve",
            "Imported modules that are in the standard library or installed here; it depends on this machine.",
            flags(seen, None),
            flags(real, None),
            undefined=nothing,
        ),
        share_score(
            "known_import_share",
            "Imports that exist",
            "Imported modules that resolve here or that training code imports; the others may be made up.",
            flags(seen, known),
            flags(real, known),
            undefined=nothing,
        ),
    ]


def _lint_score(seen: Sequence[Inspection], real: Sequence[Inspection] | None) -> Score:
    value, beside = _lint_rate(seen), _lint_rate(real or ())
    return Score(
        name="lint_rate",
        title="Linter's messages per 100 lines",
        meaning="Messages of pyflakes (undefined names, unused imports, ...) per 100 lines of the records that parse.",
        value=value,
        direction="target",
        bounds=(0, None),
        ideal=None,
        baseline=beside,
        baseline_label=None if beside is None else TEST_LABEL,
        undefined_because=None if value is not None else "no record parses",
    )


def _lint_rate(some: Sequence[Inspection]) -> float | None:
    lines = sum(one.lines for one in some if one.parses)
    return 100 * sum(len(one.lint) for one in some) / lines if lines else None


def _details(seen: Sequence[Inspection], real: Sequence[Inspection] | None) -> dict[str, JSON]:
    """List why records do not parse, linter's classes, and modules that are nowhere, synthetic beside real."""
    details: dict[str, JSON] = {}
    for role, some in (("synthetic", seen), ("real_test", real or ())):
        lint = Counter(name for one in some for name in one.lint)
        missing = Counter(module for one in some for module in one.modules if not resolves(module))
        faults = Counter(one.fault for one in some if one.fault is not None)
        details[role] = {
            "faults": {str(fault): count for fault, count in faults.most_common(_MAX_NAMED)},
            "lint": dict(lint.most_common()),
            "records_without_messages": percentage([not one.lint for one in some if one.parses]),
            "unresolved_modules": dict(missing.most_common(_MAX_NAMED)),
        }
    return details


def _fault(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"[:120]
