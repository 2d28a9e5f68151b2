"""Requests for reports: what can be asked, and what is wrong with what was asked.

Imports nothing heavy: the DAG file makes its form from this, and is read again and again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import RequestError
from include.nyc_taxi.months import Month

BOROUGHS = ("Manhattan", "Brooklyn", "Queens", "Bronx", "Staten Island", "EWR", "Unknown", "N/A")
"""The boroughs of the TLC's zone lookup. EWR is Newark Airport, N/A is outside of New York City."""

DATE_PATTERN = r"^20\d{2}-\d{2}-\d{2}$"
"""What a date looks like, as a regular expression that JSON schema understands too."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""What a report may be called: it becomes a file's name, and nothing of this leads out of the outputs folder."""


@dataclass(frozen=True)
class Request:
    """A report that was asked for. Made by `parse` only, so that what is in it can be relied on.

    Attributes:
        fleet: a fleet of the catalogue.
        borough: one of BOROUGHS; trips count by the zone they began in.
        start_date, end_date: the days of the pickups, both included.
        name: of the output files, without suffix.
    """

    fleet: str
    borough: str
    start_date: date
    end_date: date
    name: str

    def values(self) -> dict[str, str]:
        """The request as a run's configuration has it: all text, dates as YYYY-MM-DD."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}


def parse(given: object, default_name: str | None = None) -> Request:
    """Check a request as a form, a configuration or a file gives it.

    Args:
        given: a mapping with the keys fleet, borough, start_date, end_date and name, all of them text.
        default_name: serves where `name` is missing.

    Raises:
        RequestError: on one line all that is wrong, not only the first of it.
    """
    if not isinstance(given, Mapping):
        raise RequestError(f"the request is wrong: expected an object with {_listed(_KEYS)}, found {_shown(given)}")
    values = {"name": default_name} | dict(given) if default_name is not None else dict(given)
    wrong = []
    if unknown := values.keys() - set(_KEYS):
        wrong.append(f"unknown keys {_listed(_shown(key) for key in sorted(unknown, key=str)[:5])}")
    if missing := [key for key in _KEYS if key not in values]:
        wrong.append(f"{_listed(missing)} missing: expected {_listed(_KEYS)}")

    for key, allowed in (("fleet", tuple(catalogue.FLEETS)), ("borough", BOROUGHS)):
        if key in values and values[key] not in allowed:
            wrong.append(f"{key} {_shown(values[key])}: expected one of {', '.join(allowed)}")
    days = {key: _date(values[key]) for key in ("start_date", "end_date") if key in values}
    wrong += [
        f"{key} {_shown(values[key])}: expected a date written YYYY-MM-DD, for example 2023-01-31"
        for key, day in days.items()
        if day is None
    ]
    start, end = days.get("start_date"), days.get("end_date")
    if start and end and end < start:
        wrong.append(f"end_date {end} is before start_date {start}")
    if start and values.get("fleet") in tuple(catalogue.FLEETS):
        first = catalogue.fleet(values["fleet"]).first_month
        if start < Month(first).first_day:
            wrong.append(f"start_date {start}: the TLC has no {values['fleet']} trips before {first}")
    if "name" in values and not _fits(NAME_PATTERN, values["name"]):
        wrong.append(
            f"name {_shown(values['name'])}: expected 1 to 64 letters, digits, - and _, the first a letter or digit"
        )
    if wrong or start is None or end is None:
        raise RequestError(f"the request is wrong: {'; '.join(wrong)}")
    return Request(values["fleet"], values["borough"], start, end, values["name"])


_KEYS = tuple(field.name for field in fields(Request))


def _date(value: object) -> date | None:
    if not _fits(DATE_PATTERN, value):
        return None
    try:
        return date.fromisoformat(str(value))
    except ValueError:  # February 30th
        return None


def _fits(pattern: str, value: object) -> bool:
    # Not `match`: to a regular expression's $ a line break at the end is no part of the text.
    return isinstance(value, str) and re.fullmatch(pattern.strip("^$"), value, re.ASCII) is not None


def _shown(value: object) -> str:
    """A value for a message: on one line, and never long."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
