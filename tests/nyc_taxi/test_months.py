"""Months written YYYY-MM."""

import re
from datetime import UTC, date, datetime

import pytest

from include.nyc_taxi import months
from include.nyc_taxi.errors import MonthError

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
    assert months.first_day(month) == first
    assert months.next_first_day(month) == end


@pytest.mark.parametrize("text", [*NOT_MONTHS, None, 202301, date(2023, 1, 1)])
def test_what_is_not_written_as_a_month_is_refused_with_an_example(text):
    with pytest.raises(MonthError, match=r"expected YYYY-MM, for example 2023-02") as error:
        months.first_day(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", [text for text in NOT_MONTHS if text != "2023-01\n"])
def test_the_pattern_of_the_form_refuses_what_first_day_refuses(text):
    assert not re.search(months.PATTERN, text)  # JSON schema searches, it does not match whole texts


def test_the_pattern_of_the_form_accepts_every_month_of_a_year():
    assert all(re.search(months.PATTERN, month) for month in months.month_range("2023-01", "2023-12"))


@pytest.mark.parametrize("day", [date(2024, 2, 29), datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)])
def test_the_month_of_a_day_is_the_one_that_contains_it(day):
    assert months.month_of(day) == "2024-02"


def test_a_range_has_every_month_from_first_to_last():
    assert months.month_range("2022-11", "2023-02") == ["2022-11", "2022-12", "2023-01", "2023-02"]
    assert months.month_range("2023-05", "2023-05") == ["2023-05"]


def test_a_range_whose_last_month_is_before_its_first_is_refused():
    with pytest.raises(MonthError, match="2023-02 to 2023-01 is empty"):
        months.month_range("2023-02", "2023-01")


def test_a_range_names_the_end_that_is_no_month():
    with pytest.raises(MonthError, match="'2023-2'"):
        months.month_range("2023-01", "2023-2")


def test_a_title_is_the_months_english_name_and_year():
    assert months.title("2023-01") == "January 2023"
    assert months.title("2023-12") == "December 2023"
    assert len({months.title(month) for month in months.month_range("2023-01", "2023-12")}) == 12
