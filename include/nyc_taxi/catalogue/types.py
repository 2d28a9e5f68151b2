"""The types of the catalogue: fleet, layout, column and origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from include.nyc_taxi.errors import MonthError
from include.nyc_taxi.months import Month

INDEX = "__index_level_0__"
"""A column that pandas adds to a file. It numbers the rows of a table and says nothing about a trip."""


@dataclass(frozen=True)
class Column:
    """A column of one of our trip tables.

    Attributes:
        name: our name, in snake case.
        type: its DuckDB type. The column of every file is cast to it.
        published_as: the TLC's name for it. Its case is ignored, because `airport_fee` once became `Airport_fee`.
    """

    name: str
    type: str
    published_as: str


@dataclass(frozen=True)
class Coded:
    """A published column of texts instead of the IDs in the TLC's data dictionary.

    Attributes:
        codes: the ID for each text, or None if the dictionary has none. The texts are in capitals, without spaces around
            them.
    """

    published_as: str
    codes: Mapping[str, int | str | None]


@dataclass(frozen=True)
class Coordinates:
    """Two published columns with degrees (WGS84) instead of a zone ID."""

    longitude: str
    latitude: str


Origin = str | Coded | Coordinates
"""The source of one of our columns in a file. A string is the name of the file's column, which is cast."""


@dataclass(frozen=True)
class Layout:
    """The columns of a fleet's files over a span of months, in the files' own order.

    Attributes:
        first_month, last_month: the span, both included; a `last_month` of None means "until now".
        columns: (name, DuckDB type) pairs as published.
        origins: the origin of each of our columns, by our name, if the layout's names or codes differ from today's;
            otherwise empty.
    """

    first_month: str
    last_month: str | None
    columns: tuple[tuple[str, str], ...]
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The column names as published."""
        return tuple(name for name, _ in self.columns)

    @property
    def has_zones(self) -> bool:
        """False if trips have coordinates instead of zone IDs."""
        return not any(isinstance(origin, Coordinates) for origin in self.origins.values())


@dataclass(frozen=True)
class Fleet:
    """A kind of vehicle for which the TLC publishes one file per month.

    Attributes:
        layouts: in chronological order. If spans overlap, the layout later in the list is more specific and wins.
        never_empty: our names of the columns that contain at least one value in every published month.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    columns: tuple[Column, ...]
    never_empty: tuple[str, ...] = ("pickup_datetime",)

    @property
    def first_month(self) -> Month:
        """The first month for which the TLC publishes a file."""
        return Month(self.layouts[0].first_month)

    @property
    def table(self) -> str:
        """The name of the fleet's table of trips."""
        return f"{self.name}_trips"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Our names of the TLC's columns, in the table's order."""
        return tuple(column.name for column in self.columns)

    @property
    def has_reversals(self) -> bool:
        """Whether reversed charges can be identified, which takes times and an amount that can be negative."""
        return {"pickup_datetime", "dropoff_datetime", "total_amount"} <= set(self.column_names)

    @property
    def table_columns(self) -> dict[str, str]:
        """The DuckDB types of all columns of the fleet's table, by name: the TLC's columns and those added by a load."""
        added = {"partition_month": "DATE"} | ({"is_reversed": "BOOLEAN"} if self.has_reversals else {})
        return {column.name: column.type for column in self.columns} | added

    def layout(self, month: str) -> Layout:
        """The layout of `month`'s file.

        Raises:
            MonthError: `month` is malformed, or before the fleet's first month.
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
        """The columns that every layout with today's names has. The others are null if a file lacks them."""
        layouts = [{name.casefold() for name in x.names} for x in self.layouts if not x.origins]
        return tuple(c for c in self.columns if all(c.published_as.casefold() in names for names in layouts))


def published_names(origin: Origin) -> tuple[str, ...]:
    """The names of the file's columns that an origin reads."""
    if isinstance(origin, Coordinates):
        return origin.longitude, origin.latitude
    return (origin.published_as if isinstance(origin, Coded) else origin,)
