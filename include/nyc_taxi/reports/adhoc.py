"""Requests for reports: one model, which describes the form of `adhoc_request` and checks every request.

The DAG file makes its form from the model's JSON schema and is parsed again and again, so this module imports nothing
heavy. Airflow itself has already imported pydantic.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import RequestError
from include.nyc_taxi.months import Month

Borough = Literal["Manhattan", "Brooklyn", "Queens", "Bronx", "Staten Island", "EWR", "Unknown", "N/A"]
BOROUGHS: tuple[str, ...] = get_args(Borough)
"""The boroughs in the TLC's zone lookup. EWR is Newark Airport, N/A is outside New York City."""

DATE_PATTERN = r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""A report's name becomes a file name. A name that matches cannot lead out of the outputs folder."""

A_DAY = "a date written YYYY-MM-DD, for example 2023-01-31"
A_NAME = "1 to 64 letters, digits, - and _, the first a letter or digit"

SENTENCE = "sentence"
"""The type of errors whose message is complete, with field, expected and found."""


def _known_fleet(name: str) -> str:
    if name not in catalogue.FLEETS:
        raise ValueError("not in the catalogue")
    return name


def _add_fleets(schema: dict[str, Any]) -> None:
    schema["enum"] = list(catalogue.FLEETS)


def _written_as_day(value: object) -> object:
    """Refuse what pydantic would also accept as a date, such as 20230130 or a timestamp."""
    if not (isinstance(value, str) and re.fullmatch(DATE_PATTERN, value)) and not isinstance(value, date):
        raise ValueError("not written YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_written_as_day), Field(json_schema_extra={"pattern": DATE_PATTERN})]


class Request(BaseModel):
    """A request for a report: the trips of one fleet that began in one borough, from the first to the last day.

    The titles and descriptions are what the form shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: Annotated[str, AfterValidator(_known_fleet), Field(json_schema_extra=_add_fleets)] = Field(
        title="Fleet", description="The fleet whose trips are counted."
    )
    borough: Borough = Field(
        title="Borough",
        description="The borough where the trips began. EWR is Newark Airport, N/A is outside New York City.",
    )
    start_date: Day = Field(title="First day", description="The first day of the pickups (included).")
    end_date: Day = Field(title="Last day", description="The last day of the pickups (included).")
    name: str = Field(
        title="Name",
        description=f"The name of the output files: {A_NAME}. An earlier report with this name is replaced.",
        pattern=NAME_PATTERN,
    )

    @field_validator("start_date")
    @classmethod
    def _not_before_the_fleets_first_month(cls, start: date, info: ValidationInfo) -> date:
        fleet = info.data.get("fleet")
        if fleet and start < (earliest := Month(catalogue.fleet(fleet).first_month).first_day):
            raise PydanticCustomError(
                SENTENCE,
                "start_date {found}: the TLC has no {fleet} trips before {month}; expected {earliest} or later",
                {"found": str(start), "fleet": fleet, "month": f"{earliest:%Y-%m}", "earliest": str(earliest)},
            )
        return start

    @field_validator("end_date")
    @classmethod
    def _not_before_the_first_day(cls, end: date, info: ValidationInfo) -> date:
        start = info.data.get("start_date")
        if start and end < start:
            raise PydanticCustomError(
                SENTENCE,
                "end_date {found} is before start_date {start}; expected the same day or a later one",
                {"found": str(end), "start": str(start)},
            )
        return end


def form() -> dict[str, dict[str, Any]]:
    """The JSON schema of each field, with title and description."""
    properties: dict[str, dict[str, Any]] = Request.model_json_schema()["properties"]
    return properties


def parse(given: object, default_name: str | None = None) -> Request:
    """Check a request from a form, a configuration or a file.

    Args:
        given: a mapping from each field's name to its value, which is text.
        default_name: the name of a request that has none.

    Raises:
        RequestError: the message lists all faults on one line, not only the first. Each names the field, what was
            expected and what was found.
    """
    if not isinstance(given, Mapping):
        raise RequestError(f"the request is wrong: expected an object with {_FIELDS}, found {_shown(given)}")
    values = {"name": default_name} | dict(given) if default_name is not None else dict(given)
    try:
        return Request.model_validate(values)
    except ValidationError as error:
        raise RequestError(f"the request is wrong: {'; '.join(_faults(values, error))}") from error


_FIELDS = ", ".join(Request.model_fields)


def _faults(values: Mapping[Any, Any], error: ValidationError) -> list[str]:
    """One phrase for each fault: unknown keys, missing fields, then wrong values."""
    fields, faults = form(), []
    if unknown := [_shown(key) for key in sorted(values, key=str) if key not in fields]:
        faults.append(f"unknown keys {', '.join(unknown[:5])}: expected only {_FIELDS}")
    if missing := [name for name in fields if name not in values]:
        faults.append(f"{', '.join(missing)} missing: expected {_FIELDS}")
    for fault in error.errors(include_url=False):
        name = fault["loc"][0]
        if fault["type"] == SENTENCE:
            faults.append(fault["msg"])
        elif name in fields and name in values:
            faults.append(f"{name} {_shown(values[name])}: expected {_expected(fields[name])}")
    return faults


def _expected(schema: Mapping[str, Any]) -> str:
    """What a field may hold, in words."""
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    return A_DAY if schema.get("format") == "date" else A_NAME


def _shown(value: object) -> str:
    """A value for a message, on one line and never long."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
