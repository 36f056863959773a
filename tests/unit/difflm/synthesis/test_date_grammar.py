"""Dates: every date of a range in its format, written with or without leading zeros."""

from datetime import UTC, datetime, timedelta

from difflm.records.dates import FORMATS, parse_datetime
from difflm.records.fields import DatetimeField
from difflm.synthesis.automaton import AutomatonBuilder
from difflm.synthesis.date_grammar import add_date

MOMENTS = [datetime(2019, 9, 5, 0, 7, 9, 20500) + timedelta(days=23.7 * step) for step in range(40)]


def _accepts(field: DatetimeField, texts: list[str]) -> list[bool]:
    builder = AutomatonBuilder()
    start = builder.state()
    (end,) = add_date(builder, start, field, lambda text: tuple(map(ord, text)))
    automaton = builder.build(start=start, final=end)
    return [automaton.accepts([ord(character) for character in f'"{text}"']) for text in texts]


def _field(format: str, low: str, high: str) -> DatetimeField:
    return DatetimeField(name="d", nullable=False, missing_share=0.0, format=format, minimum=low, maximum=high)


def test_every_format_accepts_its_dates() -> None:
    for format in FORMATS:
        texts = [moment.astimezone(UTC).strftime(format) for moment in MOMENTS]
        ordered = sorted(texts, key=lambda text: parse_datetime(text, format) or MOMENTS[0])
        assert all(_accepts(_field(format, ordered[0], ordered[-1]), texts)), format


def test_spelling_variants_that_can_be_read_are_accepted() -> None:
    field = _field("%d %b %Y %H:%M:%S.%f", "01 Jan 2020 00:00:00.0", "31 Dec 2021 00:00:00.0")
    texts = ["1 jan 2020 1:2:3.5", "31 DEC 2021 23:59:59.123456", "07 Feb 2021 01:02:03.25"]
    assert _accepts(field, texts) == [True] * 3


def test_what_no_calendar_has_is_not_accepted() -> None:
    field = _field("%Y-%m-%d", "2020-01-31", "2021-06-01")
    texts = ["2020-13-01", "2020-00-10", "2020-01-32", "2019-12-31", "2022-01-01", "2020-1-1x", "20200101", ""]
    assert not any(_accepts(field, texts))
