"""The catalogue: what the TLC publishes, as data.

Source: the TLC's trip record data dictionaries, and the column names of all files it had published by mid-2024.
Adding a fleet means adding a `Fleet` here: tables, loads, DAGs, maps and the simulator read this catalogue.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from include.nyc_taxi.errors import FleetError, LayoutError, MonthError, UnsupportedLayoutError
from include.nyc_taxi.months import first_day

ZONE_LOOKUP_PATH = "/misc/taxi_zone_lookup.csv"
ZONE_SHAPES_PATH = "/misc/taxi_zones.zip"
ZONES = 265
"""Zone ids are 1 to 265; 264 is "Unknown", 265 is "Outside of NYC"."""


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
class Layout:
    """The columns of a fleet's files over a span of months, in the files' own order.

    Attributes:
        first_month, last_month: the span, both included; None is "until now".
        columns: (name, DuckDB type) pairs as published.
        has_zones: False where trips have coordinates in place of zone ids.
    """

    first_month: str
    last_month: str | None
    columns: tuple[tuple[str, str], ...]
    has_zones: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)


@dataclass(frozen=True)
class Fleet:
    """A kind of taxi for which the TLC publishes one file a month.

    `layouts` are in order of time; where spans overlap, the later in the list is the more special one and wins.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    columns: tuple[Column, ...]

    @property
    def first_month(self) -> str:
        return self.layouts[0].first_month

    @property
    def table(self) -> str:
        return f"{self.name}_trips"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Our column names, in the table's order, without `partition_month`."""
        return tuple(column.name for column in self.columns)

    def layout(self, month: str) -> Layout:
        """The layout of `month`'s file.

        Raises:
            MonthError: the TLC published nothing for this fleet before its first month.
        """
        first_day(month)
        fitting = [x for x in self.layouts if x.first_month <= month <= (x.last_month or month)]
        if not fitting:
            raise MonthError(
                f"the TLC has no {self.name} file for {month}: this fleet's first month is {self.first_month}"
            )
        return fitting[-1]

    @property
    def required(self) -> tuple[Column, ...]:
        """Columns that every layout with zone ids has; the others are null where a file lacks them."""
        layouts = [{name.casefold() for name in x.names} for x in self.layouts if x.has_zones]
        return tuple(c for c in self.columns if all(c.published_as.casefold() in names for names in layouts))


@dataclass(frozen=True)
class Match:
    """How a file's columns map to ours.

    Attributes:
        columns: one pair for each column of ours: the column, and the file's name for it (None: not in the file).
        unknown: the file's columns that the catalogue does not know; they are left out of the load.
    """

    columns: tuple[tuple[Column, str | None], ...]
    unknown: tuple[str, ...]


def _parse(text: str) -> tuple[tuple[str, str], ...]:
    """Column lists below are written "name TYPE, name TYPE", as in SQL."""
    pairs = (item.split() for item in text.split(","))
    return tuple((name, kind) for name, kind in pairs)


def _columns(text: str) -> tuple[Column, ...]:
    """Our columns, written "our_name TYPE published_name"."""
    triples = (item.split() for item in text.split(","))
    return tuple(Column(name, kind, published) for name, kind, published in triples)


_YELLOW_2009 = """vendor_name VARCHAR, Trip_Pickup_DateTime VARCHAR, Trip_Dropoff_DateTime VARCHAR, Passenger_Count BIGINT,
    Trip_Distance DOUBLE, Start_Lon DOUBLE, Start_Lat DOUBLE, Rate_Code DOUBLE, store_and_forward DOUBLE, End_Lon DOUBLE,
    End_Lat DOUBLE, Payment_Type VARCHAR, Fare_Amt DOUBLE, surcharge DOUBLE, mta_tax DOUBLE, Tip_Amt DOUBLE,
    Tolls_Amt DOUBLE, Total_Amt DOUBLE"""
_YELLOW_2010 = """vendor_id VARCHAR, pickup_datetime TIMESTAMP, dropoff_datetime TIMESTAMP, passenger_count BIGINT,
    trip_distance DOUBLE, pickup_longitude DOUBLE, pickup_latitude DOUBLE, rate_code BIGINT, store_and_fwd_flag VARCHAR,
    dropoff_longitude DOUBLE, dropoff_latitude DOUBLE, payment_type VARCHAR, fare_amount DOUBLE, surcharge DOUBLE,
    mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE, total_amount DOUBLE"""
_YELLOW_2011 = """VendorID BIGINT, tpep_pickup_datetime TIMESTAMP, tpep_dropoff_datetime TIMESTAMP, passenger_count DOUBLE,
    trip_distance DOUBLE, RatecodeID DOUBLE, store_and_fwd_flag VARCHAR, PULocationID BIGINT, DOLocationID BIGINT,
    payment_type BIGINT, fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE,
    improvement_surcharge DOUBLE, total_amount DOUBLE, congestion_surcharge DOUBLE, airport_fee DOUBLE"""
_YELLOW_2023 = """VendorID INTEGER, tpep_pickup_datetime TIMESTAMP, tpep_dropoff_datetime TIMESTAMP, passenger_count BIGINT,
    trip_distance DOUBLE, RatecodeID BIGINT, store_and_fwd_flag VARCHAR, PULocationID INTEGER, DOLocationID INTEGER,
    payment_type BIGINT, fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE,
    improvement_surcharge DOUBLE, total_amount DOUBLE, congestion_surcharge DOUBLE, Airport_fee DOUBLE"""
# Until 2023-01 `ehail_fee` was all null and had Parquet's null type, which DuckDB writes and reads as INTEGER.
_GREEN_2014 = """VendorID BIGINT, lpep_pickup_datetime TIMESTAMP, lpep_dropoff_datetime TIMESTAMP, store_and_fwd_flag VARCHAR,
    RatecodeID DOUBLE, PULocationID BIGINT, DOLocationID BIGINT, passenger_count DOUBLE, trip_distance DOUBLE,
    fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE, ehail_fee INTEGER,
    improvement_surcharge DOUBLE, total_amount DOUBLE, payment_type DOUBLE, trip_type DOUBLE,
    congestion_surcharge DOUBLE"""
_GREEN_2023 = """VendorID INTEGER, lpep_pickup_datetime TIMESTAMP, lpep_dropoff_datetime TIMESTAMP,
    store_and_fwd_flag VARCHAR, RatecodeID BIGINT, PULocationID INTEGER, DOLocationID INTEGER, passenger_count BIGINT,
    trip_distance DOUBLE, fare_amount DOUBLE, extra DOUBLE, mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE,
    ehail_fee DOUBLE, improvement_surcharge DOUBLE, total_amount DOUBLE, payment_type BIGINT, trip_type BIGINT,
    congestion_surcharge DOUBLE"""
_CONGESTION_PRICING = ", cbd_congestion_fee DOUBLE"  # the toll below 60th Street, from January 2025

FLEETS: dict[str, Fleet] = {
    fleet.name: fleet
    for fleet in (
        Fleet(
            name="yellow",
            title="Yellow taxis",
            layouts=(
                Layout("2009-01", "2009-12", _parse(_YELLOW_2009), has_zones=False),
                Layout("2010-01", "2010-12", _parse(_YELLOW_2010), has_zones=False),
                # Two months were published with the index of the table they were made from.
                Layout("2010-02", "2010-03", _parse(_YELLOW_2010 + ", __index_level_0__ BIGINT"), has_zones=False),
                Layout("2011-01", "2023-01", _parse(_YELLOW_2011)),
                Layout("2023-02", "2024-12", _parse(_YELLOW_2023)),
                Layout("2025-01", None, _parse(_YELLOW_2023 + _CONGESTION_PRICING)),
            ),
            columns=_columns(
                """vendor_id INTEGER VendorID,
                pickup_datetime TIMESTAMP tpep_pickup_datetime,
                dropoff_datetime TIMESTAMP tpep_dropoff_datetime,
                passenger_count INTEGER passenger_count,
                trip_distance DOUBLE trip_distance,
                rate_code_id INTEGER RatecodeID,
                store_and_fwd_flag VARCHAR store_and_fwd_flag,
                pickup_zone_id SMALLINT PULocationID,
                dropoff_zone_id SMALLINT DOLocationID,
                payment_type INTEGER payment_type,
                fare_amount DOUBLE fare_amount,
                extra DOUBLE extra,
                mta_tax DOUBLE mta_tax,
                tip_amount DOUBLE tip_amount,
                tolls_amount DOUBLE tolls_amount,
                improvement_surcharge DOUBLE improvement_surcharge,
                total_amount DOUBLE total_amount,
                congestion_surcharge DOUBLE congestion_surcharge,
                airport_fee DOUBLE airport_fee,
                cbd_congestion_fee DOUBLE cbd_congestion_fee"""
            ),
        ),
        Fleet(
            name="green",
            title="Green taxis",
            layouts=(
                Layout("2014-01", "2023-01", _parse(_GREEN_2014)),
                Layout("2023-02", "2024-12", _parse(_GREEN_2023)),
                Layout("2025-01", None, _parse(_GREEN_2023 + _CONGESTION_PRICING)),
            ),
            columns=_columns(
                """vendor_id INTEGER VendorID,
                pickup_datetime TIMESTAMP lpep_pickup_datetime,
                dropoff_datetime TIMESTAMP lpep_dropoff_datetime,
                store_and_fwd_flag VARCHAR store_and_fwd_flag,
                rate_code_id INTEGER RatecodeID,
                pickup_zone_id SMALLINT PULocationID,
                dropoff_zone_id SMALLINT DOLocationID,
                passenger_count INTEGER passenger_count,
                trip_distance DOUBLE trip_distance,
                fare_amount DOUBLE fare_amount,
                extra DOUBLE extra,
                mta_tax DOUBLE mta_tax,
                tip_amount DOUBLE tip_amount,
                tolls_amount DOUBLE tolls_amount,
                ehail_fee DOUBLE ehail_fee,
                improvement_surcharge DOUBLE improvement_surcharge,
                total_amount DOUBLE total_amount,
                payment_type INTEGER payment_type,
                trip_type INTEGER trip_type,
                congestion_surcharge DOUBLE congestion_surcharge,
                cbd_congestion_fee DOUBLE cbd_congestion_fee"""
            ),
        ),
    )
}

COMMON_COLUMNS: tuple[tuple[str, str], ...] = (
    ("vendor_id", "INTEGER"),
    ("pickup_zone_id", "SMALLINT"),
    ("dropoff_zone_id", "SMALLINT"),
    ("rate_code_id", "INTEGER"),
    ("payment_type", "INTEGER"),
    ("pickup_datetime", "TIMESTAMP"),
    ("dropoff_datetime", "TIMESTAMP"),
    ("trip_distance", "DOUBLE"),
    ("passenger_count", "INTEGER"),
    ("total_amount", "DOUBLE"),
)
"""What the view `trips` shows of every fleet, after `fleet` and `partition_month`; null where a fleet lacks one."""


def fleet(name: str) -> Fleet:
    """The fleet of that name.

    Raises:
        FleetError: no such fleet; the message lists those there are.
    """
    if name not in FLEETS:
        raise FleetError(f"no fleet {name!r} in the catalogue: expected one of {', '.join(FLEETS)}")
    return FLEETS[name]


def file_name(fleet_name: str, month: str) -> str:
    """Name of a month's file, here and on the TLC's site.

    Raises:
        FleetError: no such fleet.
        MonthError: `month` is malformed, or before the fleet's first month.
    """
    fleet(fleet_name).layout(month)
    return f"{fleet_name}_tripdata_{month}.parquet"


def file_path(fleet_name: str, month: str) -> str:
    """Path of a month's file on the TLC's site, with a leading slash. Raises as `file_name` does."""
    return f"/trip-data/{file_name(fleet_name, month)}"


def match_columns(fleet_name: str, published: Sequence[str], source: str) -> Match:
    """Map a file's columns to ours.

    Args:
        published: the file's column names.
        source: the file's name, for messages.

    Raises:
        UnsupportedLayoutError: the file has coordinates in place of zone ids (yellow 2009 and 2010).
        LayoutError: columns that every month of this fleet has are missing; the message names them.
    """
    which = fleet(fleet_name)
    in_file = {name.casefold(): name for name in published}
    missing = [c.published_as for c in which.required if c.published_as.casefold() not in in_file]
    if missing:
        for layout in which.layouts:
            if not layout.has_zones and set(map(str.casefold, layout.names)) <= set(in_file):
                raise UnsupportedLayoutError(
                    f"{source}: {which.name} trips of 2009 and 2010 have coordinates in place of zone ids, "
                    "which this version cannot load; begin with 2011-01"
                )
        raise LayoutError(
            f"{source}: required columns are missing: {', '.join(missing)}; found {_listed(published)}. "
            "If the TLC has renamed them, add the new layout to include/nyc_taxi/tlc.py"
        )
    known = {c.published_as.casefold() for c in which.columns}
    return Match(
        columns=tuple((c, in_file.get(c.published_as.casefold())) for c in which.columns),
        unknown=tuple(name for name in published if name.casefold() not in known),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no columns"
