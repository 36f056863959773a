"""Scores for synthetic tables: how close to the real table, how useful, how private, how valid.

```python
from difflm_evaluators import compare, evaluate

report = evaluate(synthetic, train=train, test=test, target="income")
report.score("c2st_auc").value
report.save("report.html")
compare({"first": report, "second": "runs/second/report.json"})
```

Evaluators take tables and a schema and return numbers; they never see models. What is heavy is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difflm_evaluators.api import compare, evaluate
    from difflm_evaluators.base import Score
    from difflm_evaluators.report.comparison_report import Comparison
    from difflm_evaluators.report.report import Report

__all__ = ["Comparison", "Report", "Score", "compare", "evaluate"]

_PLACES = {
    "compare": "api",
    "evaluate": "api",
    "Comparison": "report.comparison_report",
    "Report": "report.report",
    "Score": "base",
}


def __getattr__(name: str) -> Any:
    """Import what was asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List what can be imported."""
    return sorted([*globals(), *__all__])
