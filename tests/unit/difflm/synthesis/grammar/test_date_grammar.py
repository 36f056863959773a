"""Dates: exactly the dates of given ranges in their format, written with or without leading zeros."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.records.kinds.codes import IntervalSet, moment_code, whole_domain
from difflm.records.kinds.moments import FORMATS, microseconds, parse_datetime
from difflm.records.schema import DatetimeField
from difflm.synthesis.grammar.automaton import Automaton, AutomatonBuilder
from difflm.synthesis.grammar.calendar_boxes import boxes
from difflm.synthesis.grammar.chains import Words
from difflm.synthesis.grammar.dates import add_date, any_date, longest_date
from difflm.testing.lockstep import random_walks

MOMENTS = [datetime(2019, 9, 5, 0, 7, 9, 20500, tzinfo=UTC) + timedelta(days=23.7 * step) for step in range(40)]
EARLIEST, LATEST = microseconds(datetime(1970, 1, 1, tzinfo=UTC)), microseconds(datetime(2060, 1, 1, tzinfo=UTC))
UNZONED = [format for format in FORMATS if "%z" not in format]


def _automaton(field: DatetimeField, codes: IntervalSet) -> Automaton:
    builder = AutomatonBuilder()
    start = builder.state()
    (end,) = add_date(builder, start, field, codes, lambda text: tuple(map(ord, text)))
    return builder.build(start=start, final=end)


def _accepts(field: DatetimeField, texts: list[str], codes: IntervalSet | None = None) -> list[bool]:
    automaton = _automaton(field, codes or whole_domain(field).codes)
    return [automaton.accepts([ord(character) for character in f'"{text}"']) for text in texts]


def _field(format: str, low: str, high: str) -> DatetimeField:
    return DatetimeField(name="d", nullable=False, missing_share=0.0, format=format, minimum=low, maximum=high)


def test_every_format_accepts_its_dates() -> None:
    for format in (*FORMATS[::5], "%Y年%m月%d日", "%Y년 %m월 %d일"):
        texts = [moment.strftime(format) for moment in MOMENTS]
        ordered = sorted(texts, key=lambda text: parse_datetime(text, format) or MOMENTS[0])
        field = _field(format, ordered[0], ordered[-1])
        assert all(_accepts(field, texts)), format
        assert max(map(len, texts)) <= longest_date(field)


def test_spelling_variants_that_can_be_read_are_accepted() -> None:
    field = _field("%d %b %Y %H:%M:%S.%f", "01 Jan 2020 00:00:00.0", "31 Dec 2021 23:59:59.2")
    texts = ["1 jan 2020 1:2:3.5", "31 DEC 2021 23:59:59.123456", "07 Feb 2021 01:02:03.25"]
    assert _accepts(field, texts) == [True] * 3
    assert (
        _accepts(field, ["31 Dec 2021 23:59:59.200001", "31 Dec 2021 23:59:59.3", "31 Dec 2021 23:59:59."])
        == [False] * 3
    )


def test_what_no_calendar_or_range_has_is_not_accepted() -> None:
    field = _field("%Y-%m-%d", "2020-01-31", "2021-06-01")
    texts = ["2020-13-01", "2020-00-10", "2020-01-32", "2019-12-31", "2022-01-01", "2020-1-1x", "20200101", ""]
    texts += ["2021-02-29", "2020-04-31", "2020-01-30", "2021-06-02", "2020-02-30"]
    assert not any(_accepts(field, texts))
    assert all(_accepts(field, ["2020-02-29", "2020-1-31", "2021-6-1", "2021-05-31"]))


def test_leading_zeros_are_written_as_training_writes_them() -> None:
    texts = ["07/03/21 8:05Z", "7/3/21 8:5Z", "07/03/21 08:05Z", "7/3/21 8:05Z", "11/12/21 10:10Z"]
    field = _field("%m/%d/%y %H:%M%z", "10/10/20 12:12Z", "11/11/22 10:10Z")
    assert _accepts(field, texts) == [True] * 5
    assert _accepts(field.model_copy(update={"padded": "mdHM"}), texts) == [False, False, True, False, True]
    assert _accepts(field.model_copy(update={"bare": "mdHM"}), texts) == [False, True, False, False, True]
    assert _accepts(field.model_copy(update={"padded": "M", "bare": "mdH"}), texts) == [False, False, False, True, True]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(UNZONED), st.integers(0, 2**32))
def test_walks_of_any_ranges_are_inside_and_nothing_inside_is_left_out(
    data: st.DataObject, format: str, seed: int
) -> None:
    def written(code: int) -> str:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=code)).strftime(format)

    starts = data.draw(st.lists(st.integers(EARLIEST, LATEST), min_size=1, max_size=3))
    widths = data.draw(st.lists(st.sampled_from([0, 10**6, 10**9, 10**11, 10**13, 10**15]), min_size=3, max_size=3))
    field = _field(format, written(EARLIEST), written(LATEST))
    # Moments as the format writes them, so that each range holds at least the one it begins with.
    codes = IntervalSet.of(
        (moment_code(field, written(start)), moment_code(field, written(start)) + width)
        for start, width in zip(starts, widths, strict=False)
    )
    automaton = _automaton(field, codes)
    for tokens in random_walks(automaton, range(5), seed=seed, longest=longest_date(field) + 2):
        assert moment_code(field, "".join(map(chr, tokens))[1:-1]) in codes
    others = data.draw(st.lists(st.integers(EARLIEST, LATEST), max_size=5))
    for text in map(written, [*starts, *others]):
        accepted = automaton.accepts([ord(character) for character in f'"{text}"'])
        assert accepted == (moment_code(field, text) in codes), text


def test_texts_with_a_zone_are_at_most_a_day_outside() -> None:
    field = _field("%Y-%m-%d %H:%M%z", "2020-01-01 00:00+00:00", "2020-12-31 00:00+00:00")
    codes = IntervalSet.of([(moment_code(field, "2020-03-01 10:00Z"), moment_code(field, "2020-03-02 10:00Z"))])
    day = 24 * 3600 * 10**6
    wide = IntervalSet.of((low - 2 * day, high + 2 * day) for low, high in codes.spans)
    for tokens in random_walks(_automaton(field, codes), range(40), seed=0, longest=30):
        assert moment_code(field, "".join(map(chr, tokens))[1:-1]) in wide
    assert all(_accepts(field, ["2020-03-01 10:00Z", "2020-03-02 12:30+0230", "2020-03-01 05:00-05:00"], codes))


def test_between_two_midnights_there_is_no_day() -> None:
    field = _field("%Y-%m-%d", "2020-01-31", "2021-06-01")
    noon = microseconds(datetime(2020, 5, 5, 12, tzinfo=UTC))
    inside = IntervalSet.of([(noon, noon + 10**6)])
    builder = AutomatonBuilder()
    assert not any_date(field, inside)
    assert add_date(builder, builder.state(), field, inside, lambda text: tuple(map(ord, text))) == set()
    assert any_date(field, IntervalSet.of([(noon, noon + 24 * 3600 * 10**6)]))


def test_boxes_are_disjoint_and_few() -> None:
    start, stop = datetime(2019, 11, 30, 22, 59, 58, 7, tzinfo=UTC), datetime(2021, 3, 1, 0, 0, 1, tzinfo=UTC)
    found = list(boxes(microseconds(start), microseconds(stop)))
    assert len(found) < 60
    moments = [start + timedelta(hours=hours) for hours in (-1, 0, 0.5, 1, 24, 2160, 2184, 10000, 10945, 10946, 11000)]
    for moment in moments:
        holding = [
            box
            for box in found
            if moment.year in box.year_list()
            and moment.month in box.months
            and all(
                low <= value <= high
                for value, (low, high) in zip(
                    (moment.day, moment.hour, moment.minute, moment.second, moment.microsecond),
                    (box.days, box.hours, box.minutes, box.seconds, box.microseconds),
                    strict=True,
                )
            )
        ]
        assert len(holding) == (start <= moment <= stop)


def test_days_are_not_looked_through_for_every_character() -> None:
    """Dates from year 1 to 9999 took seconds whenever a bundle was opened."""
    looks = 0

    class Days(frozenset[str]):
        def __iter__(self) -> Iterator[str]:
            nonlocal looks
            looks += 1
            return super().__iter__()

    words = Words(Days(f"{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)))
    assert set(words.following("0")) == set("123456789")
    assert set(words.following("12-2")) == set("012345678")
    assert not [*words.following("13")]
    assert looks == 1
