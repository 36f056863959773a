"""Where a verdict turns from green to amber to red; every threshold of a verdict and of privacy's findings is here.

The figures are conventions, not laws: a table for software tests may be amber and do its work. Each is compared with
what real rows get in the place of the synthetic ones, because no generator can do better than more real rows. A figure
with a standard error is red only where it is surely beyond its limit (`NORMAL_95` standard errors), so that few rows
make amber, not red.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Up to `green` a figure is green, up to `amber` amber, beyond it red; falling ones the other way round."""

    green: float
    amber: float


DETECTION = Limits(green=0.05, amber=0.15)
"""Faithful: how much farther from 0.5 the ROC-AUC of the detector is for synthetic rows than for real test rows."""
SHAPE = Limits(green=2.0, amber=5.0)
"""Faithful: the shape error in percent, where real test rows have little."""
SHAPE_RATIO = Limits(green=1.5, amber=3.0)
"""Faithful: the shape error by that of real test rows; the larger of both limits holds, as small tables have much."""
LEARNED = Limits(green=0.95, amber=0.85)
"""Useful: the share of what a model learns from real rows, (ROC-AUC - 0.5) by (real ROC-AUC - 0.5), that is kept."""
LEARNABLE = 0.55
"""Useful: a ROC-AUC of real rows below this leaves nothing to be learned, and the question unanswered."""
RMSE_RATIO = Limits(green=1.05, amber=1.15)
"""Useful: the RMSE of a model from synthetic rows by that of one from real rows."""
VALID_LOSS = Limits(green=2.0, amber=10.0)
"""Faithful, of tools and code: percent points fewer records that are valid, or parse, than among real ones."""
BITS_RATIO = Limits(green=0.10, amber=0.30)
"""Faithful, of tools and code: by which share bits per character differ from those of real records, up or down."""

SURE = 3
"""Private: standard errors that make a difference of two shares sure, as for exact copies."""
MEMORISED = 0.55
"""Private: a DCR share surely above this is red."""
NOTICED = 0.52
"""Private: a DCR share, or the ROC-AUC of a membership attack, surely above this is amber: with many rows, what is a
little above 0.5 is surely so and still says nothing of anybody.
"""
RISK = Limits(green=0.02, amber=0.1)
"""Private: a risk of singling out, linkability or attribute inference (0 to 1) surely above these is amber, or red."""
NEAR_RATIO = 0.9
"""Private: an NNDR below this part of the real test rows' own is amber."""
