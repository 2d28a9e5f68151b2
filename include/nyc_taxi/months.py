"""Calendar months written `YYYY-MM`, and weeks by their Monday: the partition keys of everything here."""

import re
from datetime import date, datetime, timedelta

from include.nyc_taxi.errors import MonthError, WeekError

PATTERN = r"^20\d{2}-(0[1-9]|1[0-2])$"
"""What a month looks like, as a regular expression that JSON schema understands too."""


WEEK = timedelta(days=7)


def first_day(month: str) -> date:
    """The first day of `month` ("2023-02" gives 2023-02-01).

    Raises:
        MonthError: `month` is not written YYYY-MM.
    """
    if not isinstance(month, str) or not re.fullmatch(PATTERN.strip("^$"), month):
        raise MonthError(f"{month!r} is not a month: expected YYYY-MM, for example 2023-02")
    return date(int(month[:4]), int(month[5:]), 1)


def next_first_day(month: str) -> date:
    """The first day after `month` ("2023-12" gives 2024-01-01): the month's exclusive end."""
    start = first_day(month)
    return date(start.year + start.month // 12, start.month % 12 + 1, 1)


def month_of(day: date) -> str:
    """The month that contains `day`, a date or datetime."""
    return f"{day.year:04d}-{day.month:02d}"


def month_range(first: str, last: str) -> list[str]:
    """All months from `first` to `last`, both included.

    Raises:
        MonthError: one of them is no month, or `last` is before `first`.
    """
    day, end = first_day(first), first_day(last)
    if end < day:
        raise MonthError(f"the range {first} to {last} is empty: its last month is before its first")
    months = []
    while day <= end:
        months.append(month_of(day))
        day = next_first_day(months[-1])
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


def months_of_week(monday: date) -> list[str]:
    """The months that the week of `monday` touches, one or two (2023-01-30 gives 2023-01 and 2023-02)."""
    return sorted({month_of(monday), month_of(monday + timedelta(days=6))})


def week_range(first: str, last: str) -> list[date]:
    """The Mondays of all weeks that lie wholly in the months from `first` to `last`, both included.

    Raises:
        MonthError: as month_range.
    """
    end = next_first_day(month_range(first, last)[-1])
    monday = monday_of(first_day(first) + timedelta(days=6))  # the first day itself if that is a Monday
    weeks = []
    while monday + WEEK <= end:
        weeks.append(monday)
        monday += WEEK
    return weeks


def title(month: str) -> str:
    """`month` as a reader would say it ("2023-02" gives "February 2023"), whatever the locale."""
    names = [
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
    ]
    day = first_day(month)
    return f"{names[day.month - 1]} {day.year}"


def span_title(first: str, last: str) -> str:
    """The months from `first` to `last` as a reader would say them, no year twice ("January to March 2023").

    One month has its own title ("January 2023"), and months of two years have both ("December 2022 to March 2023").
    """
    if first == last:
        return title(first)
    start = title(first).removesuffix(f" {first[:4]}") if first[:4] == last[:4] else title(first)
    return f"{start} to {title(last)}"
