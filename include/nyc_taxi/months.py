"""The partition keys of this package: calendar months, written `YYYY-MM`, and weeks, identified by their Monday."""

import re
from datetime import date, datetime, timedelta
from typing import Self

from include.nyc_taxi.errors import MonthError, WeekError

PATTERN = r"^20\d{2}-(0[1-9]|1[0-2])$"
"""A regular expression for a month, in the syntax that Python and JSON schema share."""

WEEK = timedelta(days=7)

_NAMES = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
"""English, whatever the locale."""


class Month(str):
    """A calendar month: a string such as "2023-02" that also knows its days and its neighbours.

    Strings from outside are converted to months once, where they enter the program. Because a month is a string, it can
    be put into templates, JSON, file names and SQL unchanged, and months sort by time.

    Raises:
        MonthError: the string does not have the form YYYY-MM.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not re.fullmatch(PATTERN.strip("^$"), text):
            raise MonthError(f"{text!r} is not a month: expected YYYY-MM, for example 2023-02")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, day: date) -> Self:
        """The month that contains `day`, a date or datetime."""
        return cls(f"{day.year:04d}-{day.month:02d}")

    @property
    def first_day(self) -> date:
        """2023-02-01 for 2023-02."""
        return date(int(self[:4]), int(self[5:]), 1)

    @property
    def end(self) -> date:
        """The first day after the month: 2024-01-01 for 2023-12."""
        return self.next.first_day

    @property
    def next(self) -> Self:
        """2024-01 for 2023-12."""
        return self.of(self.first_day + timedelta(days=31))

    @property
    def previous(self) -> Self:
        """2023-12 for 2024-01."""
        return self.of(self.first_day - timedelta(days=1))

    @property
    def label(self) -> str:
        """The month in words: "February 2023" for 2023-02."""
        return f"{_NAMES[self.first_day.month - 1]} {self[:4]}"


def month_range(first: str, last: str) -> list[Month]:
    """All months from `first` to `last`, both included.

    Raises:
        MonthError: `first` or `last` is not a month, or `last` is before `first`.
    """
    month, end = Month(first), Month(last)
    if end < month:
        raise MonthError(f"the range {first} to {last} is empty: its last month is before its first")
    months = [month]
    while months[-1] < end:
        months.append(months[-1].next)
    return months


def monday_of(day: date | str) -> date:
    """The Monday of the ISO week that contains `day`, a date, datetime or string ("2023-02-01" gives 2023-01-30).

    Raises:
        WeekError: `day` is a string that is not a date.
    """
    if isinstance(day, str):
        try:
            day = date.fromisoformat(day)
        except ValueError:
            raise WeekError(f"{day!r} is not a day: expected YYYY-MM-DD, for example 2023-01-30") from None
    if isinstance(day, datetime):
        day = day.date()
    return day - timedelta(days=day.weekday())


def months_of_week(monday: date) -> list[Month]:
    """The one or two months that the week of `monday` overlaps (2023-01-30 gives 2023-01 and 2023-02)."""
    return sorted({Month.of(monday), Month.of(monday + timedelta(days=6))})


def week_range(first: str, last: str) -> list[date]:
    """The Mondays of all weeks that lie entirely in the months from `first` to `last`, both included.

    Raises:
        MonthError: as for `month_range`.
    """
    months = month_range(first, last)
    end = months[-1].end
    monday = monday_of(months[0].first_day + timedelta(days=6))  # the first day itself if that is a Monday
    weeks = []
    while monday + WEEK <= end:
        weeks.append(monday)
        monday += WEEK
    return weeks


def span_label(first: Month, last: Month) -> str:
    """The months from `first` to `last` in words, without repeating the year ("January to March 2023").

    A single month has its own label ("January 2023"); months of two years name both ("December 2022 to March 2023").
    """
    if first == last:
        return first.label
    start = first.label.removesuffix(f" {first[:4]}") if first[:4] == last[:4] else first.label
    return f"{start} to {last.label}"
