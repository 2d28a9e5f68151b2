"""What a fleet, a layout and a column are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from include.nyc_taxi.errors import MonthError
from include.nyc_taxi.months import Month


@dataclass(frozen=True)
class Column:
    """A column of one of our trip tables.

    Attributes:
        name: our name, in snake case.
        type: its DuckDB type, to which every file's column is cast.
        published_as: the TLC's name for it. Compared without regard to case: `airport_fee` became `Airport_fee`.
    """

    name: str
    type: str
    published_as: str


@dataclass(frozen=True)
class Coded:
    """A published column of texts in place of the ids of the TLC's data dictionary.

    Attributes:
        codes: the id of each text, in capitals and without spaces around it; None where the dictionary has no id for it.
    """

    published_as: str
    codes: Mapping[str, int | str | None]


@dataclass(frozen=True)
class Coordinates:
    """Two published columns in degrees (WGS84) in place of a zone id."""

    longitude: str
    latitude: str


Origin = str | Coded | Coordinates
"""What of a file becomes a column of ours; a string is the name of the file's column, which is cast."""


@dataclass(frozen=True)
class Layout:
    """The columns of a fleet's files over a span of months, in the files' own order.

    Attributes:
        first_month, last_month: the span, both included; None is "until now".
        columns: (name, DuckDB type) pairs as published.
        origins: for layouts that are not of today's names and codes, what becomes which column of ours, by our name.
    """

    first_month: str
    last_month: str | None
    columns: tuple[tuple[str, str], ...]
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def has_zones(self) -> bool:
        """False where trips have coordinates in place of zone ids."""
        return not any(isinstance(origin, Coordinates) for origin in self.origins.values())


@dataclass(frozen=True)
class Fleet:
    """A kind of taxi for which the TLC publishes one file a month.

    Attributes:
        layouts: in order of time; where spans overlap, the later in the list is the more special one and wins.
        never_empty: our names of columns that have a value in some trips of every month that the TLC has published.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    columns: tuple[Column, ...]
    never_empty: tuple[str, ...] = ("pickup_datetime",)

    @property
    def first_month(self) -> Month:
        return Month(self.layouts[0].first_month)

    @property
    def table(self) -> str:
        return f"{self.name}_trips"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Our column names, in the table's order, without `partition_month`."""
        return tuple(column.name for column in self.columns)

    @property
    def has_reversals(self) -> bool:
        """Whether trips have what tells a reversed charge: times, and an amount that can be negative."""
        return {"pickup_datetime", "dropoff_datetime", "total_amount"} <= set(self.column_names)

    @property
    def table_columns(self) -> dict[str, str]:
        """The columns of the fleet's table with their DuckDB types: the TLC's, and those that the load adds."""
        added = {"partition_month": "DATE"} | ({"is_reversed": "BOOLEAN"} if self.has_reversals else {})
        return {column.name: column.type for column in self.columns} | added

    def layout(self, month: str) -> Layout:
        """The layout of `month`'s file.

        Raises:
            MonthError: the TLC published nothing for this fleet before its first month.
        """
        Month(month)
        fitting = [x for x in self.layouts if x.first_month <= month <= (x.last_month or month)]
        if not fitting:
            raise MonthError(
                f"the TLC has no {self.name} file for {month}: this fleet's first month is {self.first_month}"
            )
        return fitting[-1]

    @property
    def required(self) -> tuple[Column, ...]:
        """Columns that every layout of today's names has; the others are null where a file lacks them."""
        layouts = [{name.casefold() for name in x.names} for x in self.layouts if not x.origins]
        return tuple(c for c in self.columns if all(c.published_as.casefold() in names for names in layouts))


def published_names(origin: Origin) -> tuple[str, ...]:
    """The file's columns that an origin is made of."""
    if isinstance(origin, Coordinates):
        return origin.longitude, origin.latitude
    return (origin.published_as if isinstance(origin, Coded) else origin,)
