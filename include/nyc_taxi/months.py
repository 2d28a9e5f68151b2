"""Calendar months written `YYYY-MM`, and weeks by their Monday: the partition keys of everything here."""

import re
from datetime import date, datetime, timedelta
from typing import Self

from include.nyc_taxi.errors import MonthError, WeekError

PATTERN = r"^20\d{2}-(0[1-9]|1[0-2])$"
"""What a month looks like, as a regular expression that JSON schema understands too."""


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
"""Whatever the locale."""


class Month(str):
    """A calendar month: a text such as "2023-02" that also knows its days and its neighbours.

    Text from outside becomes a month once, where it enters. Being a text, a month can be put into templates, JSON, file
    names and SQL as it is, and months sort by time.

    Raises:
        MonthError: the text is not written YYYY-MM.
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
        """2023-02 has 2023-02-01."""
        return date(int(self[:4]), int(self[5:]), 1)

    @property
    def end(self) -> date:
        """The first day after the month: 2023-12 has 2024-01-01."""
        return self.next.first_day

    @property
    def next(self) -> Self:
        """2023-12 has 2024-01."""
        return self.of(self.first_day + timedelta(days=31))

    @property
    def previous(self) -> Self:
        """2024-01 has 2023-12."""
        return self.of(self.first_day - timedelta(days=1))

    @property
    def label(self) -> str:
        """As a reader would say it: 2023-02 has "February 2023"."""
        return f"{_NAMES[self.first_day.month - 1]} {self[:4]}"


def month_range(first: str, last: str) -> list[Month]:
    """All months from `first` to `last`, both included.

    Raises:
        MonthError: one of them is no month, or `last` is before `first`.
    """
    month, end = Month(first), Month(last)
    if end < month:
        raise MonthError(f"the range {first} to {last} is empty: its last month is before its first")
    months = [month]
    while months[-1] < end:
        months.append(months[-1].next)
    return months


def monday_of(day: date | str) -> date:
    """The Monday of the ISO week that contains `day`, a date, datetime or text ("2023-02-01" gives 2023-01-30).

    Raises:
        WeekError: `day` is a text that is no date.
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
    """The months that the week of `monday` touches, one or two (2023-01-30 gives 2023-01 and 2023-02)."""
    return sorted({Month.of(monday), Month.of(monday + timedelta(days=6))})


def week_range(first: str, last: str) -> list[date]:
    """The Mondays of all weeks that lie wholly in the months from `first` to `last`, both included.

    Raises:
        MonthError: as month_range.
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
    """The months from `first` to `last` as a reader would say them, no year twice ("January to March 2023").

    One month has its own label ("January 2023"), and months of two years have both ("December 2022 to March 2023").
    """
    if first == last:
        return first.label
    start = first.label.removesuffix(f" {first[:4]}") if first[:4] == last[:4] else first.label
    return f"{start} to {last.label}"
