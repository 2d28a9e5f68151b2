"""Calendar months written `YYYY-MM`: the partition key of everything here."""

import re
from datetime import date

from include.nyc_taxi.errors import MonthError

PATTERN = r"^20\d{2}-(0[1-9]|1[0-2])$"
"""What a month looks like, as a regular expression that JSON schema understands too."""


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
