"""Learn any table, then synthesise it.

    import difflm

    generator = difflm.fit(table, target="income")        # a pandas or polars DataFrame, an Arrow table, or a path
    rows = generator.sample(1000, where="age >= 40")      # the same kind of frame, with the same dtypes
    report = difflm.evaluate(rows, train=table, test=held_out, target="income")

Nothing is imported before it is asked for, so that `import difflm` stays cheap. This door is the one module of the
platform that knows the packages above it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from difflm.api import Generator as Generator
    from difflm_evaluators import Report as Report
    from difflm_evaluators import compare as compare
    from difflm_evaluators import evaluate as evaluate
    from difflm_jobs.api import fit as fit
    from difflm_jobs.api import load as load
    from difflm_jobs.inputs.databases import write_table as write_table

__version__ = "0.1.0"
__all__ = ["Generator", "Report", "__version__", "compare", "evaluate", "fit", "load", "write_table"]

_BEHIND = {
    "Generator": "difflm.api",
    "Report": "difflm_evaluators",
    "compare": "difflm_evaluators",
    "evaluate": "difflm_evaluators",
    "fit": "difflm_jobs.api",
    "load": "difflm_jobs.api",
    "write_table": "difflm_jobs.inputs.databases",
}


def __getattr__(name: str) -> object:
    if name not in _BEHIND:
        raise AttributeError(f"module 'difflm' has no attribute {name!r}; it has {', '.join(__all__)}")
    found: object = getattr(importlib.import_module(_BEHIND[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
