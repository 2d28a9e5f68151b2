"""Months written YYYY-MM."""

import re
from datetime import UTC, date, datetime

import pytest

from include.nyc_taxi import months
from include.nyc_taxi.errors import MonthError, WeekError

NOT_MONTHS = [
    "2023-13",
    "2023-00",
    "2023-1",
    "23-01",
    "1999-12",
    "2023-01-01",
    "2023/01",
    " 2023-01",
    "2023-01\n",
    "",
    "x",
]


@pytest.mark.parametrize(
    ("month", "first", "end"),
    [
        ("2023-02", date(2023, 2, 1), date(2023, 3, 1)),
        ("2024-02", date(2024, 2, 1), date(2024, 3, 1)),
        ("2023-12", date(2023, 12, 1), date(2024, 1, 1)),
        ("2023-11", date(2023, 11, 1), date(2023, 12, 1)),
    ],
)
def test_a_month_begins_at_its_first_day_and_ends_before_the_next_months_first(month, first, end):
    assert months.Month(month).first_day == first
    assert months.Month(month).end == end


@pytest.mark.parametrize("text", [*NOT_MONTHS, None, 202301, date(2023, 1, 1)])
def test_a_value_that_is_not_a_month_is_refused_with_an_example(text):
    with pytest.raises(MonthError, match=r"expected YYYY-MM, for example 2023-02") as error:
        months.Month(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", [text for text in NOT_MONTHS if text != "2023-01\n"])
def test_the_pattern_of_the_form_refuses_the_same_values_as_month(text):
    assert not re.search(months.PATTERN, text)  # JSON schema searches the value instead of matching all of it


def test_the_pattern_of_the_form_accepts_every_month_of_a_year():
    assert all(re.search(months.PATTERN, month) for month in months.month_range("2023-01", "2023-12"))


@pytest.mark.parametrize("day", [date(2024, 2, 29), datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)])
def test_the_month_of_a_day_is_the_one_that_contains_it(day):
    assert months.Month.of(day) == "2024-02"


def test_a_range_has_every_month_from_first_to_last():
    assert months.month_range("2022-11", "2023-02") == ["2022-11", "2022-12", "2023-01", "2023-02"]
    assert months.month_range("2023-05", "2023-05") == ["2023-05"]


def test_a_range_whose_last_month_precedes_its_first_is_refused():
    with pytest.raises(MonthError, match="2023-02 to 2023-01 is empty"):
        months.month_range("2023-02", "2023-01")


def test_the_error_for_a_range_names_the_end_that_is_not_a_month():
    with pytest.raises(MonthError, match="'2023-2'"):
        months.month_range("2023-01", "2023-2")


def test_a_label_is_the_months_english_name_and_year():
    assert months.Month("2023-01").label == "January 2023"
    assert months.Month("2023-12").label == "December 2023"
    assert len({months.Month(month).label for month in months.month_range("2023-01", "2023-12")}) == 12


@pytest.mark.parametrize(
    ("day", "monday"),
    [
        (date(2023, 1, 30), date(2023, 1, 30)),
        (date(2023, 2, 5), date(2023, 1, 30)),
        (datetime(2023, 2, 5, 23, 59, tzinfo=UTC), date(2023, 1, 30)),
        ("2023-02-06", date(2023, 2, 6)),
        (date(2023, 1, 1), date(2022, 12, 26)),
    ],
)
def test_the_monday_of_a_day_is_that_of_its_iso_week(day, monday):
    assert type(months.monday_of(day)) is date
    assert months.monday_of(day) == monday


@pytest.mark.parametrize("text", ["2023-02-30", "2023-02", "Monday", "", "'; drop table zones; --"])
def test_a_string_that_is_not_a_day_is_refused_with_an_example(text):
    with pytest.raises(WeekError, match="expected YYYY-MM-DD, for example 2023-01-30"):
        months.monday_of(text)


@pytest.mark.parametrize(
    ("monday", "touched"),
    [
        (date(2023, 1, 23), ["2023-01"]),
        (date(2023, 1, 30), ["2023-01", "2023-02"]),
        (date(2022, 12, 26), ["2022-12", "2023-01"]),
        (date(2023, 5, 1), ["2023-05"]),
    ],
)
def test_a_week_overlaps_the_months_of_its_days(monday, touched):
    assert months.months_of_week(monday) == touched


@pytest.mark.parametrize(
    ("first", "last", "mondays"),
    [
        ("2023-01", "2023-01", [2, 9, 16, 23]),  # the week of the 30th overlaps February
        ("2023-05", "2023-05", [1, 8, 15, 22]),  # begins on a Monday
        ("2021-02", "2021-02", [1, 8, 15, 22]),  # has exactly four weeks
    ],
)
def test_the_weeks_of_a_range_lie_entirely_in_its_months(first, last, mondays):
    year, month = int(first[:4]), int(first[5:])
    assert months.week_range(first, last) == [date(year, month, day) for day in mondays]


def test_the_weeks_of_several_months_have_no_gap():
    weeks = months.week_range("2023-01", "2023-03")
    assert (weeks[0], weeks[-1], len(weeks)) == (date(2023, 1, 2), date(2023, 3, 20), 12)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2023-01", "2023-03", "January to March 2023"),
        ("2023-01", "2023-12", "January to December 2023"),
        ("2022-12", "2023-01", "December 2022 to January 2023"),
        ("2020-05", "2020-05", "May 2020"),
    ],
)
def test_a_span_of_months_does_not_repeat_the_year(first, last, expected):
    assert months.span_label(months.Month(first), months.Month(last)) == expected
