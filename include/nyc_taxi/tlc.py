"""The catalogue: what the TLC publishes, as data.

Source: the TLC's trip record data dictionaries, and the column names of all files it had published by mid-2024.
Adding a fleet means adding a `Fleet` here: tables, loads, DAGs, maps and the simulator read this catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from include.nyc_taxi.errors import FleetError, LayoutError, MonthError
from include.nyc_taxi.months import first_day

ZONE_LOOKUP_PATH = "/misc/taxi_zone_lookup.csv"
ZONE_SHAPES_PATH = "/misc/taxi_zones.zip"
ZONES = 265
"""Zone ids are 1 to 265; 264 is "Unknown", 265 is "Outside of NYC"."""

CITY_TIME = "America/New_York"
"""What the TLC's times are in. Times that a file marks as UTC are taken at their word, and become the city's."""


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
    def first_month(self) -> str:
        return self.layouts[0].first_month

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
        first_day(month)
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


@dataclass(frozen=True)
class Match:
    """How a file's columns map to ours.

    Attributes:
        columns: one pair for each column of ours: the column, and what of the file it is (None: not in the file), with
            names spelt as in the file.
        unknown: the file's columns that the catalogue does not know; they are left out of the load.
    """

    columns: tuple[tuple[Column, Origin | None], ...]
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
# DDS (Digital Dispatch Systems) was gone before the TLC numbered its vendors.
_VENDORS = {"CMT": 1, "VTS": 2, "DDS": None}
_PAYMENTS = {
    **dict.fromkeys(("CREDIT", "CRE", "CRD"), 1),
    **dict.fromkeys(("CASH", "CAS", "CSH"), 2),
    **dict.fromkeys(("NO CHARGE", "NOC", "NO"), 3),
    **dict.fromkeys(("DISPUTE", "DIS"), 4),
    **dict.fromkeys(("UNKNOWN", "UNK", "NA"), 5),
}
_STORED = {"Y": "Y", "N": "N", "1": "Y", "0": "N", "1.0": "Y", "0.0": "N", "*": None}
_YELLOW_2009_ORIGINS: dict[str, Origin] = {
    "vendor_id": Coded("vendor_name", _VENDORS),
    "pickup_datetime": "Trip_Pickup_DateTime",
    "dropoff_datetime": "Trip_Dropoff_DateTime",
    "passenger_count": "Passenger_Count",
    "trip_distance": "Trip_Distance",
    "rate_code_id": "Rate_Code",
    "store_and_fwd_flag": Coded("store_and_forward", _STORED),
    "pickup_zone_id": Coordinates("Start_Lon", "Start_Lat"),
    "dropoff_zone_id": Coordinates("End_Lon", "End_Lat"),
    "payment_type": Coded("Payment_Type", _PAYMENTS),
    "fare_amount": "Fare_Amt",
    "extra": "surcharge",
    "mta_tax": "mta_tax",
    "tip_amount": "Tip_Amt",
    "tolls_amount": "Tolls_Amt",
    "total_amount": "Total_Amt",
}
_YELLOW_2010 = """vendor_id VARCHAR, pickup_datetime TIMESTAMP, dropoff_datetime TIMESTAMP, passenger_count BIGINT,
    trip_distance DOUBLE, pickup_longitude DOUBLE, pickup_latitude DOUBLE, rate_code BIGINT, store_and_fwd_flag VARCHAR,
    dropoff_longitude DOUBLE, dropoff_latitude DOUBLE, payment_type VARCHAR, fare_amount DOUBLE, surcharge DOUBLE,
    mta_tax DOUBLE, tip_amount DOUBLE, tolls_amount DOUBLE, total_amount DOUBLE"""
_YELLOW_2010_ORIGINS: dict[str, Origin] = {
    "vendor_id": Coded("vendor_id", _VENDORS),
    "pickup_datetime": "pickup_datetime",
    "dropoff_datetime": "dropoff_datetime",
    "passenger_count": "passenger_count",
    "trip_distance": "trip_distance",
    "rate_code_id": "rate_code",
    "store_and_fwd_flag": Coded("store_and_fwd_flag", _STORED),
    "pickup_zone_id": Coordinates("pickup_longitude", "pickup_latitude"),
    "dropoff_zone_id": Coordinates("dropoff_longitude", "dropoff_latitude"),
    "payment_type": Coded("payment_type", _PAYMENTS),
    "fare_amount": "fare_amount",
    "extra": "surcharge",
    "mta_tax": "mta_tax",
    "tip_amount": "tip_amount",
    "tolls_amount": "tolls_amount",
    "total_amount": "total_amount",
}
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
# `SR_Flag` is all null in many months, and then has Parquet's null type.
_FHV = """dispatching_base_num VARCHAR, pickup_datetime TIMESTAMP, dropOff_datetime TIMESTAMP, PUlocationID DOUBLE,
    DOlocationID DOUBLE, SR_Flag INTEGER, Affiliated_base_number VARCHAR"""
_FHVHV = """hvfhs_license_num VARCHAR, dispatching_base_num VARCHAR, originating_base_num VARCHAR,
    request_datetime TIMESTAMP, on_scene_datetime TIMESTAMP, pickup_datetime TIMESTAMP, dropoff_datetime TIMESTAMP,
    PULocationID BIGINT, DOLocationID BIGINT, trip_miles DOUBLE, trip_time BIGINT, base_passenger_fare DOUBLE,
    tolls DOUBLE, bcf DOUBLE, sales_tax DOUBLE, congestion_surcharge DOUBLE, airport_fee DOUBLE, tips DOUBLE,
    driver_pay DOUBLE, shared_request_flag VARCHAR, shared_match_flag VARCHAR, access_a_ride_flag VARCHAR,
    wav_request_flag VARCHAR, wav_match_flag VARCHAR"""
_CONGESTION_PRICING = ", cbd_congestion_fee DOUBLE"  # the toll below 60th Street, from January 2025

_REQUEST_SOURCE = ", request_source VARCHAR"  # the app that sent the passenger, or A; from June 2026
_TAXI_NEVER_EMPTY = (
    "pickup_datetime",
    "dropoff_datetime",
    "pickup_zone_id",
    "dropoff_zone_id",
    "trip_distance",
    "fare_amount",
    "total_amount",
)

_INDEX = "__index_level_0__"  # of the table that a file was made from: nothing of the trip

FLEETS: dict[str, Fleet] = {
    fleet.name: fleet
    for fleet in (
        Fleet(
            name="yellow",
            title="Yellow taxis",
            layouts=(
                Layout("2009-01", "2009-12", _parse(_YELLOW_2009), _YELLOW_2009_ORIGINS),
                Layout("2010-01", "2010-12", _parse(_YELLOW_2010), _YELLOW_2010_ORIGINS),
                # Two months were published with the index of the table they were made from.
                Layout("2010-02", "2010-03", _parse(f"{_YELLOW_2010}, {_INDEX} BIGINT"), _YELLOW_2010_ORIGINS),
                Layout("2011-01", "2023-01", _parse(_YELLOW_2011)),
                Layout("2023-02", "2024-12", _parse(_YELLOW_2023)),
                Layout("2025-01", "2026-05", _parse(_YELLOW_2023 + _CONGESTION_PRICING)),
                Layout("2026-06", None, _parse(_YELLOW_2023 + _CONGESTION_PRICING + _REQUEST_SOURCE)),
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
                cbd_congestion_fee DOUBLE cbd_congestion_fee,
                request_source VARCHAR request_source"""
            ),
            never_empty=_TAXI_NEVER_EMPTY,
        ),
        Fleet(
            name="green",
            title="Green taxis",
            layouts=(
                Layout("2014-01", "2023-01", _parse(_GREEN_2014)),
                Layout("2023-02", "2024-12", _parse(_GREEN_2023)),
                Layout("2025-01", "2026-05", _parse(_GREEN_2023 + _CONGESTION_PRICING)),
                Layout("2026-06", None, _parse(_GREEN_2023 + _CONGESTION_PRICING + _REQUEST_SOURCE)),
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
                cbd_congestion_fee DOUBLE cbd_congestion_fee,
                request_source VARCHAR request_source"""
            ),
            never_empty=_TAXI_NEVER_EMPTY,
        ),
        Fleet(
            name="fhv",
            title="For-hire vehicles",
            layouts=(Layout("2015-01", None, _parse(_FHV)),),
            columns=_columns(
                """dispatching_base_num VARCHAR dispatching_base_num,
                pickup_datetime TIMESTAMP pickup_datetime,
                dropoff_datetime TIMESTAMP dropOff_datetime,
                pickup_zone_id SMALLINT PUlocationID,
                dropoff_zone_id SMALLINT DOlocationID,
                sr_flag INTEGER SR_Flag,
                affiliated_base_number VARCHAR Affiliated_base_number"""
            ),
        ),
        Fleet(
            name="fhvhv",
            title="High-volume for-hire vehicles",
            layouts=(
                Layout("2019-02", "2024-12", _parse(_FHVHV)),
                Layout("2025-01", None, _parse(_FHVHV + _CONGESTION_PRICING)),
            ),
            columns=_columns(
                """hvfhs_license_num VARCHAR hvfhs_license_num,
                dispatching_base_num VARCHAR dispatching_base_num,
                originating_base_num VARCHAR originating_base_num,
                request_datetime TIMESTAMP request_datetime,
                on_scene_datetime TIMESTAMP on_scene_datetime,
                pickup_datetime TIMESTAMP pickup_datetime,
                dropoff_datetime TIMESTAMP dropoff_datetime,
                pickup_zone_id SMALLINT PULocationID,
                dropoff_zone_id SMALLINT DOLocationID,
                trip_distance DOUBLE trip_miles,
                trip_time INTEGER trip_time,
                base_passenger_fare DOUBLE base_passenger_fare,
                tolls DOUBLE tolls,
                bcf DOUBLE bcf,
                sales_tax DOUBLE sales_tax,
                congestion_surcharge DOUBLE congestion_surcharge,
                airport_fee DOUBLE airport_fee,
                tips DOUBLE tips,
                driver_pay DOUBLE driver_pay,
                shared_request_flag VARCHAR shared_request_flag,
                shared_match_flag VARCHAR shared_match_flag,
                access_a_ride_flag VARCHAR access_a_ride_flag,
                wav_request_flag VARCHAR wav_request_flag,
                wav_match_flag VARCHAR wav_match_flag,
                cbd_congestion_fee DOUBLE cbd_congestion_fee"""
            ),
            never_empty=(
                "hvfhs_license_num",
                "pickup_datetime",
                "dropoff_datetime",
                "pickup_zone_id",
                "dropoff_zone_id",
                "trip_distance",
                "base_passenger_fare",
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
        LayoutError: columns that every month of this fleet has are missing; the message names them.
    """
    which = fleet(fleet_name)
    in_file = {name.casefold(): name for name in published}
    origins = _translated(which, in_file) or _as_today(which, in_file, published, source)
    used = {name for origin in origins.values() for name in published_names(origin)}
    return Match(
        columns=tuple((column, origins.get(column.name)) for column in which.columns),
        unknown=tuple(name for name in published if name not in used and name != _INDEX),
    )


def published_names(origin: Origin) -> tuple[str, ...]:
    """The file's columns that an origin is made of."""
    if isinstance(origin, Coordinates):
        return origin.longitude, origin.latitude
    return (origin.published_as if isinstance(origin, Coded) else origin,)


def _translated(which: Fleet, in_file: Mapping[str, str]) -> dict[str, Origin]:
    """What of a file becomes which column of ours, by our name, if it is of a layout with other names or codes than today's.

    Args:
        in_file: the file's names, each by itself casefolded.
    """
    for layout in which.layouts:
        names = {name.casefold() for origin in layout.origins.values() for name in published_names(origin)}
        if names and names <= in_file.keys():
            return {ours: _spelt(origin, in_file) for ours, origin in layout.origins.items()}
    return {}


def _as_today(which: Fleet, in_file: Mapping[str, str], published: Sequence[str], source: str) -> dict[str, Origin]:
    """The same, for a file of today's names."""
    if missing := [c.published_as for c in which.required if c.published_as.casefold() not in in_file]:
        raise LayoutError(
            f"{source}: required columns are missing: {', '.join(missing)}; found {', '.join(published) or 'no columns'}. "
            "If the TLC has renamed them, add the new layout to include/nyc_taxi/tlc.py"
        )
    found = ((column.name, in_file.get(column.published_as.casefold())) for column in which.columns)
    return {ours: name for ours, name in found if name}


def _spelt(origin: Origin, in_file: Mapping[str, str]) -> Origin:
    """The origin with its columns' names as the file spells them."""
    names = [in_file[name.casefold()] for name in published_names(origin)]
    if isinstance(origin, Coordinates):
        return Coordinates(*names)
    return Coded(names[0], origin.codes) if isinstance(origin, Coded) else names[0]
