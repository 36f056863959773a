"""A diagnosis in words: its tables, and the sentences that say where fidelity is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from difflm_evaluators.diagnosis.detector import Measured
from difflm_evaluators.diagnosis.diagnosis import (
    DECODER,
    DRAWS,
    HELD_OUT,
    RECONSTRUCTED,
    TITLES,
    Diagnosis,
    PairUse,
    SourceResult,
)
from difflm_evaluators.diagnosis.exactness import Atom, EqualColumns
from difflm_evaluators.report.rows import value_or_date

SHOWN = 10
FEWEST = 0.02
"""A difference of C2ST that is worth a word; it must be twice its standard error as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A table of a diagnosis: what it says, its cells, and the same as numbers by source, to be drawn."""

    name: str
    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: Mapping[str, Sequence[float | None]]
    """By what a picture's legend calls them: a number for each row, None where there is none."""


def findings(diagnosis: Diagnosis) -> tuple[Finding, ...]:
    """Lay out what there is to show; a finding without rows is left out."""
    measured = [source for source in diagnosis.sources if source.unavailable is None]
    found = [
        _sources(diagnosis),
        _columns(measured),
        _pairs(
            measured,
            name="pairs",
            title="Pairs with the largest trend errors",
            note="How far the relation of two columns is from the real one; what exceeds held-out rows most is first.",
            number=lambda pair: pair.error,
            beyond=True,
        ),
        _pairs(
            measured,
            name="interactions",
            title="Pairs that the detector used",
            note="Share of what it gained by splits on one column right below the other, beyond shuffled tables. Of "
            "rows that cannot be told from real ones the shares mean nothing.",
            number=lambda pair: pair.gain_share,
        ),
        _equal(diagnosis.equal_columns, measured),
        _atoms(diagnosis, measured),
    ]
    return tuple(one for one in found if one.rows)


def _sources(diagnosis: Diagnosis) -> Finding:
    rows = []
    for source in diagnosis.sources:
        if source.unavailable is not None:
            rows.append((source.title, "–", "not available", *["–"] * 5))
            continue
        parts = source.detector
        figures = ["not available", *["–"] * 3]
        if parts is not None:
            figures = [*map(measured_text, (parts.whole, parts.columns, parts.dependency, parts.cross))]
        errors = ["–" if error is None else f"{error:.2f}" for error in (source.shape_error, source.trend_error)]
        rows.append((source.title, f"{source.rows:,}", *figures, *errors))
    detected = [source.detector for source in diagnosis.sources]
    return Finding(
        name="sources",
        title="Where fidelity is lost",
        note="C2ST: how well boosted trees tell the rows from real training rows, 0.5 not at all, 1 always; shuffled: "
        "the same after every column of both tables is shuffled by itself, so that single columns are left to find. "
        "The dependency part is the difference, the cross part what shuffling numbers against categories takes away.",
        heads=(
            *("source", "rows", "C2ST", "shuffled", "dependency", "cross"),
            *("shape %", "trend %"),
        ),
        rows=tuple(rows),
        values={
            "C2ST": [None if parts is None else parts.whole.value for parts in detected],
            "numbers shuffled against categories": [_value(None if one is None else one.blocks) for one in detected],
            "columns shuffled": [_value(None if one is None else one.columns) for one in detected],
        },
    )


def measured_text(measured: Measured | None) -> str:
    """Write a number with its standard error; a dash for None."""
    return "–" if measured is None else f"{measured.value:.3f} ±{measured.standard_error:.3f}"


def _value(measured: Measured | None) -> float | None:
    return None if measured is None else measured.value


def _columns(measured: Sequence[SourceResult]) -> Finding:
    uses = {source.title: {use.name: use for use in source.columns} for source in measured}
    names = _most({title: {name: use.gain_share for name, use in own.items()} for title, own in uses.items()})
    cells = [[_used(own[name].gain_share, own[name].error) for own in uses.values()] for name in names]
    return Finding(
        name="columns",
        title="Columns that the detector used",
        note="Share of the gain of all its splits; below it the column's own shape error. Of rows that cannot be told "
        "from real ones the shares mean nothing.",
        heads=("column", *uses),
        rows=tuple((name, *row) for name, row in zip(names, cells, strict=True)),
        values={title: [own[name].gain_share for name in names] for title, own in uses.items()},
    )


def _used(share: float | None, error: float) -> str:
    return f"{'–' if share is None else f'{100 * share:.0f} %'}, error {100 * error:.2f} %"


def _pairs(
    measured: Sequence[SourceResult],
    *,
    name: str,
    title: str,
    note: str,
    number: Callable[[PairUse], float | None],
    beyond: bool = False,
) -> Finding:
    numbers = {
        source.title: {f"{pair.first} × {pair.second}": number(pair) for pair in source.pairs} for source in measured
    }
    labels = _most(numbers, beyond=numbers.get(TITLES[HELD_OUT], {}) if beyond else {})
    values = {title: [own.get(label) for label in labels] for title, own in numbers.items()}
    return Finding(
        name=name, title=title, note=note, heads=("pair", *values), rows=_percentages(labels, values), values=values
    )


def _most(
    numbers: Mapping[str, Mapping[str, float | None]], *, beyond: Mapping[str, float | None] | None = None
) -> list[str]:
    """List what has the largest numbers, `beyond` others, in any source but the held-out rows, the largest first."""
    largest: dict[str, float] = {}
    for title, own in numbers.items():
        for label, number in own.items() if title != TITLES[HELD_OUT] else ():
            if number:
                excess = number - ((beyond or {}).get(label) or 0.0)
                largest[label] = max(excess, largest.get(label, excess))
    return sorted(largest, key=lambda label: -largest[label])[:SHOWN]


def _percentages(labels: Sequence[str], values: Mapping[str, Sequence[float | None]]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (label, *("–" if one[place] is None else f"{100 * (one[place] or 0.0):.2f} %" for one in values.values()))
        for place, label in enumerate(labels)
    )


def _equal(found: Sequence[EqualColumns], measured: Sequence[SourceResult]) -> Finding:
    labels = [f"{one.first} = {one.second}" for one in found[:SHOWN]]
    values = _shares(found[:SHOWN], measured)
    return Finding(
        name="equal",
        title="Columns that are equal",
        note="Rows in which two columns hold the same number, zeros not counted.",
        heads=("columns", *values),
        rows=_percentages(labels, values),
        values=values,
    )


def _atoms(diagnosis: Diagnosis, measured: Sequence[SourceResult]) -> Finding:
    found = diagnosis.atoms[:SHOWN]
    labels = [f"{one.column} = {value_or_date(one.value, diagnosis.columns[one.column])}" for one in found]
    values = _shares(found, measured)
    return Finding(
        name="atoms",
        title="Numbers that many rows share",
        note="Shares of the rows with exactly this number.",
        heads=("number", *values),
        rows=_percentages(labels, values),
        values=values,
    )


REAL = "real training rows"


def _shares(found: Iterable[EqualColumns | Atom], measured: Sequence[SourceResult]) -> dict[str, list[float | None]]:
    listed = list(found)
    shares: dict[str, list[float | None]] = {REAL: [one.real for one in listed]}
    for source in measured:
        shares[source.title] = [one.shares[source.name] for one in listed]
    return shares


def conclusions(diagnosis: Diagnosis) -> list[str]:
    """Say in sentences where fidelity is lost, as far as the figures carry it."""
    sources = {source.name: source for source in diagnosis.sources}
    whole = {name: None if one.detector is None else one.detector.whole for name, one in sources.items()}
    coin = Measured(value=0.5, standard_error=0.0)
    floor = max((whole.get(HELD_OUT) or coin, coin), key=lambda one: one.value)
    said = []
    if (through := whole.get(RECONSTRUCTED)) is not None:
        lost = _lost(through, floor)
        said.append(f"codec, encoder, injector and decoder: {lost or 'no loss that the detector finds'}")
    if (draws := whole.get(DRAWS)) is not None and through is not None:
        more = _lost(draws, through)
        said.append(f"the prior: {f'{more} more' if more else 'no further loss that the detector finds'}")
    if (alone := whole.get(DECODER)) is not None and draws is not None:
        said.append(f"the decoder alone: {_beside(alone, draws)}")
    said += _kind_of_loss(sources.get(DRAWS), floor)
    return said


def _lost(found: Measured, beside: Measured) -> str | None:
    """Say how much more the detector finds; None where it is within the noise."""
    difference = found.less(beside)
    assert difference is not None
    worth = difference.value >= max(FEWEST, 2 * difference.standard_error)
    return f"C2ST {beside.value:.3f} to {found.value:.3f}, {difference.value:.3f}" if worth else None


def _beside(alone: Measured, draws: Measured) -> str:
    if _lost(draws, alone):
        return f"C2ST {alone.value:.3f}, better than the whole pipeline ({draws.value:.3f}): the latent costs fidelity"
    if _lost(alone, draws):
        return f"C2ST {alone.value:.3f}, worse than the whole pipeline ({draws.value:.3f}): the latent brings fidelity"
    return f"C2ST {alone.value:.3f}, as the whole pipeline ({draws.value:.3f})"


def _kind_of_loss(draws: SourceResult | None, floor: Measured) -> list[str]:
    if draws is None or draws.detector is None or draws.detector.columns is None or not draws.detector.gain_shares:
        return []
    parts = draws.detector
    if _lost(parts.whole, floor) is None or parts.dependency is None or parts.columns is None:
        return []
    share = min(1.0, max(0.0, parts.dependency.value / max(parts.whole.value - 0.5, FEWEST)))
    used = ", ".join(f"{name} ({100 * gain:.0f} %)" for name, gain in list(parts.gain_shares.items())[:3])
    what = "relations between columns" if share >= 0.5 else "single columns"
    return [
        f"what gives draws of the prior away are mostly {what}: of C2ST - 0.5, {100 * share:.0f} % goes when columns "
        f"are shuffled; the detector used {used} most"
    ]


def notes(diagnosis: Diagnosis) -> list[str]:
    """List what belongs below the tables, a line each."""
    lines = [f"detector: {diagnosis.detector}; a stronger one finds more"]
    texts = [name for name, kind in diagnosis.columns.items() if kind in ("text", "json")]
    if texts:
        lines.append(
            f"free text takes part in the shape error only, by its length: {', '.join(texts[:SHOWN])}"
            + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
        )
    for source in diagnosis.sources:
        reason = source.unavailable or source.undetected
        if reason is not None:
            lines.append(f"{source.title}: {'' if source.unavailable else 'C2ST '}not available: {reason}")
        if source.account.get("given_up"):
            lines.append(f"{source.title}: {source.account['given_up']:,} indices had no valid draw and are left out")
    return lines
